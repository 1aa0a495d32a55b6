use aigis_plugin_api::skill_type;

#[skill_type(name = "dish")]
pub struct Dish;

fn main() {}
