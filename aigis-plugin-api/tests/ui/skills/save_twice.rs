use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    #[cfg(any())]
    pub fn save(&self) -> u8 {
        1
    }

    #[cfg(not(any()))]
    pub fn save(&self) -> u8 {
        2
    }

    pub fn restore(_saved: u8) -> Self {
        Self
    }
}

fn main() {}
