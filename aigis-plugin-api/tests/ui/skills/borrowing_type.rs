use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    use std::borrow::Cow;

    pub fn cook(_dish: Cow<'_, str>) {}
}

fn main() {}
