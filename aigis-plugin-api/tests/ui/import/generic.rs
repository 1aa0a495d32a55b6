use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook<T>(dish: T);
    }
}

fn main() {}
