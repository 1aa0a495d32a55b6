//! The plugin's `Cargo.lock`: begun from ours, and left as its author wrote it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::FileFault;

/// Returns `lock` without its path packages, except those named in `keep`.
///
/// The members of our own workspace mean nothing to a plugin; cargo prunes whatever else a
/// plugin does not need.
pub(super) fn seed<'a>(lock: &str, keep: impl Iterator<Item = &'a str>) -> String {
    let keep: Vec<String> = keep.map(|name| format!("name = \"{name}\"")).collect();
    let mut text = String::new();
    for section in sections(lock) {
        let has = |start: &str| section.lines().any(|line| line.starts_with(start));
        let kept = if section.starts_with("[[package]]") {
            has("source = ") || keep.iter().any(|name| has(name))
        } else {
            !section.starts_with("[[patch.unused]]")
        };
        if kept {
            text.push_str(section);
        }
    }
    text
}

/// Returns the names of patches that `lock` records as not used by anything.
pub(super) fn unused_patches(lock: &str) -> Vec<&str> {
    sections(lock)
        .filter(|section| section.starts_with("[[patch.unused]]"))
        .filter_map(|section| {
            section
                .lines()
                .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        })
        .collect()
}

/// Tells whether `package` and our crates, each once, are all that is not downloaded, so that all of
/// our patches are in use.
pub(super) fn is_alone(lock: &str, package: &str, ours: &[&str]) -> bool {
    let mut local = Vec::new();
    for section in sections(lock) {
        let value = |key: &str| section.lines().find_map(|line| line.strip_prefix(key));
        if section.starts_with("[[patch.unused]]") {
            return false;
        }
        if !section.starts_with("[[package]]") {
            continue;
        }
        let name = value("name = \"").and_then(|rest| rest.strip_suffix('"'));
        let name = name.unwrap_or_default();
        if value("source = ").is_none() {
            local.push(name);
        } else if ours.contains(&name) {
            return false;
        }
    }
    let mut expected: Vec<_> = ours.iter().copied().chain([package]).collect();
    expected.sort_unstable();
    local.sort_unstable();
    local == expected
}

/// Splits the text before each line that begins with `[`.
fn sections(lock: &str) -> impl Iterator<Item = &str> {
    let mut rest = lock;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find("\n[").map_or(rest.len(), |at| at + 1);
        let (section, after) = rest.split_at(end);
        rest = after;
        Some(section)
    })
}

/// The lock file during one build.
///
/// Cargo may rewrite it, because the API crates come from here and not from where the author's
/// file says. An author's file is put back afterwards, times included, since a changed file
/// would stand in the way of the next update from git. Where there was none, the new one
/// stays after a successful build, so that the next one uses the same versions.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    original: Option<Original>,
    succeeded: bool,
}

#[derive(Debug)]
struct Original {
    content: Vec<u8>,
    modified: Option<SystemTime>,
}

impl LockFile {
    /// Reads the file, or begins it with `seed`.
    pub(super) fn open(path: PathBuf, seed: Option<String>) -> Result<Self, FileFault> {
        let original = match fs::read(&path) {
            Ok(content) => Some(Original {
                content,
                modified: fs::metadata(&path).and_then(|meta| meta.modified()).ok(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FileFault::of("read", &path)(error)),
        };
        let file = Self {
            path,
            original,
            succeeded: false,
        };
        if let (None, Some(seed)) = (&file.original, seed) {
            fs::write(&file.path, seed).map_err(FileFault::of("write", &file.path))?;
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text as cargo left it.
    pub(super) fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Ends a successful build; returns the states of the file that stand for the same build.
    ///
    /// Where there was none, none is such a state as well: a plugin that is copied or cloned
    /// anew, unchanged, needs no building.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.succeeded = true;
        match &self.original {
            Some(original) => vec![state_of(&original.content)],
            None => vec![ABSENT.to_owned(), state(&self.path)],
        }
    }

    fn restore(&self, original: &Original) -> io::Result<()> {
        if fs::read(&self.path).is_ok_and(|now| now == original.content) {
            return Ok(());
        }
        fs::write(&self.path, &original.content)?;
        if let Some(modified) = original.modified {
            File::options()
                .write(true)
                .open(&self.path)?
                .set_modified(modified)?;
        }
        Ok(())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A failure here costs one needless build, and no build is worth failing for it.
        let _ = match &self.original {
            Some(original) => self.restore(original),
            None if self.succeeded => Ok(()),
            None => fs::remove_file(&self.path),
        };
    }
}

const ABSENT: &str = "absent";

/// Returns what identifies the content of the lock file at `path`.
pub(super) fn state(path: &Path) -> String {
    match fs::read(path) {
        Ok(content) => state_of(&content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => ABSENT.to_owned(),
        Err(_) => "unreadable".to_owned(),
    }
}

fn state_of(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}
