use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    use std::path::Path;

    pub fn cook(_recipe: &Path) {}
}

fn main() {}
