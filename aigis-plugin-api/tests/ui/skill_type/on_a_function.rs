use aigis_plugin_api::skill_type;

#[skill_type]
pub fn cook() {}

fn main() {}
