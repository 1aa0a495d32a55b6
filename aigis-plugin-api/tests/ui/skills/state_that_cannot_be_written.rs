use aigis_plugin_api::skills;

pub struct Pans;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn save(&self) -> Vec<Pans> {
        Vec::new()
    }

    pub fn restore(_saved: u8) -> Self {
        Self
    }
}

fn main() {}
