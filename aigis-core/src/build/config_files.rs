//! Cargo's own configuration files, as far as they decide a build.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::value;

/// Returns the files that cargo reads when it is run in `folder`, the nearest first.
pub(super) fn locate(folder: &Path, variables: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let cargo_home = value(variables, "CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(value(variables, "HOME")?).join(".cargo")));
    let mut found: Vec<PathBuf> = Vec::new();
    let folders = folder.ancestors().map(|above| above.join(".cargo"));
    for folder in folders.chain(cargo_home) {
        for name in ["config", "config.toml"] {
            let file = folder.join(name);
            if file.is_file() && !found.contains(&file) {
                found.push(file);
            }
        }
    }
    found
}

/// Compiler flags that a configuration file sets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileFlags {
    /// The `<triple>` or `cfg(…)` of `[target.…]`; none for `[build]`.
    pub(super) target: Option<String>,
    pub(super) flags: Vec<String>,
}

/// Returns the compiler flags that `file` sets; what is no TOML is left to cargo to report.
pub(super) fn compiler_flags(file: &Path) -> Vec<FileFlags> {
    let Some(table) = fs::read_to_string(file)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(flags) = table.get("build").and_then(|build| build.get("rustflags")) {
        found.push(FileFlags {
            target: None,
            flags: words(flags),
        });
    }
    let targets = table.get("target").and_then(toml::Value::as_table);
    for (target, options) in targets.into_iter().flatten() {
        if let Some(flags) = options.get("rustflags") {
            found.push(FileFlags {
                target: Some(target.clone()),
                flags: words(flags),
            });
        }
    }
    found
}

fn words(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        toml::Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}
