use aigis_plugin_api::skills;

#[skills]
impl (u8, u8) {
    pub fn new() -> Self {
        (0, 0)
    }
}

fn main() {}
