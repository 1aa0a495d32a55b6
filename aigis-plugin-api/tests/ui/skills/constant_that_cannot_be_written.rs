use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub struct Dish;

    pub const DISH: Dish = Dish;
}

fn main() {}
