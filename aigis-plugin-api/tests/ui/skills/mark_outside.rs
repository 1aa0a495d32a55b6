use aigis_plugin_api::skill;

#[skill(rename = "cook_well")]
pub fn cook() {}

fn main() {}
