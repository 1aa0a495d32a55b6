use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook<T>(_dish: T) {}
}

fn main() {}
