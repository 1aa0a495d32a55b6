use aigis_plugin_api::launch;

#[launch]
fn launch<T>() {}
// #[launch] makes fn main
