use aigis_plugin_api::skills;

#[skills]
pub mod numbers {
    #[allow(unused_imports)]
    use aigis_plugin_api::Stream;

    pub fn numbers() -> Stream<Stream<u64>> { Stream::of([]) }
}

fn main() {}
