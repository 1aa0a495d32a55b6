use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook(&self, dish: &str);
    }
}

fn main() {}
