use aigis_plugin_api::skills;

pub struct Burnt;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Result<Self, Burnt> {
        Err(Burnt)
    }
}

fn main() {}
