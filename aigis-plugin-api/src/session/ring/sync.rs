//! The ring's atomics and locks, apart: the model of it under `tests/loom` puts its own in their place.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
pub(super) use std::sync::{Mutex, MutexGuard};
