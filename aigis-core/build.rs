//! Finds the lock file that this build was made with: plugins without one of their own get its
//! versions.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // In its package it is next to the manifest, in the repository one folder up.
    let near = [Some(package.as_path()), package.parent()];
    let found = near
        .into_iter()
        .flatten()
        .map(|folder| folder.join("Cargo.lock"))
        .find(|path| path.is_file());
    let found = found.unwrap_or_default();
    if found != Path::new("") {
        println!("cargo:rerun-if-changed={}", found.display());
    }
    println!("cargo:rustc-env=AIGIS_LOCK_FILE={}", found.display());
    println!("cargo:rustc-check-cfg=cfg(aigis_lock_file)");
    if found != Path::new("") {
        println!("cargo:rustc-cfg=aigis_lock_file");
    }
}
