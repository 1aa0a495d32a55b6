//! Plugins written on the spot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::home::TestHome;

/// Writes the files of a plugin, as paths and contents, into its source folder.
pub(crate) fn write(home: &TestHome, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = home.source(name);
    write_into(&folder, files);
    folder
}

/// Writes files into a folder, with the folders on the way.
pub(crate) fn write_into(folder: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("is below the folder")).expect("makes folders");
        fs::write(&path, content).expect("writes");
        if content.starts_with("#!") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("can be run");
        }
    }
}

/// The manifest of a core plugin.
pub(crate) const CORE: &str = "PLUGIN_TYPE = \"core\"\nENTRYPOINT = \"{root}\"\n";

/// The manifest of an internal plugin.
pub(crate) const INTERNAL: &str = "PLUGIN_TYPE = \"internal\"\nENTRYPOINT = \"{root}\"\n";

/// Makes the `Cargo.toml` of a plugin; `more` is added at its end.
pub(crate) fn cargo_toml(package: &str, more: &str) -> String {
    format!(
        "[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\naigis-plugin-api = \"0.1\"\n\n{more}"
    )
}

/// Writes a core plugin with this `src/lib.rs`.
pub(crate) fn core(home: &TestHome, name: &str, library: &str) -> PathBuf {
    let cargo = cargo_toml(name, "[lib]\ncrate-type = [\"cdylib\"]\n");
    write(
        home,
        name,
        &[
            ("Cargo.toml", &cargo),
            ("AIGIS/AIGIS.config", CORE),
            ("src/lib.rs", library),
        ],
    )
}

/// Writes an internal plugin with this `src/main.rs`.
pub(crate) fn internal(home: &TestHome, name: &str, program: &str) -> PathBuf {
    let cargo = cargo_toml(name, "");
    write(
        home,
        name,
        &[
            ("Cargo.toml", &cargo),
            ("AIGIS/AIGIS.config", INTERNAL),
            ("src/main.rs", program),
        ],
    )
}

/// Writes an external plugin that runs this shell script; `options` are added to its manifest.
pub(crate) fn external(home: &TestHome, name: &str, options: &str, script: &str) -> PathBuf {
    let manifest = format!(
        "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{{root}}\"\nLAUNCH = [\"./run.sh\"]\n{options}\n"
    );
    let script = format!("#!/bin/sh\n{script}\n");
    write(
        home,
        name,
        &[("AIGIS/AIGIS.config", &manifest), ("run.sh", &script)],
    )
}
