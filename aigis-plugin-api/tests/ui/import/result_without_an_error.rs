use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook() -> std::io::Result<String>;
    }
}

fn main() {}
