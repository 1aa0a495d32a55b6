use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn main() {}
