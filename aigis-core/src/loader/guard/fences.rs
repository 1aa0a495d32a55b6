//! The two fences of the guard: one for those who call, one for those who switch.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

use rustix::thread::{MembarrierCommand, membarrier};

/// Whether every thread must fence for itself, because the system cannot be asked to.
static FULL: AtomicBool = AtomicBool::new(true);

/// Finds out what the system can do. Comes before the first use of the light fence on a thread.
pub(super) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let asked = membarrier(MembarrierCommand::RegisterPrivateExpedited)
            .and_then(|()| membarrier(MembarrierCommand::PrivateExpedited));
        FULL.store(asked.is_err(), Ordering::SeqCst);
    });
}

/// Tells whether leaving a call takes a full fence too, which the caller's side must ask for.
pub(super) fn every_thread_fences() -> bool {
    FULL.load(Ordering::Relaxed)
}

/// Tells whether every thread fences for itself, once that has been found out.
pub(in crate::loader) fn are_everywhere() -> bool {
    prepare();
    every_thread_fences()
}

/// Comes between a caller's announcement and its second look.
#[inline]
pub(super) fn light() {
    if every_thread_fences() {
        light_if::<true>();
    } else {
        light_if::<false>();
    }
}

/// Does the same where it is known whether every thread fences for itself.
#[inline]
pub(super) fn light_if<const FENCED: bool>() {
    if FENCED {
        fence(Ordering::SeqCst);
    } else {
        // The switching thread's `membarrier` makes this thread pass a full fence at some point
        // between two of its instructions. If that is before the announcement is visible, the second
        // look comes after it and sees what was switched; else the announcement is seen. What is left
        // to do here is to keep the compiler from turning the two around.
        compiler_fence(Ordering::SeqCst);
    }
}

/// Comes between a switch and the look at who is still inside.
pub(super) fn heavy() {
    prepare();
    if every_thread_fences() {
        fence(Ordering::SeqCst);
        return;
    }
    // It cannot fail once it has succeeded: the registration is the process's for good.
    let fenced = membarrier(MembarrierCommand::PrivateExpedited);
    assert!(fenced.is_ok(), "membarrier was there before: {fenced:?}");
}
