use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub struct Burnt;

    pub fn cook() -> Result<(), Burnt> {
        Err(Burnt)
    }
}

fn main() {}
