//! Threads that call a plugin while it is replaced again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use aigis_plugin_api::import;

import! {
    mod swapped {
        fn next(number: u64) -> u64;
    }
}

/// The threads.
#[derive(Default)]
pub(crate) struct Swapping {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    end: AtomicBool,
    /// One for each thread: a counter that all of them wrote would be what is measured.
    counts: Mutex<Vec<Arc<Count>>>,
    /// What the first call that failed said.
    first: Mutex<Option<String>>,
}

/// On a cache line of its own, or a pair of them.
#[derive(Default)]
#[repr(align(128))]
struct Count {
    /// The calls that have returned.
    calls: AtomicU64,
    /// Those that failed, or returned something else than they should.
    failed: AtomicU64,
}

impl Swapping {
    pub(crate) fn begin(&self, threads: u32) {
        let mut running = lock(&self.threads);
        for _ in 0..threads {
            let count = Arc::<Count>::default();
            lock(&self.shared.counts).push(Arc::clone(&count));
            let shared = Arc::clone(&self.shared);
            running.push(thread::spawn(move || shared.call(&count)));
        }
    }

    pub(crate) fn tally(&self) -> (u64, u64, Option<String>) {
        let counts = lock(&self.shared.counts);
        let sum = |of: fn(&Count) -> &AtomicU64| -> u64 {
            counts.iter().map(|c| of(c).load(Ordering::Relaxed)).sum()
        };
        let first = lock(&self.shared.first).clone();
        (sum(|count| &count.calls), sum(|count| &count.failed), first)
    }

    pub(crate) fn end(&self) {
        self.shared.end.store(true, Ordering::Relaxed);
        for thread in lock(&self.threads).drain(..) {
            // One that panicked has counted no further calls; what it said is in the log.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn call(&self, count: &Count) {
        let mut number = 0_u64;
        while !self.end.load(Ordering::Relaxed) {
            let mistake = match swapped::next(number) {
                Ok(next) if next == number + 1 => None,
                Ok(next) => Some(format!("{number} + 1 gave {next}")),
                Err(error) => Some(error.to_string()),
            };
            number += 1;
            count.calls.store(number, Ordering::Relaxed);
            if let Some(mistake) = mistake {
                count.failed.fetch_add(1, Ordering::Relaxed);
                lock(&self.first).get_or_insert(mistake);
            }
        }
    }
}

/// Takes a lock whose holders cannot leave anything half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
