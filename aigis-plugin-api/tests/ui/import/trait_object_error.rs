use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook() -> Result<String, Box<dyn std::error::Error>>;
    }
}

fn main() {}
