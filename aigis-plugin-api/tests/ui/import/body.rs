use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook(dish: &str) -> String {
            dish.to_owned()
        }
    }
}

fn main() {}
