use aigis_plugin_api::import;

import! {
    mod kitchen {
        const MENU: &str;
    }
}

fn main() {}
