use aigis_plugin_api::skills;

#[skills]
pub mod outer {
    #[skill(portable)]
    pub mod inner {
        pub fn run() {}
    }
}

fn main() {}
