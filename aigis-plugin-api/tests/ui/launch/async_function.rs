use aigis_plugin_api::launch;

#[launch]
async fn launch() {}
// #[launch] makes fn main
