//! Tests of the log files.

mod backups;
mod files;
mod formats;
mod lines;
mod readers;
mod spans;

use std::fs;
use std::path::Path;

use jiff::Timestamp;

/// A time on 2026-11-21 (`day` 0) or later, in UTC.
fn at(day: i64, clock: &str) -> Timestamp {
    let first: Timestamp = format!("2026-11-21T{clock}Z").parse().expect("a time");
    first + jiff::SignedDuration::from_hours(24 * day)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("the file is there and is text")
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}
