use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub async fn new() -> Self {
        Self
    }
}

fn main() {}
