use aigis_plugin_api::launch;

#[launch]
fn begin() {}
// #[launch] makes fn main
