//! What the guard is made of, apart: the model of it under `tests/loom` puts its own in their place.

pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
