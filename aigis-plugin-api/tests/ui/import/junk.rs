use aigis_plugin_api::import;

import! { kitchen.cook }

fn main() {}
