use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn restore(&self, _saved: u8) -> Self {
        Self
    }
}

fn main() {}
