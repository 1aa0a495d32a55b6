use aigis_plugin_api::launch;

#[launch]
struct Daemon;

fn main() {}
