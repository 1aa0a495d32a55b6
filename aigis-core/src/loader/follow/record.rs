//! What is known of one followed library: which threads hold something of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use nix::libc;

use super::process::{self, Tid};

/// A destructor, of a thread-local or of a key's values.
pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);

/// The books of one loaded library. They outlive it.
///
/// *Clear* means: no thread of the library runs, and no thread holds anything that the library has
/// to destroy. Once no call is inside the library any more, clear is final, since nothing is left
/// that could run its code.
pub(crate) struct Followed {
    path: PathBuf,
    range: Range<usize>,
    bytes: u64,
    /// Why it cannot be followed; found while it is opened.
    gap: OnceLock<String>,
    /// While the system's loader closes it, nothing new may begin.
    closing: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that are being started: they have no number yet.
    starting: usize,
    /// How many threads it has ever started.
    started: u64,
    threads: BTreeMap<Tid, Held>,
    keys: BTreeMap<libc::pthread_key_t, Key>,
}

struct Key {
    destructor: Option<Destructor>,
    /// The threads whose value is not null.
    holders: BTreeSet<Tid>,
}

/// What one thread holds of a library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The library has started the thread, and it has not ended.
    pub(crate) is_its_own: bool,
    /// Destructors of thread-locals that have not run.
    pub(crate) thread_locals: usize,
    /// Values of keys that have not been destroyed.
    pub(crate) key_values: usize,
    /// Destructors that are running.
    running: usize,
}

/// Which threads keep a library from being closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The threads by name.
    pub(crate) threads: Vec<Holder>,
    /// Threads of the library that are being started.
    pub(crate) starting: usize,
}

/// A thread that holds something of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The thread's name.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) held: Held,
}

impl Followed {
    pub(super) fn new(path: PathBuf, range: Range<usize>, bytes: u64) -> Followed {
        Followed {
            path,
            range,
            bytes,
            gap: OnceLock::new(),
            closing: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Returns the file that the library was opened from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the addresses that it was mapped to; empty if they are not known.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Returns how many bytes of it were mapped when it was opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns why the library cannot be followed, so that it is never closed.
    pub(crate) fn gap(&self) -> Option<&str> {
        self.gap.get().map(String::as_str)
    }

    /// Tells whether any of its file is mapped. True if the system does not tell.
    pub(crate) fn is_mapped(&self) -> bool {
        process::mapped_bytes(&self.path).is_none_or(|bytes| bytes > 0)
    }

    /// Counts the threads that the library has started and that have not ended.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        let state = self.lock();
        let running = state.threads.values().filter(|held| held.is_its_own);
        state.starting + running.count()
    }

    /// Counts the threads that the library has started and that are not called `except`, at the
    /// deadline or as soon as there is none.
    pub(crate) fn wait_threads(&self, except: &str, deadline: Instant) -> usize {
        let mut state = self.lock();
        loop {
            let running = state.threads.iter().filter(|(thread, held)| {
                held.is_its_own && process::name(**thread).is_none_or(|name| name != except)
            });
            let count = state.starting + running.count();
            let left = deadline.saturating_duration_since(Instant::now());
            if count == 0 || left.is_zero() {
                return count;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts what has to be destroyed: thread-locals and values of keys, in all threads.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        let state = self.lock();
        let held = state.threads.values();
        held.map(|held| held.thread_locals + held.key_values + held.running)
            .sum()
    }

    /// Returns how many threads it has ever started.
    pub(crate) fn started(&self) -> u64 {
        self.lock().started
    }

    /// Returns who holds something of it now.
    ///
    /// # Errors
    ///
    /// The threads by name, if there are any.
    pub(crate) fn clear(&self) -> Result<(), Holding> {
        holding(&self.lock())
    }

    /// Waits until the library is clear.
    ///
    /// # Errors
    ///
    /// Who still held something at the deadline.
    pub(crate) fn wait_clear(&self, deadline: Option<Instant>) -> Result<(), Holding> {
        let mut state = self.lock();
        while !state.is_clear() {
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return holding(&state);
                    }
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(())
    }

    pub(super) fn has_gap(&self, why: String) {
        // The first reason is as good as the next.
        let _ = self.gap.set(why);
    }

    pub(super) fn contains(&self, address: usize) -> bool {
        self.range.contains(&address)
    }

    pub(super) fn overlaps(&self, other: &Range<usize>) -> bool {
        self.range.start < other.end && other.start < self.range.end
    }

    pub(super) fn set_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    // Threads.

    pub(super) fn thread_starts(&self) {
        let mut state = self.lock();
        state.starting += 1;
        state.started += 1;
    }

    pub(super) fn thread_did_not_start(&self) {
        let mut state = self.lock();
        state.starting -= 1;
        self.tell(state);
    }

    pub(super) fn thread_began(&self, thread: Tid) {
        let mut state = self.lock();
        state.starting -= 1;
        state.threads.entry(thread).or_default().is_its_own = true;
    }

    pub(super) fn thread_ended(&self, thread: Tid) {
        self.change(thread, |held| held.is_its_own = false);
        // Others wait for threads alone.
        self.changed.notify_all();
    }

    // Thread-locals.

    pub(super) fn thread_local_made(&self, thread: Tid) {
        self.change(thread, |held| held.thread_locals += 1);
    }

    pub(super) fn thread_locals_gone(&self, thread: Tid, count: usize) {
        self.change(thread, |held| held.thread_locals -= count);
    }

    // Keys.

    pub(super) fn key_made(&self, key: libc::pthread_key_t, destructor: Option<Destructor>) {
        let holders = BTreeSet::new();
        let key_state = Key {
            destructor,
            holders,
        };
        self.lock().keys.insert(key, key_state);
    }

    pub(super) fn key_deleted(&self, key: libc::pthread_key_t) {
        let mut state = self.lock();
        let holders = state.keys.remove(&key).map(|key| key.holders);
        for thread in holders.unwrap_or_default() {
            state.change(thread, |held| held.key_values -= 1);
        }
        self.tell(state);
    }

    pub(super) fn keys(&self) -> Vec<libc::pthread_key_t> {
        self.lock().keys.keys().copied().collect()
    }

    /// Notes that a thread's value of a key is something, or nothing. Returns whether the thread
    /// has to destroy it.
    pub(super) fn key_set(&self, key: libc::pthread_key_t, thread: Tid, something: bool) -> bool {
        let mut state = self.lock();
        let Some(known) = state.keys.get_mut(&key) else {
            return false;
        };
        if !something {
            if known.holders.remove(&thread) {
                state.change(thread, |held| held.key_values -= 1);
            }
            self.tell(state);
            return false;
        }
        if known.destructor.is_none() {
            return false;
        }
        if known.holders.insert(thread) {
            state.change(thread, |held| held.key_values += 1);
        }
        true
    }

    /// Takes a value off the books to destroy it; [`Followed::destroyed`] must follow.
    pub(super) fn take_key(&self, key: libc::pthread_key_t, thread: Tid) -> Option<Destructor> {
        let mut state = self.lock();
        let known = state.keys.get_mut(&key)?;
        let destructor = known.destructor?;
        if !known.holders.remove(&thread) {
            return None;
        }
        state.change(thread, |held| {
            held.key_values -= 1;
            held.running += 1;
        });
        Some(destructor)
    }

    pub(super) fn destroyed(&self, thread: Tid) {
        self.change(thread, |held| held.running -= 1);
    }

    fn change(&self, thread: Tid, change: impl FnOnce(&mut Held)) {
        let mut state = self.lock();
        state.change(thread, change);
        self.tell(state);
    }

    /// Tells whoever waits, if it is clear.
    fn tell(&self, state: MutexGuard<'_, State>) {
        if state.is_clear() {
            drop(state);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_clear(&self) -> bool {
        self.starting == 0 && self.threads.is_empty()
    }

    fn change(&mut self, thread: Tid, change: impl FnOnce(&mut Held)) {
        let held = self.threads.entry(thread).or_default();
        change(held);
        if *held == Held::default() {
            self.threads.remove(&thread);
        }
    }
}

fn holding(state: &State) -> Result<(), Holding> {
    if state.is_clear() {
        return Ok(());
    }
    let threads = state.threads.iter().map(|(&thread, &held)| Holder {
        name: process::name(thread).unwrap_or_else(|| thread.to_string()),
        held,
    });
    Err(Holding {
        threads: threads.collect(),
        starting: state.starting,
    })
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("path", &self.path)
            .field("gap", &self.gap())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.threads.iter().map(Holder::to_string).collect();
        match self.starting {
            0 => {}
            1 => parts.push("a thread that it starts has not begun".into()),
            n => parts.push(format!("{n} threads that it starts have not begun")),
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held {
            is_its_own,
            thread_locals,
            key_values,
            running,
        } = self.held;
        if is_its_own {
            // Whatever else it holds goes with it.
            return write!(f, "thread `{}`, which it started, still runs", self.name);
        }
        write!(f, "thread `{}` still ", self.name)?;
        match (thread_locals, key_values + running) {
            (0, 0) => f.write_str("ends"),
            (0, _) => f.write_str("holds values of its keys"),
            (1, _) => f.write_str("holds a thread-local"),
            (n, _) => write!(f, "holds {n} thread-locals"),
        }
    }
}
