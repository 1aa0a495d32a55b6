use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    use std::path::Path;

    pub fn cook(recipe: &Path) {}
}

fn main() {}
