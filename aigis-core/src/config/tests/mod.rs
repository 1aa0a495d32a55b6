//! Tests of the config and the manifest.
//!
//! Each sample in `testdata/*/invalid` is named after its mistake and stands next to the report that it must give;
//! with `UPDATE_EXPECTED=1` in the environment the reports are written anew, to be read before they are kept.

mod central;
mod diagnostic;
mod difference;
mod edit;
mod literal;
mod manifest;
mod name;
mod order;
mod robustness;
mod supervision;

use std::fs;
use std::path::{Path, PathBuf};

use super::{Diagnostics, Manifest, PluginEntry, PluginKind, SourceSpec};

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/config/testdata")
        .join(folder)
}

/// Returns the samples in a folder of the test data: name and content, sorted.
fn samples(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut samples = Vec::new();
    for item in fs::read_dir(testdata(folder)).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|e| e == extension) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            samples.push((name, fs::read(&path).unwrap()));
        }
    }
    samples.sort();
    assert!(!samples.is_empty(), "no samples in {folder}");
    samples
}

/// Checks that every sample in a folder gives the report that stands next to it.
fn check_reports(
    folder: &str,
    extension: &str,
    read: impl Fn(&str, &[u8]) -> Result<(), Diagnostics>,
) {
    let mut wrong = Vec::new();
    for (name, bytes) in samples(folder, extension) {
        let report = match read(&name, &bytes) {
            Ok(()) => "no mistake was found\n".to_owned(),
            Err(mistakes) => format!("{mistakes}\n"),
        };
        let path = testdata(folder).join(&name).with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&path, &report).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if report != expected {
            wrong.push(format!("== {name}\n{report}== expected\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn entry(kind: PluginKind) -> PluginEntry {
    let source = SourceSpec {
        location: "plugins/zeta".to_owned(),
        base: PathBuf::from("/home/aigis/config"),
        reference: super::GitReference::Unspecified,
    };
    PluginEntry::new("zeta".parse().unwrap(), kind, source)
}

/// Returns an entry of the kind that a sample's name starts with.
fn entry_for(sample: &str) -> PluginEntry {
    let kind = sample.split('-').next().unwrap_or_default();
    entry(kind.parse().unwrap())
}

fn manifest(text: &str, entry: &PluginEntry) -> Result<Manifest, Diagnostics> {
    manifest_of_bytes(text.as_bytes(), "AIGIS.config", entry)
}

fn manifest_of_bytes(
    bytes: &[u8],
    file: &str,
    entry: &PluginEntry,
) -> Result<Manifest, Diagnostics> {
    Manifest::parse(
        bytes.to_vec(),
        Path::new(file),
        Path::new("/ext/zeta"),
        entry,
    )
}
