use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub fn cook(dish: impl ToString) {}
}

fn main() {}
