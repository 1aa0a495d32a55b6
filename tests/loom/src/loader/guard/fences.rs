//! The fences where the system cannot be asked for a `membarrier`: both are full.

use loom::sync::atomic::{Ordering, fence};

pub(super) fn light() {
    fence(Ordering::SeqCst);
}

pub(super) fn heavy() {
    fence(Ordering::SeqCst);
}
