use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook<T>(dish: T) {}
}

fn main() {}
