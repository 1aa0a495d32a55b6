use aigis_plugin_api::import;

import! {
    mod kitchen {
        const TABLES: u32 = 7;
    }
}

fn main() {}
