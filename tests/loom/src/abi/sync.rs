//! Loom's atomics for the seat, and few frames: each is looked at in every scan.

use std::cell::Cell;

use loom::sync::atomic::fence;
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

pub(super) const FRAMES: usize = 2;

thread_local! {
    /// Loom runs all threads of a model on one of the system's.
    static MEMBARRIER: Cell<bool> = const { Cell::new(true) };
}

/// Chooses the form for the models of this thread: with `membarrier`, which makes the light fence as
/// good as a full one, or without, where each leave is followed by one that the host asks for.
pub fn set_membarrier(is_there: bool) {
    MEMBARRIER.set(is_there);
}

pub fn has_membarrier() -> bool {
    MEMBARRIER.get()
}

pub(super) fn light_fence() {
    if has_membarrier() {
        fence(Ordering::SeqCst);
    }
}
