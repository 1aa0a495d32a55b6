//! One build at a time, in this process and among those that share the folders.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::process::POLL;

/// Lets one build through at a time, by a lock on a file.
///
/// Cargo locks the shared target folder while it runs. This lock is held longer, until the
/// artifacts are copied out, because the next build may overwrite them: packages of the same
/// name share their file names there. Each turn opens the file anew, so that the system keeps
/// apart the builders of one process as it does processes. The threads of one builder wait for one
/// another first: unlike those who wait for the file, they are woken.
#[derive(Debug)]
pub(super) struct Turnstile {
    path: PathBuf,
    /// Whether a thread of this builder has the turn, or waits for the file.
    taken: Mutex<bool>,
    left: Condvar,
}

/// What a folder is tagged with that holds nothing but what can be made again
/// (the Cache Directory Tagging Specification).
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder holds builds of plugins; it can be deleted at any time.\n";

/// The right to build, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Is unlocked before the next thread is woken.
    file: File,
    _place: Place<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Closing it would do, but for a child that is just being started: until it has become another
        // program, it has the file open as well.
        let _ = self.file.unlock();
    }
}

/// The first place among the threads of a builder.
#[derive(Debug)]
struct Place<'a>(&'a Turnstile);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.left.notify_one();
    }
}

/// Why there is no turn.
#[derive(Debug)]
pub(super) enum NoTurn {
    Cancelled,
    File(PathBuf, io::Error),
}

impl Turnstile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            taken: Mutex::new(false),
            left: Condvar::new(),
        }
    }

    /// Waits for the turn.
    pub(super) fn wait(&self, cancel: &AtomicBool) -> Result<Turn<'_>, NoTurn> {
        let place = self.place(cancel)?;
        let fault = |error| NoTurn::File(self.path.clone(), error);
        let file = self.open().map_err(fault)?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Turn {
                        file,
                        _place: place,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(fault(error)),
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(NoTurn::Cancelled);
            }
            thread::sleep(POLL); // waiting for a file lock cannot be cancelled
        }
    }

    fn place(&self, cancel: &AtomicBool) -> Result<Place<'_>, NoTurn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if cancel.load(Ordering::Relaxed) {
                return Err(NoTurn::Cancelled);
            }
            // A cancellation wakes nobody.
            let woken = self.left.wait_timeout(taken, POLL);
            taken = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Ok(Place(self))
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
