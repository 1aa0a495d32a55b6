use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub unsafe fn cook() {}
}

fn main() {}
