use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook(_dish: &'static str) {}
}

fn main() {}
