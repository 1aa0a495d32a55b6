#![deny(unused_must_use)]

use aigis_plugin_api::import;

import! {
    mod kitchen {
        async fn cook(dish: &str);
    }
}

fn main() {
    kitchen::cook("soup");
}
