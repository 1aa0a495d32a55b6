use aigis_plugin_api::import;

import! {
    mod kitchen {
        #[skill(idempotent)]
        fn cook();
    }
}

fn main() {}
