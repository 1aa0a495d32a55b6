aigis_plugin_api::import! {
    mod clock {
        #[portable]
        async fn tick() -> u64;
    }
}

fn main() {}
