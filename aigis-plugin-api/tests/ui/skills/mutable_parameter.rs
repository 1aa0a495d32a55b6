use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook(_dishes: &mut Vec<String>) {}
}

fn main() {}
