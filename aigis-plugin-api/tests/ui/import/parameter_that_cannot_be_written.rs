use aigis_plugin_api::import;

pub struct Dish;

import! {
    mod kitchen {
        fn cook(dish: Dish);
    }
}

fn main() {}
