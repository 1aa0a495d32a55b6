//! The folder in which a plugin's tree is put together before it appears under its name.
//!
//! A tree that is being made sits beside its destination, as `.<name>.partial-<process>-<number>`,
//! and is renamed when it is complete: what stands at the destination is always whole. The process
//! that makes it holds a lock on the folder, so that what a killed process left behind can be told
//! from what another one is making.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::FetchError;

/// A tree in the making; unless published, it is removed when dropped.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    destination: PathBuf,
    published: bool,
    /// Holds the lock that tells that this attempt is alive.
    _lock: File,
}

impl Staging {
    /// Makes an empty folder beside `destination`, and the folder they are in.
    pub(super) fn create(destination: &Path) -> Result<Self, FetchError> {
        let parent = parent(destination);
        fs::create_dir_all(parent).map_err(|source| failed("create", parent, source))?;
        let (path, lock) = create_beside(destination, "partial")?;
        Ok(Self {
            path,
            destination: destination.to_owned(),
            published: false,
            _lock: lock,
        })
    }

    /// Returns the folder to put the tree into.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the tree where it belongs, in place of nothing or of an empty folder.
    pub(super) fn publish(mut self) -> Result<(), FetchError> {
        fs::rename(&self.path, &self.destination)
            .map_err(|source| failed("put the complete tree at", &self.destination, source))?;
        self.published = true;
        Ok(())
    }

    /// Puts the tree where it belongs, in place of what is there, which is returned.
    ///
    /// If the process dies between the two renames, [`recover`] undoes the first one.
    pub(super) fn replace(self) -> Result<Before, FetchError> {
        let destination = self.destination.clone();
        let (old, lock) = create_beside(&destination, "replaced")?;
        if let Err(source) = fs::rename(&destination, &old) {
            let _ = fs::remove_dir(&old);
            return Err(failed("set aside", &destination, source));
        }
        if let Err(error) = self.publish() {
            fs::rename(&old, &destination)
                .map_err(|source| failed("put back", &destination, source))?;
            return Err(error);
        }
        // The lock is one of the empty folder that the old tree has taken the place of.
        let of_tree = File::open(&old).inspect(|tree| {
            // As in `create_beside`, without locks nothing is taken for dead.
            let _ = tree.try_lock();
        });
        Ok(Before {
            destination,
            old: Some((old, of_tree.unwrap_or(lock))),
            decided: false,
        })
    }
}

/// What stood at a destination before a new tree came: a tree, or nothing. It comes back when this is
/// dropped, unless it has been [let go](Self::let_go).
#[derive(Debug)]
pub struct Before {
    destination: PathBuf,
    /// The old tree, and the lock that keeps others from taking it for a dead process's.
    old: Option<(PathBuf, File)>,
    decided: bool,
}

impl Before {
    /// Nothing was there.
    pub(super) fn nothing(destination: &Path) -> Self {
        Self {
            destination: destination.to_owned(),
            old: None,
            decided: false,
        }
    }

    /// Removes the old tree: the new one stays.
    pub fn let_go(mut self) {
        self.decided = true;
        if let Some((old, lock)) = self.old.take() {
            drop(lock);
            // The new tree is in place; a rest of the old one goes with the next fetch.
            let _ = remove_tree(&old);
        }
    }

    /// Puts the old tree back and removes the new one.
    ///
    /// # Errors
    /// The system does not let it: then the new tree stays.
    pub fn put_back(mut self) -> Result<(), FetchError> {
        self.bring_back()
    }

    fn bring_back(&mut self) -> Result<(), FetchError> {
        self.decided = true;
        let destination = &self.destination;
        // If the process dies in the middle, `recover` does the rest.
        let (new, lock) = create_beside(destination, "partial")?;
        fs::rename(destination, &new).map_err(|source| failed("set aside", destination, source))?;
        if let Some((old, _)) = &self.old {
            fs::rename(old, destination)
                .map_err(|source| failed("put back", destination, source))?;
        }
        drop(lock);
        let _ = remove_tree(&new);
        Ok(())
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if !self.decided {
            // Whoever wants to know why it failed asks for it.
            let _ = self.bring_back();
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // A rest that cannot be removed now goes with the next fetch.
            let _ = remove_tree(&self.path);
        }
    }
}

/// Cleans up after attempts that died: removes what they left half made, and puts back a tree that
/// was set aside when its replacement never arrived.
pub(super) fn recover(destination: &Path) -> Result<(), FetchError> {
    let parent = parent(destination);
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("read", parent, source)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| failed("read", parent, source))?;
        let (name, path) = (entry.file_name(), entry.path());
        let half_made = is_named(&name, destination, "partial");
        if (!half_made && !is_named(&name, destination, "replaced")) || is_alive(&path) {
            continue;
        }
        if half_made || !is_absent_or_empty(destination) || is_absent_or_empty(&path) {
            // What cannot be removed takes room, but is in nobody's way.
            let _ = remove_tree(&path);
        } else {
            fs::rename(&path, destination).map_err(|source| failed("put back", &path, source))?;
        }
    }
    Ok(())
}

/// Returns whether nothing, or an empty folder, stands at `path`.
pub(super) fn is_absent_or_empty(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(_) => false,
    }
}

/// Returns the folder that `destination` is in.
pub(super) fn parent(destination: &Path) -> &Path {
    match destination.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => destination,
    }
}

/// Removes a folder with all it holds, folders without write permission included.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let error = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        result => return result,
    };
    open_up(path).map_err(|_| error)?;
    fs::remove_dir_all(path)
}

/// Lets the owner change every folder of a tree; links are not followed.
fn open_up(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        open_up(&entry?.path())?;
    }
    Ok(())
}

/// Makes and locks a new, empty, hidden folder beside `destination`.
fn create_beside(destination: &Path, purpose: &str) -> Result<(PathBuf, File), FetchError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = prefix(destination, purpose);
        name.push(format!("{}-{number}", std::process::id()));
        let path = parent(destination).join(name);
        match fs::create_dir(&path) {
            Ok(()) => {}
            // A process that had the same id left it; `recover` has its time and place.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(source) => return Err(failed("create", &path, source)),
        }
        let lock = File::open(&path).map_err(|source| failed("open", &path, source))?;
        // On a file system without locks nothing is ever taken for dead, see `is_alive`.
        let _ = lock.try_lock();
        // Until the lock was held, another process could take this folder for a dead one's.
        if fs::metadata(&path).is_ok_and(|found| is_same(&found, &lock)) {
            return Ok((path, lock));
        }
    }
}

/// Returns whether a process that made `path` may still be at work on it.
fn is_alive(path: &Path) -> bool {
    let Ok(folder) = File::open(path) else {
        // Gone by now, or its mode keeps us out, which only a copied folder's mode does: a copy
        // gets that mode as the last step before its rename.
        return fs::symlink_metadata(path).is_err();
    };
    match folder.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
    }
}

fn is_same(found: &fs::Metadata, file: &File) -> bool {
    file.metadata()
        .is_ok_and(|held| (held.dev(), held.ino()) == (found.dev(), found.ino()))
}

fn prefix(destination: &Path, purpose: &str) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(destination.file_name().unwrap_or_default());
    prefix.push(format!(".{purpose}-"));
    prefix
}

/// Returns whether `name` is one that [`create_beside`] gives, for this destination and purpose.
fn is_named(name: &OsStr, destination: &Path, purpose: &str) -> bool {
    let prefix = prefix(destination, purpose);
    let number = name
        .as_encoded_bytes()
        .strip_prefix(prefix.as_encoded_bytes());
    // A plugin may be called `a.partial-1`: its folders are no business of the plugin `a`.
    number.is_some_and(|rest| rest.iter().all(|&b| b.is_ascii_digit() || b == b'-'))
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Io {
        step,
        path: path.to_owned(),
        source,
    }
}
