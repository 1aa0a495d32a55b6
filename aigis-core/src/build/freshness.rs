//! What a build depends on, gathered from the request and the folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::digest::{self, add_bytes};
use super::environment::{deciding, for_toolchain};
use super::error::FileFault;
use super::stamp::Outside;
use super::{BuildFolders, BuildRequest, Builder, Wants, config_files};

/// Returns the hash of all that decides a build besides the sources and the compiler.
///
/// The folders are part of it because their names are compiled in (`CARGO_MANIFEST_DIR`,
/// the places of panics).
pub(super) fn setting(
    builder: &Builder,
    request: &BuildRequest<'_>,
    root: &Path,
    entrypoint: &Path,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| add_bytes(&mut hasher, part);
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(builder.sdk.identity().as_bytes());
    add(root.as_os_str().as_encoded_bytes());
    add(entrypoint.as_os_str().as_encoded_bytes());
    match request.wants {
        Wants::Library => add(b"library"),
        Wants::Binary { name, library } => {
            add(if library { b"hybrid" } else { b"binary" });
            add(format!("{name:?}").as_bytes());
        }
    }
    add(format!("{:?}", request.package).as_bytes());
    add(format!("{:?}", request.features).as_bytes());
    let environment = for_toolchain(&builder.toolchain.environment);
    for (name, value) in deciding(&environment) {
        add(name.as_encoded_bytes());
        add(value.as_encoded_bytes());
    }
    for file in config_files::locate(entrypoint, &environment) {
        add(file.as_os_str().as_encoded_bytes());
        add(&fs::read(&file).unwrap_or_default());
    }
    hasher.finalize().to_hex().to_string()
}

/// Returns what counts as no source: our own folders, what the request says, the lock file.
pub(super) fn skipped(
    folders: &BuildFolders,
    request: &BuildRequest<'_>,
    root: &Path,
    lock: &Path,
) -> Vec<PathBuf> {
    let own = [
        &folders.target,
        &folders.artifacts,
        &folders.stamps,
        &folders.sdk,
    ];
    own.into_iter()
        .filter_map(|folder| fs::canonicalize(folder).ok())
        .chain(request.excluded.iter().map(|path| root.join(path)))
        .chain([lock.to_owned()])
        .collect()
}

/// Returns the hash of the plugin's folder.
pub(super) fn tree(root: &Path, skip: &[PathBuf]) -> Result<String, FileFault> {
    Ok(digest::of(root, skip)?.to_hex().to_string())
}

/// Returns the hashes of what lies outside the plugin's folder.
pub(super) fn outside(
    paths: impl IntoIterator<Item = PathBuf>,
    root: &Path,
    skip: &[PathBuf],
) -> Result<Vec<Outside>, FileFault> {
    let mut skip = skip.to_vec();
    skip.push(root.to_owned()); // has a hash of its own
    paths
        .into_iter()
        .map(|path| {
            let hash = tree(&path, &skip)?;
            Ok(Outside { path, hash })
        })
        .collect()
}
