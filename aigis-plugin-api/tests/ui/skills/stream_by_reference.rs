use aigis_plugin_api::skills;

#[skills]
pub mod numbers {
    #[allow(unused_imports)]
    use aigis_plugin_api::Stream;

    pub fn sum(_items: &Stream<u64>) {}
}

fn main() {}
