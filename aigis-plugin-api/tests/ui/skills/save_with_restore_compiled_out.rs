use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    #[cfg(not(any()))]
    pub fn save(&self) -> u8 {
        1
    }

    #[cfg(any())]
    pub fn restore(_saved: u8) -> Self {
        Self
    }
}

fn main() {}
