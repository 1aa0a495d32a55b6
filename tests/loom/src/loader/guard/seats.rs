//! Who sits where: each thread of a model at a place of its own, the model's.
//!
//! What a caller does is as in the real file, but for finding its place.

use std::sync::PoisonError;
use std::time::Instant;

use aigis_plugin_api::abi::Seat;
use loom::sync::{Condvar, Mutex};

use super::drain::{self, Leaves, Place, Within};
use super::fences;
use super::slot::Source;
use crate::loader::Serving;

/// As in the host: the owner fences for itself at every leave.
const FENCE: u32 = 4;

/// The places of a model, and who waits for what is left there.
pub(crate) struct Seats<const N: usize> {
    places: [Place; N],
    /// Taken, as in the host, to look at all places and to give out one.
    looking: Mutex<()>,
    leaves: Leaves,
}

impl<const N: usize> Seats<N> {
    pub(crate) fn new() -> Self {
        let place = |_| {
            let place = Place::new();
            if !aigis_plugin_api::abi::has_membarrier() {
                place.seat.ask(FENCE);
            }
            place
        };
        Self {
            places: std::array::from_fn(place),
            looking: Mutex::new(()),
            leaves: Leaves {
                count: Mutex::new(0),
                told: Condvar::new(),
            },
        }
    }

    /// Enters what `source` holds, at `place`.
    pub(crate) fn enter(&self, place: usize, source: &Source<'_>) -> *const Serving {
        let place = &self.places[place];
        let replaced = || self.leaves.replaced(place);
        let seen = place.seat.enter(|| source.load(), fences::light, replaced);
        let seen = seen.expect("the models go no deeper than a seat has frames");
        if Source::is_settled(seen) {
            return seen.cast_const().cast();
        }
        source.resolve(&place.seat, seen, replaced)
    }

    pub(crate) fn leave(&self, place: usize) {
        if self.places[place].seat.leave() {
            self.leaves.left(&self.places[place]);
        }
    }

    /// Puts up a frame at a place that nobody sits at.
    pub(crate) fn stay(&self, place: usize, serving: *const Serving) {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = || serving.cast_mut().cast();
        let entered = self.places[place].seat.enter(frame, fences::light, || ());
        assert!(entered.is_some());
    }

    pub(crate) fn wait_until_gone(&self, these: &Within) {
        let deadline: Option<Instant> = None;
        let ask = || {
            let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            drain::ask(&self.places, these)
        };
        assert!(self.leaves.wait(ask, deadline, || false));
    }
}

/// As in the host, for a thread with one place.
pub(super) fn is_inside(seat: &Seat, these: &Within) -> bool {
    seat.outer_frames().any(|frame| these.holds(frame))
}
