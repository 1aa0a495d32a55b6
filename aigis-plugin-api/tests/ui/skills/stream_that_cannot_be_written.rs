use aigis_plugin_api::skills;

#[skills]
pub mod numbers {
    #[allow(unused_imports)]
    use aigis_plugin_api::Stream;

    pub fn threads() -> impl Iterator<Item = std::thread::ThreadId> { [].into_iter() }
}

fn main() {}
