//! Loom's atomics and locks for the guard.

pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
