use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new(_size: u32) -> Self {
        Self
    }
}

fn main() {}
