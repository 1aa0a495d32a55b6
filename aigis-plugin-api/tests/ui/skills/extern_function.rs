use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub extern "C" fn cook() {}
}

fn main() {}
