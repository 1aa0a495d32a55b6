use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook(ctx: &Context, dish: &str);
    }
}

fn main() {}
