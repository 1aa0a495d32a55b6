use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook() -> impl ToString {
        1
    }
}

fn main() {}
