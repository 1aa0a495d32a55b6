//! Is called: numbers, text, and a struct that has no direct form.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use aigis_plugin_api::serde::{Deserialize, Serialize};
use aigis_plugin_api::skills;

/// What others can call.
#[skills]
pub mod callee {
    use super::*;

    /// Adds.
    pub fn add(a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }

    /// Greets `name`.
    pub fn greet(name: &str) -> String {
        let mut text = String::with_capacity("Hello, !".len() + name.len());
        text.push_str("Hello, ");
        text.push_str(name);
        text.push('!');
        text
    }

    /// Gives a record back, counted.
    pub fn count(record: Record) -> Record {
        Record {
            count: record.count.wrapping_add(1),
            ..record
        }
    }
}

/// Ten fields of many kinds. Not a `#[skill_type]`: it always travels encoded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
pub struct Record {
    id: u64,
    count: u32,
    offset: i64,
    ratio: f64,
    active: bool,
    name: String,
    title: Option<String>,
    parent: Option<u64>,
    scores: Vec<u32>,
    tags: Vec<String>,
}
