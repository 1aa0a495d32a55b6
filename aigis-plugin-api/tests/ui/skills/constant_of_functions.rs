use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub const COOKS: &[fn()] = &[];
}

fn main() {}
