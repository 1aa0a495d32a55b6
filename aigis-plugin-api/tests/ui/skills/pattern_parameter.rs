use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook((_dish, _count): (String, u8)) {}
}

fn main() {}
