use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn restore(_pans: u8, _pots: u8) -> Self {
        Self
    }
}

fn main() {}
