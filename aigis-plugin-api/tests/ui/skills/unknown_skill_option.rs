use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    #[skill(hidden)]
    pub fn cook() {}
}

fn main() {}
