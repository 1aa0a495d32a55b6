use aigis_plugin_api::import;

import! {
    fn cook()
    fn serve();
}

fn main() {}
