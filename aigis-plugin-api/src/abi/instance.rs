//! The state of a plugin: one value per generation, shared by every call.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checks::State;

/// Holds the value that `new` or `restore` of a `#[skills] impl` block returned.
///
/// It is a static of the library: one per loaded generation. The host fills it before the first
/// call enters the library and empties it after the last one has left.
pub struct Instance<T> {
    value: UnsafeCell<Option<T>>,
    open: AtomicBool,
}

// SAFETY: `new`, the only way to make one, demands that `T` is `Send` and `Sync`; asked there and not
// here, a mistake is reported once. Calls share `&T` between threads (`T: Sync`); `open` and `close`
// move the value between threads (`T: Send`) while no call is inside, which is the host's promise of
// `Descriptor::close`. `save` borrows the value as a call does; by the promise of `Descriptor::save`
// no call is inside meanwhile, and neither `open` nor `close` is running.
unsafe impl<T> Sync for Instance<T> {}

impl<T> Instance<T> {
    /// Makes an empty holder.
    #[expect(
        clippy::new_without_default,
        reason = "`new` alone checks what `T` is, and in a static"
    )]
    pub const fn new() -> Self
    where
        T: State,
    {
        Self {
            value: UnsafeCell::new(None),
            open: AtomicBool::new(false),
        }
    }

    /// Puts the value in.
    pub(crate) fn open(&self, value: T) {
        assert!(
            !self.open.load(Ordering::Acquire),
            "a generation is opened once"
        );
        // SAFETY: `open` is false: no call has been let in yet, and the host opens a library on
        // one thread.
        unsafe { *self.value.get() = Some(value) };
        self.open.store(true, Ordering::Release);
    }

    /// Returns the value, or `None` before `open` and after `close`.
    pub fn get(&self) -> Option<&T> {
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `open` was seen true, so the value is there and nobody writes it while a call or
        // `save` is inside: the host closes a library after the last of them has left.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// Takes the value out again.
    pub(crate) fn close(&self) -> Option<T> {
        if !self.open.swap(false, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the swap gave this thread alone the right to take the value, and by the host's
        // promise no call is inside that could hold a reference to it.
        unsafe { (*self.value.get()).take() }
    }
}
