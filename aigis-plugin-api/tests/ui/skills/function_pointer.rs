use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook(next: fn()) {}
}

fn main() {}
