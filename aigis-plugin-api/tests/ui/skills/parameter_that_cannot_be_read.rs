use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub struct Dish;

    pub fn cook(_dish: Dish) {}
}

fn main() {}
