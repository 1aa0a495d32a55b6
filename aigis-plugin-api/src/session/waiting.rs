//! The calls that this side has made and waits for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use super::lock;
use super::number::ByNumber;
use crate::abi::OnOutcome;
use crate::error::Failure;

/// What a call has led to.
pub(super) type Outcome = Result<Vec<u8>, Failure>;

/// A thread that waits for one call.
pub(super) struct Waiter {
    mode: AtomicU8,
    outcome: Mutex<Option<Outcome>>,
    thread: Thread,
}

/// What a waiting thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// It runs, and looks at its waiter itself.
    Awake = 0,
    /// It is parked.
    Parked = 1,
    /// It reads the socket.
    Reading = 2,
}

const DONE: u8 = 3;

impl Waiter {
    fn new() -> Self {
        Self {
            mode: AtomicU8::new(Mode::Awake as u8),
            outcome: Mutex::new(None),
            thread: thread::current(),
        }
    }

    /// Returns this thread's own, as new unless it is still in use somewhere.
    fn of_this_thread() -> Arc<Self> {
        thread_local! {
            static OWN: RefCell<Arc<Waiter>> = RefCell::new(Arc::new(Waiter::new()));
        }
        OWN.with_borrow_mut(|own| {
            match Arc::get_mut(own) {
                Some(own) => {
                    *own.mode.get_mut() = Mode::Awake as u8;
                    *own.outcome
                        .get_mut()
                        .unwrap_or_else(PoisonError::into_inner) = None;
                }
                None => *own = Arc::new(Self::new()),
            }
            Arc::clone(own)
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.mode.load(Ordering::Acquire) == DONE
    }

    /// Says what the thread does from now on; `false` when the outcome is there.
    pub(super) fn set(&self, mode: Mode) -> bool {
        let mut now = self.mode.load(Ordering::Acquire);
        while now != DONE {
            let set =
                self.mode
                    .compare_exchange(now, mode as u8, Ordering::AcqRel, Ordering::Acquire);
            match set {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    pub(super) fn take(&self) -> Option<Outcome> {
        lock(&self.outcome).take()
    }

    /// Tells the thread the outcome; none when the connection is gone.
    fn complete(&self, outcome: Option<Outcome>) -> Told {
        *lock(&self.outcome) = outcome;
        match self.mode.swap(DONE, Ordering::AcqRel) {
            parked if parked == Mode::Parked as u8 => {
                self.thread.unpark();
                Told::Done
            }
            reading if reading == Mode::Reading as u8 => {
                if self.thread.id() == thread::current().id() {
                    Told::Done
                } else {
                    Told::IsReading
                }
            }
            _ => Told::Done,
        }
    }
}

/// Whether whoever waits knows of the outcome.
pub(super) enum Told {
    /// It does, or will.
    Done,
    /// It reads the socket, and has to be called away from it.
    IsReading,
    /// It wants to be told like this.
    Callback(OnOutcome, Outcome),
    /// Nobody waits any more.
    Nobody,
}

/// The number of the last call. Connections share it: who gives up a call after its connection was lost
/// must not give up another one on the next.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Returns a number for a call of this side.
pub(super) fn next_number() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

enum Waiting {
    Thread(Arc<Waiter>),
    Callback { skill: String, done: OnOutcome },
}

/// The calls that are waited for.
#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<Table>,
    /// Threads that wait and could read the socket.
    parked: Mutex<Vec<Arc<Waiter>>>,
}

#[derive(Default)]
struct Table {
    waiting: ByNumber<Waiting>,
    /// No call is taken any more.
    closed: bool,
}

impl Calls {
    /// Begins a call that this thread waits for; `None` after the end.
    pub(super) fn wait(&self) -> Option<(u64, Arc<Waiter>)> {
        let waiter = Waiter::of_this_thread();
        let number = next_number();
        let mut table = lock(&self.table);
        if table.closed {
            return None;
        }
        table
            .waiting
            .insert(number, Waiting::Thread(Arc::clone(&waiter)));
        Some((number, waiter))
    }

    /// Begins a call whose outcome `done` hears.
    ///
    /// # Errors
    /// After the end, `done` comes back.
    pub(super) fn start(&self, skill: &str, done: OnOutcome) -> Result<u64, OnOutcome> {
        let number = next_number();
        let mut table = lock(&self.table);
        if table.closed {
            return Err(done);
        }
        let skill = skill.to_owned();
        table
            .waiting
            .insert(number, Waiting::Callback { skill, done });
        Ok(number)
    }

    /// Tells whether anything is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !lock(&self.table).waiting.is_empty()
    }

    /// Hands an outcome to whoever waits for it.
    pub(super) fn complete(&self, number: u64, outcome: Outcome) -> Told {
        let waiting = lock(&self.table).waiting.remove(&number);
        told(waiting, outcome)
    }

    /// Tells whether the call still waits.
    pub(super) fn forget(&self, number: u64) -> bool {
        let waiting = lock(&self.table).waiting.remove(&number);
        waiting.is_some()
    }

    /// Takes no more calls, and ends those that wait.
    pub(super) fn close(&self, failure: impl Fn(&str) -> Failure) -> Vec<Told> {
        let waiting = {
            let mut table = lock(&self.table);
            table.closed = true;
            std::mem::take(&mut table.waiting)
        };
        let mut all = Vec::new();
        for waiting in waiting.into_values() {
            all.push(match waiting {
                // It knows what it has called.
                Waiting::Thread(waiter) => waiter.complete(None),
                Waiting::Callback { skill, done } => Told::Callback(done, Err(failure(&skill))),
            });
        }
        all
    }

    /// Lets a thread that waits be made to read the socket.
    pub(super) fn park(&self, waiter: &Arc<Waiter>) {
        lock(&self.parked).push(Arc::clone(waiter));
    }

    /// Takes it back; `false` when it has been made to, and now has to or to pass it on.
    pub(super) fn unpark(&self, waiter: &Arc<Waiter>) -> bool {
        let mut parked = lock(&self.parked);
        let place = parked.iter().position(|other| Arc::ptr_eq(other, waiter));
        place.map(|place| parked.swap_remove(place)).is_some()
    }

    /// Makes one of the threads that wait read the socket.
    pub(super) fn next_reader(&self) -> bool {
        let next = lock(&self.parked).pop();
        if let Some(next) = &next {
            next.thread.unpark();
        }
        next.is_some()
    }
}

fn told(waiting: Option<Waiting>, outcome: Outcome) -> Told {
    match waiting {
        Some(Waiting::Thread(waiter)) => waiter.complete(Some(outcome)),
        Some(Waiting::Callback { skill, done }) => {
            Told::Callback(done, outcome.map_err(|failure| failure.of_skill(&skill)))
        }
        None => Told::Nobody,
    }
}
