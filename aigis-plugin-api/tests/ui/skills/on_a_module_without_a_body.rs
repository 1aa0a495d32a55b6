use aigis_plugin_api::skills;

#[skills]
pub mod kitchen;

fn main() {}
