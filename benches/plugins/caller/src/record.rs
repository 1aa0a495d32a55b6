//! The record that the plugin `callee` takes and gives, as this plugin knows it.

use aigis_plugin_api::serde::{Deserialize, Serialize};

/// Ten fields of many kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
pub struct Record {
    pub(crate) id: u64,
    pub(crate) count: u32,
    pub(crate) offset: i64,
    pub(crate) ratio: f64,
    pub(crate) active: bool,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) parent: Option<u64>,
    pub(crate) scores: Vec<u32>,
    pub(crate) tags: Vec<String>,
}

/// Makes one.
pub(crate) fn sample() -> Record {
    Record {
        id: 81_985_529_216_486_895,
        count: 7,
        offset: -1_234_567,
        ratio: 0.618_033_988,
        active: true,
        name: "world-of-plugins".to_owned(),
        title: Some("a record with ten fields".to_owned()),
        parent: None,
        scores: vec![1, 20, 300, 4_000, 50_000, 600_000, 7_000_000, 80_000_000],
        tags: vec!["first".to_owned(), "second".to_owned()],
    }
}

/// Does what the skill does.
pub(crate) fn counted(record: Record) -> Record {
    Record {
        count: record.count.wrapping_add(1),
        ..record
    }
}
