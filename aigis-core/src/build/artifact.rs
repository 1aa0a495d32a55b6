//! The results of builds, each in a file named after its content.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::FileFault;

/// How much of the hash is part of the name.
const HASH_DIGITS: usize = 16;

/// A kept file, as a stamp records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The name inside the artifacts folder.
    file: String,
    size: u64,
    hash: String,
}

/// Copies `source` into `folder` as `<plugin>-<hash>`, with its extension and its mode.
pub(super) fn keep(folder: &Path, plugin: &str, source: &Path) -> Result<Kept, FileFault> {
    fs::create_dir_all(folder).map_err(FileFault::of("create", folder))?;
    let mut copy = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(FileFault::of("create a file in", folder))?;
    let mut built = File::open(source).map_err(FileFault::of("open", source))?;
    let mut hasher = blake3::Hasher::new();
    let size = copy_and_hash(&mut built, copy.as_file_mut(), &mut hasher)
        .map_err(FileFault::of("copy", source))?;
    let hash = hasher.finalize().to_hex().to_string();
    let mut file = format!("{plugin}-{}", &hash[..HASH_DIGITS]);
    if let Some(extension) = source.extension().and_then(|end| end.to_str()) {
        file.push('.');
        file.push_str(extension);
    }
    let kept = Kept { file, size, hash };
    if kept.path_in(folder).is_some() {
        return Ok(kept); // a library that may be loaded right now keeps its inode
    }
    let path = folder.join(&kept.file);
    built
        .metadata()
        .and_then(|metadata| fs::set_permissions(copy.path(), metadata.permissions()))
        .map_err(FileFault::of("set the mode of", &path))?;
    copy.persist(&path)
        .map_err(|error| FileFault::of("create", &path)(error.error))?;
    Ok(kept)
}

fn copy_and_hash(from: &mut File, to: &mut File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(size);
        }
        to.write_all(&buffer[..count])?;
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

impl Kept {
    /// Returns where the file is, if it is there and still has its content.
    pub(super) fn path_in(&self, folder: &Path) -> Option<PathBuf> {
        if Path::new(&self.file).file_name()? != self.file.as_str() {
            return None; // a damaged stamp must not lead anywhere else
        }
        let path = folder.join(&self.file);
        let file = File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() != self.size {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).ok()?;
        (hasher.finalize().to_hex().as_str() == self.hash).then_some(path)
    }
}

/// Deletes the files that were kept for `plugin` except those in `keep`.
pub(super) fn prune(folder: &Path, plugin: &str, keep: &[&Path]) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| belongs(name, plugin)) && !keep.contains(&&*path) {
            let _ = fs::remove_file(path); // there is a next time
        }
    }
}

/// Whether `file` is `<plugin>-<hash>` with or without an extension: plugin names may hold
/// dashes and dots themselves.
fn belongs(file: &str, plugin: &str) -> bool {
    let Some(rest) = file
        .strip_prefix(plugin)
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let (hash, extension) = rest.split_once('.').unwrap_or((rest, "so"));
    hash.len() == HASH_DIGITS
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !extension.is_empty()
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
