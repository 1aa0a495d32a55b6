use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new(&self) -> Self {
        Self
    }
}

fn main() {}
