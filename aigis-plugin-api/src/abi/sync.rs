//! The atomics of the guard, apart: the model of it under `tests/loom` puts its own in their place,
//! and a size that it can go through.

pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// How many frames a seat has.
pub(super) const FRAMES: usize = 29;

/// Orders what a thread has stored before what it loads next, as far as the compiler is concerned.
///
/// For the processor, whoever looks from outside does the rest (a `membarrier`, which puts a full
/// fence into every running thread), or the host asks for a fence on every leave; see `Seat::leave`.
#[inline]
pub(super) fn light_fence() {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}
