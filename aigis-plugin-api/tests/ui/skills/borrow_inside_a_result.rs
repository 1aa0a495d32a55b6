use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook(dish: &str) -> Option<&str> {
        Some(dish)
    }
}

fn main() {}
