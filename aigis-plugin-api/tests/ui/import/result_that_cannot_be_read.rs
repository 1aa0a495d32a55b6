use aigis_plugin_api::import;

pub struct Dish;

import! {
    mod kitchen {
        fn cook() -> Dish;
    }
}

fn main() {}
