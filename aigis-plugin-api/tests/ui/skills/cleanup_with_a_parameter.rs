use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cleanup(thoroughly: bool) {}
}

fn main() {}
