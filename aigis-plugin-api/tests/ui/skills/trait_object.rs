use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook() -> Box<dyn Fn()> {
        todo!()
    }
}

fn main() {}
