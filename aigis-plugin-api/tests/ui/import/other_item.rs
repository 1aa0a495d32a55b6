use aigis_plugin_api::import;

import! {
    mod kitchen {
        struct Dish;
    }
}

fn main() {}
