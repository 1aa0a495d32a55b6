//! One build at a time, in this process and among those that share the folders.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::process::POLL;

/// Lets one build through at a time, by a lock on a file.
///
/// Cargo locks the shared target folder while it runs. This lock is held longer, until the
/// artifacts are copied out, because the next build may overwrite them: packages of the same
/// name share their file names there. Each turn opens the file anew, so that the system keeps
/// apart the threads of one process as it does processes.
#[derive(Debug)]
pub(super) struct Turnstile {
    path: PathBuf,
}

/// What a folder is tagged with that holds nothing but what can be made again
/// (the Cache Directory Tagging Specification).
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder holds builds of plugins; it can be deleted at any time.\n";

/// The right to build, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Closing it unlocks it.
    _file: File,
}

/// Why there is no turn.
#[derive(Debug)]
pub(super) enum NoTurn {
    Cancelled,
    File(PathBuf, io::Error),
}

impl Turnstile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Waits for the turn.
    pub(super) fn wait(&self, cancel: &AtomicBool) -> Result<Turn, NoTurn> {
        let fault = |error| NoTurn::File(self.path.clone(), error);
        let file = self.open().map_err(fault)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn { _file: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(fault(error)),
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(NoTurn::Cancelled);
            }
            thread::sleep(POLL); // waiting for a file lock cannot be cancelled
        }
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
            // Cargo tags a target folder that it makes, for backups to leave out; this one is ours.
            let tag = folder.join("CACHEDIR.TAG");
            if !tag.exists() {
                fs::write(tag, CACHE_TAG)?;
            }
        }
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
    }
}
