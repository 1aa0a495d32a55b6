use aigis_plugin_api::skills;

pub struct Kitchen;

#[skills]
impl Kitchen {
    pub fn new() -> Self {
        Self
    }

    pub fn save<T: Default>(&self) -> T {
        T::default()
    }

    pub fn restore<T>(_saved: T) -> Self {
        Self
    }
}

fn main() {}
