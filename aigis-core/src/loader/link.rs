//! What one import of a plugin expects of a skill.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use aigis_plugin_api::__private::Expected;
use aigis_plugin_api::signature::Signature;

use super::Serving;
use super::guard::{Slot, Source};
use super::serving::Key;

/// An expectation, and the place where the skill is offered, if it is.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where calls look: the slot's content, or `pinned`.
    cell: AtomicPtr<AtomicPtr<c_void>>,
    pinned: AtomicPtr<c_void>,
    pub(super) key: Key,
    pub(crate) slot: Arc<Slot>,
    pub(crate) expected: Expected,
}

/// The servings that a generation's calls go to while the set it was replaced in drains, by name.
#[derive(Default)]
pub(crate) struct Pins(HashMap<String, *const Serving>);

// SAFETY: the addresses are only compared and handed on; whoever uses one has announced it first.
unsafe impl Send for Pins {}
// SAFETY: as above.
unsafe impl Sync for Pins {}

impl Pins {
    pub(crate) fn of(servings: impl Iterator<Item = *const Serving>) -> Self {
        let named = servings.map(|serving| {
            // SAFETY: the caller holds the generations that these belong to.
            let name = unsafe { &*serving }.offer().name.clone();
            (name, serving)
        });
        Self(named.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<*const Serving> {
        self.0.get(name).copied()
    }
}

impl Link {
    /// Makes a link in its final place: its cell may come to point into it.
    pub(crate) fn new(slot: Arc<Slot>, signature: Signature) -> Box<Self> {
        let expected = Expected::new(signature);
        Box::new(Self {
            cell: AtomicPtr::new(slot.current_cell()),
            pinned: AtomicPtr::new(ptr::null_mut()),
            key: Key::of(&expected.id),
            slot,
            expected,
        })
    }

    /// Returns where calls of this import look.
    #[inline]
    pub(crate) fn source(&self) -> Source<'_> {
        Source::at(&self.cell, &self.slot)
    }

    /// Makes calls go to `serving`, whatever the slot says.
    pub(crate) fn pin(&self, serving: *const Serving) {
        self.pinned
            .store(serving.cast_mut().cast(), Ordering::SeqCst);
        let pinned = ptr::from_ref(&self.pinned).cast_mut();
        self.cell.store(pinned, Ordering::SeqCst);
    }

    /// Makes calls go to what the slot says.
    pub(crate) fn unpin(&self) {
        self.cell.store(self.slot.current_cell(), Ordering::SeqCst);
    }
}
