use aigis_plugin_api::skills;

#[skills]
pub mod kitchen {
    pub unsafe fn cook(_dish: &mut String) {}

    pub fn serve(table: Vec<&str>) -> &str {
        table[0]
    }
}

fn main() {}
