use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub mod cellar {
        pub fn cleanup() {}
    }
}

fn main() {}
