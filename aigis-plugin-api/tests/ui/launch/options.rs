use aigis_plugin_api::launch;

#[launch(blocking)]
fn launch() {}
// #[launch] makes fn main
