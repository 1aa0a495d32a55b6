//! Copying a folder as Python's `shutil.copytree` does with its default options.
//!
//! Links are followed, modes and times are kept, hidden files are copied like all others, and what
//! cannot be copied is reported at the end, after the rest.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::CopyFailure;
use super::staging::{self, Staging};
use super::watch::{Phase, Watch};
use super::{FetchError, location};

/// How much is copied between two looks at the cancel flag.
const CHUNK: u64 = 8 << 20;

/// What tells one folder from every other, however it is reached.
type Identity = (u64, u64);

/// Copies the folder `source` into a new tree for `destination`; returns it, ready to be put in
/// place, with remarks for the plugin's log.
pub(super) fn copy(
    source: &Path,
    destination: &Path,
    watch: Watch<'_>,
) -> Result<(Staging, Vec<String>), FetchError> {
    let staging = Staging::create(destination)?;
    let read = |path: &Path| {
        fs::metadata(path).map_err(|source| FetchError::Io {
            step: "read",
            path: path.to_owned(),
            source,
        })
    };
    let root = read(source)?;
    // A source that holds the destination would be copied into itself, without end. The folder of
    // all plugins' trees is no part of a plugin, so it is left out as a whole; only if it is the
    // source itself, just this plugin's old and new tree are.
    let trees = identity(&read(staging::parent(destination))?);
    let left_out = if trees == identity(&root) {
        let mut own = vec![identity(&read(staging.path())?)];
        own.extend(fs::metadata(destination).as_ref().map(identity));
        own
    } else {
        vec![trees]
    };
    let mut copying = Copying {
        watch,
        staged: staging.path(),
        destination,
        left_out,
        ancestors: Vec::new(),
        failures: Vec::new(),
        notes: Vec::new(),
        files: 0,
        bytes: 0,
    };
    copying.folder(source, staging.path(), &root)?;
    let Copying {
        failures, notes, ..
    } = copying;
    if failures.is_empty() {
        Ok((staging, notes))
    } else {
        Err(FetchError::Copy {
            path: location::canonical(source),
            failures,
        })
    }
}

struct Copying<'a> {
    watch: Watch<'a>,
    staged: &'a Path,
    destination: &'a Path,
    left_out: Vec<Identity>,
    /// The folders that the one being copied is in: a link to one of them would never end.
    ancestors: Vec<Identity>,
    failures: Vec<CopyFailure>,
    notes: Vec<String>,
    files: u64,
    bytes: u64,
}

impl Copying<'_> {
    /// Copies what is in the folder `from` into `to`, which exists, then its mode and times.
    ///
    /// Fails only when cancelled; everything else is collected.
    fn folder(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), FetchError> {
        self.ancestors.push(identity(metadata));
        match names(from) {
            Ok(names) => {
                for name in names {
                    self.watch.check()?;
                    self.entry(&from.join(&name), &to.join(&name))?;
                }
            }
            Err(error) => self.fail(from, to, error.to_string()),
        }
        self.ancestors.pop();
        // Only now: writing the content changes the times, and the mode may forbid writing.
        let kept = File::open(to).and_then(|folder| keep(&folder, metadata));
        if let Err(error) = kept {
            self.fail(from, to, error.to_string());
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path) -> Result<(), FetchError> {
        let metadata = match fs::metadata(from) {
            Ok(metadata) => metadata,
            Err(error) => {
                let reason = match fs::read_link(from) {
                    Ok(target) => format!("it is a link to `{}`: {error}", target.display()),
                    Err(_) => error.to_string(),
                };
                self.fail(from, to, reason);
                return Ok(());
            }
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.subfolder(from, to, &metadata);
        }
        if kind.is_file() {
            match self.file(from, to, &metadata) {
                Ok(true) => {}
                Ok(false) => return Err(FetchError::Cancelled),
                Err(error) => self.fail(from, to, error.to_string()),
            }
            return Ok(());
        }
        let what = match () {
            () if kind.is_fifo() => "a named pipe",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        self.fail(from, to, format!("it is {what}, not a file or folder"));
        Ok(())
    }

    fn subfolder(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), FetchError> {
        let identity = identity(metadata);
        if self.left_out.contains(&identity) {
            self.notes.push(format!(
                "left out `{}` of the copy: it is where the plugins' own trees are",
                from.display()
            ));
            return Ok(());
        }
        if self.ancestors.contains(&identity) {
            let reason = "it leads back to a folder that it is in, without end";
            self.fail(from, to, reason.to_owned());
            return Ok(());
        }
        // Nobody else may look in before the mode is that of the source.
        match fs::DirBuilder::new().mode(0o700).create(to) {
            Ok(()) => self.folder(from, to, metadata),
            Err(error) => {
                self.fail(from, to, error.to_string());
                Ok(())
            }
        }
    }

    /// Copies one file with mode and times; `false` means that it was cancelled.
    fn file(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<bool> {
        let mut source = File::open(from)?;
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)?;
        loop {
            if self.watch.is_cancelled() {
                return Ok(false);
            }
            let copied = io::copy(&mut source.by_ref().take(CHUNK), &mut target)?;
            self.bytes += copied;
            if copied == 0 {
                break;
            }
        }
        keep(&target, metadata)?;
        self.files += 1;
        self.watch
            .report(Phase::Copying, self.files, None, self.bytes);
        Ok(true)
    }

    fn fail(&mut self, from: &Path, to: &Path, reason: String) {
        // People know the destination, not the folder in which it is put together.
        let destination = match to.strip_prefix(self.staged) {
            Ok(rest) if rest.as_os_str().is_empty() => self.destination.to_owned(),
            Ok(rest) => self.destination.join(rest),
            Err(_) => to.to_owned(),
        };
        self.failures.push(CopyFailure {
            source: from.to_owned(),
            destination,
            reason,
        });
    }
}

/// Gives `target` the times and the mode of its source.
fn keep(target: &File, source: &Metadata) -> io::Result<()> {
    let times = FileTimes::new()
        .set_accessed(source.accessed()?)
        .set_modified(source.modified()?);
    target.set_times(times)?;
    target.set_permissions(Permissions::from_mode(source.mode() & 0o7777))
}

/// Returns the names in a folder, sorted; read at once, so that a deep tree holds no folder open.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
