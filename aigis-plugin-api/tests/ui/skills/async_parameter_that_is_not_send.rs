use aigis_plugin_api::skills;

#[derive(serde::Deserialize)]
pub struct Dish(std::cell::Cell<u8>, std::marker::PhantomData<*const u8>);

#[skills]
pub mod kitchen {
    pub async fn cook(dish: super::Dish) {
        drop(dish);
    }
}

fn main() {}
