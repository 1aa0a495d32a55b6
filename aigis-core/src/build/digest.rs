//! Hashes of files and folders, of their content alone.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::FileFault;

/// What begins each `CACHEDIR.TAG`, by its specification.
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Returns the hash of the file, or of all files below the folder, at `path`.
///
/// Counts names, contents, what links point to, and whether a file is executable; not times,
/// owners, or empty folders. Leaves out `.git`, cargo's target folders and everything in
/// `skip`, and what is neither file, folder nor link. What vanishes meanwhile counts as never
/// having been there.
pub(super) fn of(path: &Path, skip: &[PathBuf]) -> Result<blake3::Hash, FileFault> {
    let mut hasher = blake3::Hasher::new();
    let found = fs::symlink_metadata(path).map_err(FileFault::of("read", path))?;
    add(&mut hasher, path, path, found.file_type(), skip)?;
    Ok(hasher.finalize())
}

fn add(
    hasher: &mut blake3::Hasher,
    root: &Path,
    path: &Path,
    kind: FileType,
    skip: &[PathBuf],
) -> Result<(), FileFault> {
    if kind.is_dir() {
        return add_folder(hasher, root, path, skip);
    }
    let added = if kind.is_symlink() {
        fs::read_link(path).map(|target| {
            begin(hasher, b'l', root, path);
            add_bytes(hasher, target.as_os_str().as_encoded_bytes());
        })
    } else if kind.is_file() {
        hash_file(path).map(|(content, executable)| {
            begin(hasher, if executable { b'x' } else { b'f' }, root, path);
            hasher.update(content.as_bytes());
        })
    } else {
        Ok(()) // opening a FIFO would wait for its other end
    };
    match added {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(FileFault::of("read", path)),
    }
}

fn add_folder(
    hasher: &mut blake3::Hasher,
    root: &Path,
    folder: &Path,
    skip: &[PathBuf],
) -> Result<(), FileFault> {
    if folder != root && is_cache(folder) {
        return Ok(());
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    let mut entries = entries.map_err(FileFault::of("list", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name() == ".git" || skip.contains(&path) {
            continue;
        }
        let kind = entry.file_type().map_err(FileFault::of("read", &path))?;
        add(hasher, root, &path, kind, skip)?;
    }
    Ok(())
}

fn begin(hasher: &mut blake3::Hasher, mark: u8, root: &Path, path: &Path) {
    hasher.update(&[mark]);
    let name = path.strip_prefix(root).unwrap_or(path);
    add_bytes(hasher, name.as_os_str().as_encoded_bytes());
}

/// Adds `bytes` with their length, so that neighbours cannot run into each other.
pub(super) fn add_bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn hash_file(path: &Path) -> io::Result<(blake3::Hash, bool)> {
    let file = File::open(path)?;
    let executable = super::unix::is_executable(&file.metadata()?);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok((hasher.finalize(), executable))
}

/// Whether `folder` is a cache that its maker marked as such, or an unmarked target folder.
fn is_cache(folder: &Path) -> bool {
    let mut start = [0; CACHE_TAG.len()];
    let tagged = File::open(folder.join("CACHEDIR.TAG"))
        .and_then(|mut tag| tag.read_exact(&mut start))
        .is_ok_and(|()| start == CACHE_TAG);
    // Cargo marks only folders that it made itself.
    tagged || folder.join(".rustc_info.json").is_file()
}
