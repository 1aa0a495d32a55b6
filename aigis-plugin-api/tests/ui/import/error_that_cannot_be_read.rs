use aigis_plugin_api::import;

pub struct Burnt;

import! {
    mod kitchen {
        fn cook() -> Result<String, Burnt>;
    }
}

fn main() {}
