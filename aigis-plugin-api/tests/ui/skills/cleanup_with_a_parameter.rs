use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cleanup(_thoroughly: bool) {}
}

fn main() {}
