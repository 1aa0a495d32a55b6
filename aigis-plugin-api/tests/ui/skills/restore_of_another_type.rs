use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn restore(_saved: u8) -> u8 {
        1
    }
}

fn main() {}
