use aigis_plugin_api::import;

import! {
    mod numbers {
        fn count() -> impl Iterator<Item = u64>;
    }
}

fn main() {}
