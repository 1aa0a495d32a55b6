use aigis_plugin_api::skill_type;

#[skill_type]
pub struct Dish<T>(T);

fn main() {}
