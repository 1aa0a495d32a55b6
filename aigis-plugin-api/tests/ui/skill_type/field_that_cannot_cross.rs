use aigis_plugin_api::skill_type;

pub struct Recipe;

#[skill_type]
pub struct Dish {
    recipe: Recipe,
}

fn main() {}
