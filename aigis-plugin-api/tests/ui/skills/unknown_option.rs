use aigis_plugin_api::skills;

#[skills(name = "kitchen")]
pub mod kitchen {
    #[aigis_plugin_api::skill(skip)]
    pub fn cook() {}
}

fn main() {}
