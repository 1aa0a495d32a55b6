//! Telling how far a fetch is, and stopping it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::FetchError;

/// What a fetch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The server is asked what it has.
    Resolving,
    /// Git objects arrive.
    Receiving,
    /// The arrived objects are put together.
    Indexing,
    /// The files of the work tree are written.
    CheckingOut,
    /// The files of a folder are copied.
    Copying,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The objects or files done so far in this phase.
    pub done: u64,
    /// How many there are, where that is known.
    pub total: Option<u64>,
    /// The bytes received or copied so far.
    pub bytes: u64,
}

/// Is told how far a fetch is.
pub trait FetchProgress: Send + Sync {
    /// Takes the newest state; called on the fetching thread, for every object and file, so it
    /// should be quick.
    fn progress(&self, p: Progress);
}

/// The two ends that the caller of a fetch holds.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) progress: &'a dyn FetchProgress,
    pub(super) cancel: &'a AtomicBool,
}

impl Watch<'_> {
    /// Returns whether the fetch is to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Fails if the fetch is to stop.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        match self.is_cancelled() {
            true => Err(FetchError::Cancelled),
            false => Ok(()),
        }
    }

    /// Tells the caller how far the fetch is.
    pub(super) fn report(&self, phase: Phase, done: u64, total: Option<u64>, bytes: u64) {
        self.progress.progress(Progress {
            phase,
            done,
            total,
            bytes,
        });
    }
}
