use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn restore(_saved: &str) -> Self {
        Self
    }
}

fn main() {}
