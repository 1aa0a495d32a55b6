//! Recognises packages that cargo need not be asked about before they are built.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::Wants;
use super::compile::Targets;

/// The parts of a manifest that name dependencies.
const DEPENDENCIES: [&str; 5] = [
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "build-dependencies",
    "build_dependencies",
];

/// A package that has a single target, is in no workspace and names no other package by its path.
///
/// So its lock file lies next to its manifest, nothing outside its folder is part of it, and if cargo
/// says of that target that it was compiled, then all of the plugin's own code was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) package: String,
    /// The name of the `cdylib` target.
    pub(super) library: Option<String>,
    /// The name of the binary target.
    pub(super) binary: Option<String>,
    /// What it depends on in any case.
    pub(super) needs: Vec<String>,
}

impl Plain {
    /// Reads the manifest in `folder`; none if that is not enough to know what will be built.
    ///
    /// It is no promise: a configuration of cargo may bring other packages in.
    pub(super) fn recognise(folder: &Path, wants: Wants<'_>) -> Option<Self> {
        let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let manifest: Table = text.parse().ok()?;
        let mut above = folder.ancestors().skip(1);
        if above.any(|above| above.join("Cargo.toml").exists()) {
            return None;
        }
        let other = ["workspace", "patch", "replace", "project"];
        if other.iter().any(|part| manifest.contains_key(*part)) || has_local(&manifest) {
            return None;
        }
        let package = manifest.get("package")?.as_table()?;
        let scripted = match package.get("build") {
            None => folder.join("build.rs").exists(),
            Some(script) => script.as_bool() != Some(false),
        };
        if scripted || package.contains_key("workspace") {
            return None;
        }
        let name = package.get("name")?.as_str()?;
        let (library, binary) = match wants {
            Wants::Library => (Some(cdylib(&manifest, name)?), None),
            Wants::Binary { name: wanted, .. } => {
                let alone = is_only_main(&manifest, folder) && wanted.is_none_or(|it| it == name);
                (None, Some(alone.then(|| name.to_owned())?))
            }
        };
        Some(Self {
            package: name.to_owned(),
            library,
            binary,
            needs: needs(&manifest),
        })
    }

    pub(super) fn targets(&self) -> Targets<'_> {
        Targets {
            library: self.library.as_deref(),
            binary: self.binary.as_deref(),
        }
    }
}

fn cdylib(manifest: &Table, package: &str) -> Option<String> {
    let library = manifest.get("lib")?.as_table()?;
    let kinds = library.get("crate-type")?.as_array()?;
    if !kinds.iter().any(|kind| kind.as_str() == Some("cdylib")) {
        return None;
    }
    match library.get("name") {
        None => Some(package.replace('-', "_")),
        Some(name) => name.as_str().map(str::to_owned),
    }
}

fn is_only_main(manifest: &Table, folder: &Path) -> bool {
    let is_there = |path: &str| folder.join("src").join(path).exists();
    !manifest.contains_key("lib")
        && !manifest.contains_key("bin")
        && is_there("main.rs")
        && !is_there("lib.rs")
        && !is_there("bin")
}

/// Tells whether a dependency is, or may be, a package that is not downloaded.
fn has_local(manifest: &Table) -> bool {
    let of_targets = manifest.get("target").and_then(Value::as_table);
    let tables = of_targets.into_iter().flat_map(Table::values);
    let tables = tables.filter_map(Value::as_table).chain([manifest]);
    let mut dependencies = tables
        .flat_map(|table| DEPENDENCIES.iter().filter_map(|part| table.get(*part)))
        .filter_map(Value::as_table)
        .flat_map(Table::values);
    dependencies.any(|dependency| {
        let has = |key| dependency.get(key).is_some();
        has("path") || has("base") || has("workspace")
    })
}

/// Returns the packages that the one of this manifest depends on in any case.
pub(super) fn needs(manifest: &Table) -> Vec<String> {
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    let dependencies = dependencies.into_iter().flatten();
    let needed = dependencies.filter(|(_, dependency)| dependency.get("optional").is_none());
    needed
        .map(|(key, dependency)| {
            let package = dependency.get("package").and_then(Value::as_str);
            package.unwrap_or(key).to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const PLAIN: &str = "[package]\nname = \"the-one\"\nversion = \"0.1.0\"\n\
        [lib]\ncrate-type = [\"cdylib\"]\n\
        [dependencies]\napi = { package = \"aigis-plugin-api\", version = \"0.1\" }\n\
        serde = { version = \"1\", optional = true }\nlog = \"0.4\"\n";

    fn recognised(manifest: &str, files: &[&str], wants: Wants<'_>) -> Option<Plain> {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
        for file in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().expect("it has one")).expect("a folder");
            fs::write(file, "").expect("a file");
        }
        Plain::recognise(folder.path(), wants)
    }

    #[test]
    fn one_library_with_downloaded_dependencies_is_plain() {
        let expected = Plain {
            package: "the-one".into(),
            library: Some("the_one".into()),
            binary: None,
            needs: vec!["aigis-plugin-api".into(), "log".into()],
        };
        let files = ["src/lib.rs", "src/main.rs"];
        assert_eq!(recognised(PLAIN, &files, Wants::Library), Some(expected));
    }

    #[test]
    fn what_brings_in_other_code_is_not_plain() {
        for more in [
            "[workspace]\n",
            "[patch.crates-io]\nlog = { path = \"log\" }\n",
            "[dev-dependencies]\nit = { path = \"it\" }\n",
            "[target.'cfg(unix)'.dependencies]\nit = { path = \"it\" }\n",
        ] {
            let manifest = format!("{PLAIN}{more}");
            assert_eq!(recognised(&manifest, &[], Wants::Library), None, "{more}");
        }
        assert_eq!(recognised(PLAIN, &["build.rs"], Wants::Library), None);
        let scripted = PLAIN.replace("[lib]", "build = \"make.rs\"\n[lib]");
        assert_eq!(recognised(&scripted, &[], Wants::Library), None);
        let member = PLAIN.replace("[lib]", "workspace = \"..\"\n[lib]");
        assert_eq!(recognised(&member, &[], Wants::Library), None);
    }

    #[test]
    fn a_package_below_another_manifest_is_not_plain() {
        let folder = TempDir::new().expect("a temporary folder");
        let deeper = folder.path().join("deeper");
        fs::create_dir(&deeper).expect("a folder");
        fs::write(deeper.join("Cargo.toml"), PLAIN).expect("a file");
        assert!(Plain::recognise(&deeper, Wants::Library).is_some());
        fs::write(folder.path().join("Cargo.toml"), "").expect("a file");
        assert_eq!(Plain::recognise(&deeper, Wants::Library), None);
    }

    #[test]
    fn only_a_program_without_a_library_is_plain() {
        let manifest = "[package]\nname = \"daemon\"\nversion = \"0.1.0\"\n";
        let wants = |name| Wants::Binary {
            name,
            library: true,
        };
        let main = ["src/main.rs"];
        let found = recognised(manifest, &main, wants(None)).expect("is plain");
        assert_eq!(found.binary.as_deref(), Some("daemon"));
        assert!(recognised(manifest, &main, wants(Some("daemon"))).is_some());
        assert_eq!(recognised(manifest, &main, wants(Some("other"))), None);
        for file in ["src/lib.rs", "src/bin/other.rs"] {
            let files = ["src/main.rs", file];
            assert_eq!(recognised(manifest, &files, wants(None)), None, "{file}");
        }
    }
}
