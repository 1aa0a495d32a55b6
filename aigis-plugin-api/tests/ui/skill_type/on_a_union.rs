use aigis_plugin_api::skill_type;

#[skill_type]
pub union Dish {
    weight: u32,
    count: u32,
}

fn main() {}
