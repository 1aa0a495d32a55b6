//! Waiting until no frame names what has been taken away.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::Instant;

use aigis_plugin_api::abi::{SEAT_FRAMES, Seat};

use super::fences;
use super::sync::{AtomicPtr, AtomicU32, Condvar, Mutex, MutexGuard, Ordering, fence};
use crate::loader::Serving;

/// Somebody waits for a frame of this seat to go.
pub(super) const LEFT: u32 = 1;

/// Somebody wants to know which frames are still the same when it looks again.
pub(super) const WATCHED: u32 = 32;

/// A seat, and what only the host knows of it.
#[repr(C)]
pub(super) struct Place {
    /// First, so that a seat that comes back is a place.
    pub(super) seat: Seat,
    /// A frame that is waited for is gone when no more than this many stand.
    waited: AtomicU32,
    /// How often a frame has been taken down at each depth while the seat was watched.
    pub(super) left: [AtomicU32; SEAT_FRAMES],
    /// The thread that sits here, as the system numbers it; 0 for none, or for one after another.
    pub(super) thread: AtomicU32,
    /// Where the same thread sits too, further out; null for nowhere.
    pub(super) outer: AtomicPtr<Place>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            seat: Seat::new(0),
            waited: AtomicU32::new(0),
            left: std::array::from_fn(|_| AtomicU32::new(0)),
            thread: AtomicU32::new(0),
            outer: AtomicPtr::new(std::ptr::null_mut()),
        }
    }
}

/// Says which frames are meant: those that point to one of these places in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Within(Vec<Range<usize>>);

impl Within {
    /// The frames that name one of `servings`.
    pub(crate) fn of(servings: &[Serving]) -> Self {
        let range = servings.as_ptr_range();
        Self(Vec::from([Range {
            start: range.start as usize,
            end: range.end as usize,
        }]))
    }

    /// The frames of any of them.
    pub(crate) fn any(all: impl IntoIterator<Item = Self>) -> Self {
        Self(all.into_iter().flat_map(|one| one.0).collect())
    }

    pub(super) fn holds(&self, frame: *mut c_void) -> bool {
        self.0.iter().any(|range| range.contains(&(frame as usize)))
    }
}

/// Counts the leaves that were waited for; its lock is taken by nobody who does not wait.
pub(super) struct Leaves {
    pub(super) count: Mutex<u64>,
    pub(super) told: Condvar,
}

impl Leaves {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // Nothing that can panic runs under this lock.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes those who wait look again.
    pub(super) fn tell(&self) {
        *self.lock() += 1;
        self.told.notify_all();
    }

    /// Waits until `ask`, which [asks](ask) all places, finds nobody inside. False when `deadline` or
    /// `give_up` came first.
    pub(super) fn wait<'p>(
        &self,
        ask: impl Fn() -> Vec<&'p Place>,
        deadline: Option<Instant>,
        give_up: impl Fn() -> bool,
    ) -> bool {
        loop {
            let seen = *self.lock();
            let mut asked: Vec<&Place> = Vec::new();
            loop {
                fences::heavy();
                let inside = ask();
                if inside.is_empty() {
                    return true;
                }
                // Who was asked only now may have left before that could be known there: one more
                // look, after another fence. Who was asked before that and is still there will tell.
                let known = |place: &&Place| asked.iter().any(|it| std::ptr::eq(*it, *place));
                if inside.iter().all(known) {
                    break;
                }
                asked.extend(inside);
            }
            let mut leaves = self.lock();
            while *leaves == seen {
                if give_up() {
                    return false;
                }
                leaves = match deadline {
                    None => self
                        .told
                        .wait(leaves)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(at) => {
                        let left = at.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            return false;
                        }
                        let woken = self.told.wait_timeout(leaves, left);
                        woken.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }
    }

    /// Tells those who wait, if they do, after `place`'s owner has left a call there. Returns what
    /// else the owner is asked for, and how many frames stand.
    pub(super) fn left(&self, place: &Place) -> (u32, usize) {
        // The leave came before this fence, the switch before the one of whoever waits: one of the
        // two sees the other.
        fence(Ordering::SeqCst);
        let asked = place.seat.answer(0);
        let standing = place.seat.frames().count();
        if asked & LEFT != 0 && standing <= place.waited.load(Ordering::SeqCst) as usize {
            place.waited.store(0, Ordering::SeqCst);
            place.seat.answer(LEFT);
            self.tell();
        }
        if asked & WATCHED != 0 {
            for left in &place.left[standing.min(SEAT_FRAMES)..] {
                left.fetch_add(1, Ordering::SeqCst);
            }
            if standing == 0 {
                place.seat.answer(WATCHED);
            }
        }
        (asked, standing)
    }

    /// Tells those who wait, if they do, after `place`'s owner has replaced a frame.
    #[cold]
    pub(super) fn replaced(&self, place: &Place) {
        if place.seat.answer(0) & LEFT != 0 {
            self.tell();
        }
    }
}

/// Asks the owners of those `places` that have a frame of `these` to tell when it goes, and returns
/// them.
pub(super) fn ask<'p>(
    places: impl IntoIterator<Item = &'p Place>,
    these: &Within,
) -> Vec<&'p Place> {
    let mut inside = Vec::new();
    for place in places {
        let frames = place.seat.frames().enumerate();
        let highest = frames.filter(|(_, frame)| these.holds(*frame)).last();
        if let Some((highest, _)) = highest {
            let highest = u32::try_from(highest).unwrap_or(u32::MAX);
            place.waited.fetch_max(highest, Ordering::SeqCst);
            place.seat.ask(LEFT);
            inside.push(place);
        }
    }
    inside
}
