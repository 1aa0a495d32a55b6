use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook() -> &'static str;
    }
}

fn main() {}
