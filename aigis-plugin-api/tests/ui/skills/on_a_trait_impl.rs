use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Default for Kitchen {
    fn default() -> Self {
        Self
    }
}

fn main() {}
