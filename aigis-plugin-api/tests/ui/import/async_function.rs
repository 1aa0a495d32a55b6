use aigis_plugin_api::import;

import! {
    mod kitchen {
        async fn cook();
    }
}

fn main() {}
