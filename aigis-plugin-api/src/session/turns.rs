//! Whose turn it is to poll a future, and how that ends.
//!
//! A future is polled by one thread at a time. Wakes are counted as one until it has been polled again:
//!
//! ```text
//!          wake              a thread is free
//! idle ----------> scheduled ----------------> running --- ready ---> over
//!  ^                   ^                       |     |
//!  |                   +------ pending --- notified <- wake
//!  +------------------------------ pending ----+
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use super::incoming::Done;
use super::lock;
use crate::error::{Failure, FailureKind};

const IDLE: u8 = 0;
const SCHEDULED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
const OVER: u8 = 4;

/// Where a future is, between two polls or in one.
#[derive(Debug)]
pub struct Turns(AtomicU8);

impl Default for Turns {
    /// A thread is to poll it.
    fn default() -> Self {
        Self(AtomicU8::new(SCHEDULED))
    }
}

impl Turns {
    /// Begins a turn; `false` if there is none to begin: it is over, or somebody is at it.
    pub fn begin(&self) -> bool {
        self.change(SCHEDULED, RUNNING)
    }

    /// Ends a turn in which it was not ready; `false` if it was woken meanwhile, and has to be scheduled
    /// again.
    pub fn pause(&self) -> bool {
        let idle = self.change(RUNNING, IDLE);
        if !idle {
            self.0.store(SCHEDULED, Ordering::SeqCst);
        }
        idle
    }

    /// Hears a wake; `true` if it has to be scheduled.
    pub fn wake(&self) -> bool {
        loop {
            match self.0.load(Ordering::SeqCst) {
                IDLE if self.change(IDLE, SCHEDULED) => return true,
                RUNNING if self.change(RUNNING, NOTIFIED) => return false,
                IDLE | RUNNING => {}
                _ => return false,
            }
        }
    }

    /// Takes the turn, to end it; `false` if it is over, or whoever is at it will look again.
    pub fn take(&self) -> bool {
        loop {
            match self.0.load(Ordering::SeqCst) {
                state @ (IDLE | SCHEDULED) if self.change(state, RUNNING) => return true,
                RUNNING if self.change(RUNNING, NOTIFIED) => return false,
                IDLE | SCHEDULED | RUNNING => {}
                _ => return false,
            }
        }
    }

    /// It is over.
    pub fn end(&self) {
        self.0.store(OVER, Ordering::SeqCst);
    }

    /// Tells whether it is over.
    pub fn are_over(&self) -> bool {
        self.0.load(Ordering::SeqCst) == OVER
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// How the future of a call ends: who hears its outcome, and why it is given up before. `D` is what gives it
/// up when its time is over.
pub struct Ending<D>(Mutex<Parts<D>>);

struct Parts<D> {
    done: Option<Done>,
    given_up: Option<Failure>,
    deadline: Option<D>,
}

impl<D> Ending<D> {
    /// Has `done` hear the outcome.
    pub fn new(done: Done) -> Self {
        Self(Mutex::new(Parts {
            done: Some(done),
            given_up: None,
            deadline: None,
        }))
    }

    /// Has the future dropped at its next turn, instead of polled; `done` hears `failure`.
    pub fn give_up(&self, failure: Failure) {
        lock(&self.0).given_up.get_or_insert(failure);
    }

    /// Tells once whether to drop it instead, and why.
    pub fn given_up(&self) -> Option<Failure> {
        lock(&self.0).given_up.take()
    }

    /// Keeps the deadline until the end; after that it comes back.
    pub fn keep(&self, deadline: D) -> Option<D> {
        let mut parts = lock(&self.0);
        match parts.done {
            Some(_) => parts.deadline.replace(deadline),
            None => Some(deadline),
        }
    }

    /// Tells the outcome, once, and has the deadline stopped. `dropped` says how the drop of the future
    /// went, if there was one.
    pub fn finish(
        &self,
        outcome: Result<Vec<u8>, Failure>,
        dropped: Option<Result<(), Failure>>,
        stop: impl FnOnce(D),
    ) {
        let outcome = match (outcome, dropped) {
            // A panic in the drop says more than that it was given up.
            (Err(_), Some(Err(failure))) => Err(failure),
            (outcome, _) => outcome,
        };
        let (done, deadline) = {
            let mut parts = lock(&self.0);
            (parts.done.take(), parts.deadline.take())
        };
        if let Some(deadline) = deadline {
            stop(deadline);
        }
        if let Some(done) = done {
            done(outcome);
        }
    }
}

/// The failure of a call whose future nobody can wake any more: it would wait for ever.
pub fn stranded() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "the future waits for something that has dropped its waker, so it will never go on",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32};
    use std::thread;

    use super::*;

    #[test]
    fn wakes_are_counted_as_one_until_the_next_turn() {
        let turns = Turns::default();
        assert!(!turns.wake(), "it is scheduled already");
        assert!(turns.begin() && !turns.begin());
        assert!(!turns.wake() && !turns.wake());
        assert!(!turns.pause(), "it was woken");
        assert!(turns.begin() && turns.pause());
        assert!(turns.wake() && !turns.wake());
        assert!(turns.take() && !turns.take());
        turns.end();
        assert!(turns.are_over() && !turns.wake() && !turns.take() && !turns.begin());
    }

    /// What is set before a wake is seen by a turn, however the two meet.
    #[test]
    fn no_wake_is_lost() {
        const WAKES: u32 = 100_000;
        let (turns, set, seen) = (Turns::default(), AtomicU32::new(0), AtomicU32::new(0));
        let scheduled = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                while seen.load(Ordering::SeqCst) < WAKES {
                    if !scheduled.swap(false, Ordering::SeqCst) {
                        std::hint::spin_loop();
                        continue;
                    }
                    assert!(turns.begin());
                    seen.store(set.load(Ordering::SeqCst), Ordering::SeqCst);
                    if !turns.pause() {
                        scheduled.store(true, Ordering::SeqCst);
                    }
                }
            });
            for wake in 1..=WAKES {
                set.store(wake, Ordering::SeqCst);
                if turns.wake() {
                    scheduled.store(true, Ordering::SeqCst);
                }
            }
        });
        assert_eq!(seen.load(Ordering::SeqCst), WAKES);
    }
}
