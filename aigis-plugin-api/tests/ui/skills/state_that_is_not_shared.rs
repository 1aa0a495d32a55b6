use aigis_plugin_api::skills;

pub struct Kitchen(std::cell::Cell<u32>);

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self(Default::default())
    }
}

fn main() {}
