use aigis_plugin_api::launch;

#[launch]
fn launch(_port: u16) {}
// #[launch] makes fn main
