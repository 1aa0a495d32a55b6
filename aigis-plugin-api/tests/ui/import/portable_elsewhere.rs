aigis_plugin_api::import! {
    #[portable]
    mod clock {
        #[skill(portable)]
        fn tick() -> u64;
        #[portable(always)]
        fn tock() -> u64;
    }
}

fn main() {}
