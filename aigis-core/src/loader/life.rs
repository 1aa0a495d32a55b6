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

/// A call that takes longer than its plugin's `CALL_TIMEOUT`, as `aigis status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowCall {
    /// The full name of the skill.
    pub skill: String,
    /// The name of the thread that it runs on.
    pub thread: String,
    /// For how many milliseconds it has been seen to run.
    pub age_ms: u64,
    /// The number of the load that it runs in.
    pub generation: u64,
}

/// A call that takes long.
#[derive(Debug)]
pub(super) struct Slow {
    pub(super) skill: String,
    pub(super) thread: String,
    pub(super) since: Instant,
}

/// The life of one generation, for whoever follows it.
#[derive(Debug)]
pub(crate) struct Life {
    status: Mutex<GenerationStatus>,
    /// Its `cleanup` has run.
    cleaned_up: AtomicBool,
    changed: Condvar,
    /// The calls that take long, at the last look.
    slow: Mutex<Vec<Slow>>,
}

impl Life {
    pub(crate) fn new(number: u64, bytes: u64) -> Self {
        Self {
            status: Mutex::new(GenerationStatus {
                number,
                state: GenerationState::Loaded,
                bytes,
                reason: None,
            }),
            cleaned_up: AtomicBool::new(false),
            changed: Condvar::new(),
            slow: Mutex::default(),
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

    /// Says which calls take long now.
    pub(super) fn has_slow(&self, calls: Vec<Slow>) {
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = calls;
    }

    /// Returns the calls that take long, the oldest first.
    pub(crate) fn slow_calls(&self) -> Vec<SlowCall> {
        let generation = self.lock().number;
        let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls: Vec<SlowCall> = slow
            .iter()
            .map(|call| SlowCall {
                skill: call.skill.clone(),
                thread: call.thread.clone(),
                age_ms: u64::try_from(call.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                generation,
            })
            .collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.age_ms));
        calls
    }

    /// Comes to a state, with what there is to say about it.
    pub(crate) fn enter(&self, state: GenerationState, reason: Option<String>) {
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
    pub(crate) fn clean_up(&self) {
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
