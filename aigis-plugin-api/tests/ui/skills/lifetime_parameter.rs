use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook<'a>(dish: &'a str) -> String {
        dish.to_owned()
    }
}

fn main() {}
