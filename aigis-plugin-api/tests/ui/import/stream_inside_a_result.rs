use aigis_plugin_api::import;

import! {
    mod numbers {
        fn count() -> Option<Stream<u64>>;
        const ALL: Stream<u64>;
    }
}

fn main() {}
