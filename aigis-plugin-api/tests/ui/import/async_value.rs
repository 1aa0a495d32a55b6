use aigis_plugin_api::import;

import! {
    mod kitchen {
        async const HEAT: u8;
    }
}

fn main() {}
