//! Leaves a thread-local with a destructor behind in every thread that calls it, and writes events.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::cell::RefCell;

use aigis_plugin_api::{Logger, skills};

thread_local! {
    /// The numbers that this thread brought last. A vector has a destructor, which the thread runs at its end.
    static LATEST: RefCell<Vec<u64>> = RefCell::new(Vec::with_capacity(KEPT));
}

/// How many numbers are kept, and how many calls one event is about.
const KEPT: usize = 4096;

/// What others can call.
#[skills]
pub mod swapped {
    use super::*;

    /// Returns the number after `number`.
    pub fn next(number: u64) -> u64 {
        tracing::debug!(number, "called");
        LATEST.with_borrow_mut(|latest| {
            if latest.len() == KEPT {
                tracing::info!(from = latest[0], to = number, "called often");
                latest.clear();
            }
            latest.push(number);
        });
        number + 1
    }

    /// Says that this version is over.
    pub fn cleanup(logger: &Logger) {
        logger.info(format_args!("retired"));
    }
}
