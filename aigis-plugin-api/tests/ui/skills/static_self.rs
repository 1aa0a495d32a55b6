use aigis_plugin_api::skills;

struct Shared;

#[skills]
impl Shared {
    pub fn new() -> Self {
        Self
    }

    pub fn watch(&'static self) {}
}

fn main() {}
