use aigis_plugin_api::skills;

#[skills]
pub fn cook() {}

fn main() {}
