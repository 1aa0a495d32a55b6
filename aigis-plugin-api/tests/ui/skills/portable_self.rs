use aigis_plugin_api::skills;

struct Counter;

#[skills]
impl Counter {
    pub fn new() -> Self {
        Self
    }

    #[skill(portable)]
    pub fn next(&self) -> u64 {
        1
    }

    #[skill(portable)]
    pub fn add(a: u64, b: u64) -> u64 {
        a + b
    }

    #[skill(portable)]
    pub const STEP: u64 = 1;
}

fn main() {}
