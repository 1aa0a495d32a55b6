//! The place of one name: callers find there what serves it now.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use aigis_plugin_api::abi::Seat;

use super::switch::{Phase, Switchboard};
use super::{fences, seats};
use crate::loader::Serving;

/// The place of one name. It outlives every plugin that offers it, so whoever has found it once need
/// not look it up again.
///
/// `current` is null (nobody offers the name), the address of a [`Serving`], or, being odd, the number
/// of a switch under way that says which of `old` and `next` it is; see [`Switchboard`].
pub(crate) struct Slot {
    name: String,
    current: AtomicPtr<c_void>,
    /// Where `current` is; what an import that is not pinned reads.
    cell: AtomicPtr<AtomicPtr<c_void>>,
    old: AtomicPtr<c_void>,
    next: AtomicPtr<c_void>,
    board: Arc<Switchboard>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where a caller looks: a slot, or what an import has been pinned to.
#[derive(Clone, Copy)]
pub(crate) struct Source<'s> {
    cell: &'s AtomicPtr<AtomicPtr<c_void>>,
    slot: &'s Slot,
}

impl Slot {
    /// Makes the place of a name that nobody offers.
    pub(crate) fn new(name: &str, board: &Arc<Switchboard>) -> Arc<Self> {
        let slot = Arc::new(Self {
            name: name.to_owned(),
            current: AtomicPtr::new(ptr::null_mut()),
            cell: AtomicPtr::new(ptr::null_mut()),
            old: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
            board: Arc::clone(board),
        });
        slot.cell.store(slot.current_cell(), Ordering::SeqCst);
        slot
    }

    /// Returns the full name of the skill.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the slot as somewhere to look.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            cell: &self.cell,
            slot: self,
        }
    }

    /// Returns the address of what changes, for imports.
    pub(crate) fn current_cell(&self) -> *mut AtomicPtr<c_void> {
        ptr::from_ref(&self.current).cast_mut()
    }

    /// Puts the number of a switch in the place of what is there, which becomes `old`.
    pub(super) fn begin(&self, number: u64, next: *const Serving) {
        let old = self.current.load(Ordering::SeqCst);
        self.old.store(old, Ordering::SeqCst);
        self.next.store(next.cast_mut().cast(), Ordering::SeqCst);
        self.current.store(mark(number), Ordering::SeqCst);
    }

    /// Puts in its place what the switch has come to.
    pub(super) fn finish(&self, committed: bool) {
        let place = if committed { &self.next } else { &self.old };
        let settled = place.load(Ordering::SeqCst);
        self.current.store(settled, Ordering::SeqCst);
        self.old.store(ptr::null_mut(), Ordering::SeqCst);
        self.next.store(ptr::null_mut(), Ordering::SeqCst);
    }
}

/// The content of a slot during switch `number`.
fn mark(number: u64) -> *mut c_void {
    ptr::without_provenance_mut((usize::try_from(number).unwrap_or(usize::MAX) << 1) | 1)
}

impl<'s> Source<'s> {
    /// Looks where `cell` points: to the content of `slot`, or to a pin that lives as long as `cell`.
    pub(crate) fn at(cell: &'s AtomicPtr<AtomicPtr<c_void>>, slot: &'s Slot) -> Self {
        Self { cell, slot }
    }

    /// Reads what is there now.
    #[inline]
    pub(super) fn load(&self) -> *mut c_void {
        let cell = self.cell.load(Ordering::Acquire);
        // SAFETY: a cell is that of a slot or of an import's pin, both of which live as long as the
        // `Slot` and the `Link` that `self` borrows: a slot's points to itself, a link's to its own
        // pin or to the slot that it holds an `Arc` of.
        unsafe { &*cell }.load(Ordering::Acquire)
    }

    /// Tells whether what was read is a serving or null, and not the number of a switch.
    #[inline]
    pub(super) fn is_settled(content: *mut c_void) -> bool {
        content as usize & 1 == 0
    }

    /// Finds out what a switch under way means for the thread that sits at `seat`, whose innermost
    /// frame is this call's; waits where the plugin's state is being handed over.
    #[cold]
    pub(super) fn resolve(&self, seat: &Seat, mut content: *mut c_void) -> *const Serving {
        loop {
            let meant = self.meant(seat, content);
            // As in `Seat::enter`: announced, then looked at again.
            seat.replace(meant);
            fences::light();
            seats::frame_replaced(seat);
            content = self.load();
            let again = self.meant(seat, content);
            if again == meant {
                return meant.cast_const().cast();
            }
        }
    }

    fn meant(&self, seat: &Seat, mut content: *mut c_void) -> *mut c_void {
        while !Self::is_settled(content) {
            let number = (content as usize >> 1) as u64;
            content = match self.slot.board.phase(number, seat) {
                Some(Phase::Old) => self.slot.during(content, &self.slot.old),
                Some(Phase::New) => self.slot.during(content, &self.slot.next),
                // It is over, or the wait for it is.
                None => self.load(),
            };
        }
        content
    }
}

impl Slot {
    /// Reads `place`, which belongs to the switch that `content` is the number of; what is in the slot
    /// now, when that is over.
    fn during(&self, content: *mut c_void, place: &AtomicPtr<c_void>) -> *mut c_void {
        let found = place.load(Ordering::SeqCst);
        let now = self.current.load(Ordering::SeqCst);
        if now == content { found } else { now }
    }
}
