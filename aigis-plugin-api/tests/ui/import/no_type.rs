use aigis_plugin_api::import;

import! {
    mod kitchen {
        const TABLES;
    }
}

fn main() {}
