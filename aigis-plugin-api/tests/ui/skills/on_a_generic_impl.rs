use aigis_plugin_api::skills;

pub struct Kitchen<T>(T);

#[skills]
impl<T> Kitchen<T> {
    pub fn new() -> Self {
        todo!()
    }
}

fn main() {}
