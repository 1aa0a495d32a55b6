use aigis_plugin_api::skills;

#[skills(namespace = "big kitchen")]
pub mod kitchen {}

fn main() {}
