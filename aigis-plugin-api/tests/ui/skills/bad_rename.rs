use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    #[skill(rename = "cook well")]
    pub fn cook() {}
}

fn main() {}
