use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub async fn cook(dish: &str) -> &str {
        dish
    }
}

fn main() {}
