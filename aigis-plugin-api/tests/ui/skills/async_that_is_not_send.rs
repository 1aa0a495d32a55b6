use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub async fn cook() -> usize {
        let dish = std::rc::Rc::new(3);
        std::future::ready(()).await;
        *dish
    }
}

fn main() {}
