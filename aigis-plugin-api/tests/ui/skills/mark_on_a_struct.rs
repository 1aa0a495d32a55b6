use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    use aigis_plugin_api::skill;

    #[skill(skip)]
    pub struct Dish;
}

fn main() {}
