use aigis_plugin_api::launch;

#[launch]
fn launch() -> String {
    String::new()
}
// #[launch] makes fn main
