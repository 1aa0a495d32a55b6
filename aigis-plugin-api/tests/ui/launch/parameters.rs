use aigis_plugin_api::launch;

#[launch]
fn launch(port: u16) {}
// #[launch] makes fn main
