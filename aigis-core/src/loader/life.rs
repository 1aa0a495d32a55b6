//! How far a generation is in its life.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where a loaded version of a library is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GenerationState {
    /// It is loaded; its `new` or its `restore` runs, or waits for its turn.
    Loaded,
    /// New calls go to it.
    Serving,
    /// It has been replaced or stopped; calls are still inside.
    Draining,
    /// The last call has left; its `cleanup` runs or has run, and what it has left in threads is being
    /// ended.
    Retired,
    /// Its code is gone from memory.
    Unmapped,
    /// Its code stays in memory; the reason says why.
    Retained,
}

/// One loaded version of a plugin's library, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// The number of the load, counted from 1.
    pub number: u64,
    /// Where it is in its life.
    pub state: GenerationState,
    /// How much memory its file takes up; 0 when it is unmapped.
    pub bytes: u64,
    /// Why it is not further, where that is not as it should be.
    pub reason: Option<String>,
}

/// The life of one generation, for whoever follows it.
#[derive(Debug)]
pub(crate) struct Life {
    status: Mutex<GenerationStatus>,
    /// Its `cleanup` has run.
    cleaned_up: AtomicBool,
    changed: Condvar,
}

impl Life {
    pub(super) fn new(number: u64, bytes: u64) -> Self {
        Self {
            status: Mutex::new(GenerationStatus {
                number,
                state: GenerationState::Loaded,
                bytes,
                reason: None,
            }),
            cleaned_up: AtomicBool::new(false),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GenerationStatus> {
        // Nothing that can panic runs under this lock.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how it is.
    pub(crate) fn status(&self) -> GenerationStatus {
        self.lock().clone()
    }

    /// Comes to a state, with what there is to say about it.
    pub(super) fn enter(&self, state: GenerationState, reason: Option<String>) {
        let mut status = self.lock();
        status.state = state;
        status.reason = reason;
        if state == GenerationState::Unmapped {
            status.bytes = 0;
        }
        drop(status);
        self.changed.notify_all();
    }

    /// Says that its `cleanup` has run.
    pub(super) fn clean_up(&self) {
        self.cleaned_up.store(true, Ordering::SeqCst);
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until it is at `state` or further, at most `limit`; returns whether it is.
    pub(crate) fn reaches(&self, state: GenerationState, limit: Duration) -> bool {
        self.wait(limit, |status| status.state >= state)
    }

    /// Waits until its `cleanup` has run, at most `limit`; returns whether it has.
    pub(crate) fn is_cleaned_up(&self, limit: Duration) -> bool {
        self.wait(limit, |_| self.cleaned_up.load(Ordering::SeqCst))
    }

    fn wait(&self, limit: Duration, done: impl Fn(&GenerationStatus) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut status = self.lock();
        while !done(&status) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(status, left);
            status = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
