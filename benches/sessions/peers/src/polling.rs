//! Servers that poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Failed;
use crate::orders;

/// The order to poll, and the one to rest: a server that polls burns a core, which the others need in their turn.
pub const ON: &str = "on";
/// See [`ON`].
pub const OFF: &str = "off";

/// Calls `poll` again and again on a thread of its own while it is told to, until there are no more orders.
pub(crate) fn obey(
    mut poll: impl FnMut() -> Result<(), Failed> + Send + 'static,
) -> Result<(), Failed> {
    let wanted = Arc::new(Wanted::default());
    let of_thread = Arc::clone(&wanted);
    let thread = thread::spawn(move || -> Result<(), Failed> {
        while !of_thread.ended.load(Ordering::Relaxed) {
            if of_thread.on.load(Ordering::Relaxed) {
                poll()?;
            } else {
                thread::park();
            }
        }
        Ok(())
    });
    let obeyed = orders::obey(|order| {
        if thread.is_finished() {
            return Err("the thread that polls has failed".into());
        }
        wanted.on.store(order == ON, Ordering::Relaxed);
        thread.thread().unpark();
        Ok(String::new())
    });
    wanted.ended.store(true, Ordering::Relaxed);
    thread.thread().unpark();
    // What the thread has is dropped by now: a peer may have to take its files away.
    thread
        .join()
        .map_err(|_| "the thread that polls panicked")??;
    obeyed
}

/// What the thread that polls is to do.
#[derive(Default)]
struct Wanted {
    on: AtomicBool,
    ended: AtomicBool,
}
