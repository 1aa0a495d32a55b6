use aigis_plugin_api::skills;

#[skills]
pub mod clock {
    #[skill(portable)]
    pub async fn tick() -> u64 {
        1
    }
}

fn main() {}
