//! Loom's atomics and locks for the ring.

pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
pub(super) use loom::sync::{Mutex, MutexGuard};
