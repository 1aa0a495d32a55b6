use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn save(self) -> u8 {
        1
    }

    pub fn restore(_saved: u8) -> Self {
        Self
    }
}

fn main() {}
