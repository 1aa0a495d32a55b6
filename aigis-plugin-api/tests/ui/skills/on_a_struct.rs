use aigis_plugin_api::skills;

#[skills]
pub struct Kitchen;

fn main() {}
