//! Bringing a plugin's source to where it runs: a git repository is cloned or updated, a folder of
//! this machine is copied.
//!
//! Start at [`fetch`]. What stands at the destination is always a whole tree: a new one is put
//! together beside it and renamed, and an update that fails leaves the old one as it was. So does
//! everything that is wrong with the source of a plugin that is present already: that is a warning
//! in [`Fetched`], not an error.
//!
//! All of it blocks, so it belongs on a thread of its own. Setting the cancel flag ends a fetch at
//! the next object or file; while it waits for a silent server, that can take until the timeout
//! (see [`set_timeouts`]).
//!
//! # HTTPS
//!
//! The certificate authorities of the system are trusted, or those of `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, which are read once per process, at the first fetch, and those given to
//! [`trust_certificates`]. The proxy comes from git's configuration or the environment
//! (`http.proxy`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).

mod error;
mod git;
mod library;
mod local;
mod location;
mod remote;
mod staging;
mod submodules;
mod unfinished;
mod watch;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use error::{CopyFailure, FetchError};
pub use library::{set_timeouts, trust_certificates};
pub use staging::Before;
pub use watch::{FetchProgress, Phase, Progress};

use crate::config::SourceSpec;
use location::Location;
use remote::Request;
use watch::Watch;

/// What a fetch has brought, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where the tree comes from.
    pub origin: Origin,
    /// What was done.
    pub action: Action,
    /// What went wrong, though the plugin can be used; for the plugin's log.
    pub warnings: Vec<String>,
    /// What is worth knowing; for the plugin's log.
    pub notes: Vec<String>,
}

/// Where a plugin's tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A git repository.
    Git {
        /// Its URL, without credentials.
        url: String,
        /// The branch, the tag or the commit that was asked for; of a tree that was kept, the
        /// branch or commit that is checked out.
        reference: String,
        /// The id of the commit that is checked out; empty if a tree was kept that has none.
        commit: String,
    },
    /// A folder of this machine.
    Local {
        /// Its absolute path.
        path: PathBuf,
    },
}

/// What a fetch has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The repository was cloned.
    Cloned,
    /// The tree went from one commit to another.
    Updated {
        /// The id of the old commit.
        from: String,
        /// The id of the new commit.
        to: String,
    },
    /// The tree is what was asked for already.
    Unchanged,
    /// The folder was copied.
    Copied,
    /// The tree that was present is used as it is; a warning says why.
    Kept,
}

/// Brings the source of a plugin to the folder `dest`, or brings what is there up to date.
///
/// Of a repository, that is what `spec` asks for; if it asks for nothing, the branch `master`, else
/// the repository's default branch. A present one is fetched and fast-forwarded; if that fails, the
/// old tree is kept and there is one warning. A folder is copied if nothing is present, else there
/// is one warning. Folders above `dest` are made as needed, and what earlier attempts for `dest`
/// left half done is cleaned up.
///
/// # Errors
/// If there is no tree at `dest` and none could be brought, if `spec` contradicts itself, or if it
/// was cancelled. `dest` is then as it was.
pub fn fetch(
    spec: &SourceSpec,
    dest: &Path,
    progress: &dyn FetchProgress,
    cancel: &AtomicBool,
) -> Result<Fetched, FetchError> {
    let watch = Watch { progress, cancel };
    watch.check()?;
    library::prepare();
    staging::recover(dest)?;
    let is_present = is_present(dest)?;
    match location::locate(spec)? {
        Location::Repository(url) => {
            let request = Request {
                url: &url,
                reference: &spec.reference,
                watch,
            };
            if is_present {
                return git::update(request, dest);
            }
            let (staging, fetched) = git::clone(request, dest)?;
            staging.publish()?;
            Ok(fetched)
        }
        Location::Folder(path) if is_present => Ok(kept_copy(path, dest, "")),
        // The source may go once its copy is there.
        Location::Missing(path) if is_present => {
            let why = format!(" (its source `{}` is gone)", path.display());
            Ok(kept_copy(path, dest, &why))
        }
        Location::Folder(path) => {
            let (staging, notes) = local::copy(&path, dest, watch)?;
            staging.publish()?;
            Ok(copied(&path, notes))
        }
        Location::Missing(path) => Err(location::no_such_source(&spec.location, path, None)),
    }
}

/// Brings the source of a plugin anew, in place of what is at `dest`, local changes included.
///
/// The new tree is put together beside the old one, which stays until the new one is complete.
///
/// # Errors
/// If it could not be brought, or was cancelled. The old tree is then as it was.
pub fn fetch_fresh(
    spec: &SourceSpec,
    dest: &Path,
    progress: &dyn FetchProgress,
    cancel: &AtomicBool,
) -> Result<Fetched, FetchError> {
    let (fetched, before) = fetch_anew(spec, dest, progress, cancel)?;
    before.let_go();
    Ok(fetched)
}

/// Does the same, and also returns what was at `dest` before, so that it can be put back.
///
/// # Errors
/// Those of [`fetch_fresh`].
pub fn fetch_anew(
    spec: &SourceSpec,
    dest: &Path,
    progress: &dyn FetchProgress,
    cancel: &AtomicBool,
) -> Result<(Fetched, Before), FetchError> {
    let watch = Watch { progress, cancel };
    watch.check()?;
    library::prepare();
    staging::recover(dest)?;
    let is_present = is_present(dest)?;
    let (staging, fetched) = match location::locate(spec)? {
        Location::Repository(url) => {
            let request = Request {
                url: &url,
                reference: &spec.reference,
                watch,
            };
            git::clone(request, dest)?
        }
        Location::Folder(path) => {
            let (source, destination) = (location::canonical(&path), location::canonical(dest));
            if source.starts_with(&destination) {
                return Err(FetchError::SourceInsideDestination {
                    path: source,
                    destination,
                });
            }
            let (staging, notes) = local::copy(&path, dest, watch)?;
            (staging, copied(&path, notes))
        }
        Location::Missing(path) => {
            return Err(location::no_such_source(&spec.location, path, None));
        }
    };
    let before = match is_present {
        true => staging.replace()?,
        false => {
            staging.publish()?;
            Before::nothing(dest)
        }
    };
    Ok((fetched, before))
}

/// Returns whether a tree is at `dest`; an empty folder is none.
fn is_present(dest: &Path) -> Result<bool, FetchError> {
    if staging::is_absent_or_empty(dest) {
        return Ok(false);
    }
    let path = dest.to_owned();
    match fs::metadata(dest) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(FetchError::DestinationNotFolder { path }),
        // A link to nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(FetchError::DestinationNotFolder { path })
        }
        Err(source) => Err(FetchError::Io {
            step: "read",
            path,
            source,
        }),
    }
}

fn copied(source: &Path, notes: Vec<String>) -> Fetched {
    Fetched {
        origin: Origin::Local {
            path: location::canonical(source),
        },
        action: Action::Copied,
        warnings: Vec::new(),
        notes,
    }
}

fn kept_copy(source: PathBuf, dest: &Path, why: &str) -> Fetched {
    let dest = dest.display();
    Fetched {
        origin: Origin::Local {
            path: location::canonical(&source),
        },
        action: Action::Kept,
        warnings: vec![format!(
            "plugin exists, it will not get updated{why}: for a new copy, remove `{dest}` or use \
             `reload --fresh`"
        )],
        notes: Vec::new(),
    }
}
