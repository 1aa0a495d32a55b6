use aigis_plugin_api::skills;

pub struct Burnt;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn restore(_saved: u8) -> Result<Self, Burnt> {
        Err(Burnt)
    }
}

fn main() {}
