use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub async fn cook() {}

    pub async fn cleanup() {}
}

fn main() {}
