use aigis_plugin_api::import;

import! {
    mod kitchen {
        fn cook(dish: &mut String);

        fn serve(&self);
    }
}

fn main() {}
