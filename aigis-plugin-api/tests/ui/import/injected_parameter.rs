use aigis_plugin_api::import;

use aigis_plugin_api::Context;

import! {
    mod kitchen {
        fn cook(ctx: &Context, dish: &str);
    }
}

fn main() {}
