//! Switching many slots at once.
//!
//! All slots of a switch change in one instant. First each of them gets the switch's number in the
//! place of its content; whoever reads a number asks the board for the switch's phase. Setting that is
//! the one store that switches them all. Then each slot gets its new content. Readers never wait for
//! any of this. They wait only where the phase is `Held`: the state of the plugin is on its way from
//! one version to the next, and the caller is not inside of the old one.

use std::sync::{Arc, PoisonError};

use aigis_plugin_api::abi::Seat;

use super::drain::Within;
use super::seats;
use super::slot::Slot;
use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use crate::loader::Serving;

/// Which content of a slot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Old,
    New,
}

/// Where the slots of one host are switched, one switch at a time.
#[derive(Default)]
pub(crate) struct Switchboard {
    /// Held for the whole of a switch.
    turn: Mutex<()>,
    /// The number of the last switch that was begun, times four, plus its phase.
    state: AtomicU64,
    /// Who counts as inside while calls are held.
    held: Mutex<Within>,
    released: Condvar,
}

const OLD: u64 = 0;
const NEW: u64 = 1;
const HELD: u64 = 2;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a switch does to one slot.
pub(crate) struct Change {
    pub(crate) slot: Arc<Slot>,
    /// What serves the name from then on; null for nothing.
    pub(crate) next: *const Serving,
}

/// A switch under way. Dropped without [`commit`](Self::commit), everything is as it was.
pub(crate) struct Switch<'b> {
    board: &'b Switchboard,
    changes: Vec<Change>,
    committed: bool,
    _turn: MutexGuard<'b, ()>,
}

impl Switchboard {
    /// Begins a switch; waits for the one before. Callers are served by what is there. With `hold`,
    /// those that are not inside of it are made to wait.
    ///
    /// Everything that `changes` names stays where it is until the switch is over and, if it is
    /// committed, until it has been taken out of its slots again and nobody is inside.
    pub(crate) fn begin(&self, changes: Vec<Change>, hold: Option<Within>) -> Switch<'_> {
        let turn = lock(&self.turn);
        let number = (self.state.load(Ordering::SeqCst) >> 2) + 1;
        let phase = if hold.is_some() { HELD } else { OLD };
        if let Some(inside) = hold {
            *lock(&self.held) = inside;
        }
        self.state.store(number << 2 | phase, Ordering::SeqCst);
        for change in &changes {
            change.slot.begin(number, change.next);
        }
        Switch {
            board: self,
            changes,
            committed: false,
            _turn: turn,
        }
    }

    /// Tells which content counts during switch `number` for the thread that looks for a way in at
    /// `seat`; `None` when it is held, or the switch is over.
    pub(super) fn phase(&self, number: u64, seat: &Seat) -> Option<Phase> {
        let state = self.state.load(Ordering::SeqCst);
        if state >> 2 != number {
            return None;
        }
        match state & 3 {
            OLD => Some(Phase::Old),
            NEW => Some(Phase::New),
            _ => {
                let held = lock(&self.held);
                let still = self.state.load(Ordering::SeqCst) == state;
                (still && seats::is_inside(seat, &held)).then_some(Phase::Old)
            }
        }
    }

    /// Waits while calls are held by switch `number`.
    pub(super) fn wait_while_held(&self, number: u64) {
        let mut held = lock(&self.held);
        while self.state.load(Ordering::SeqCst) == number << 2 | HELD {
            held = self
                .released
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Switch<'_> {
    /// Switches, in one instant.
    pub(crate) fn commit(mut self) {
        self.committed = true;
    }
}

impl Drop for Switch<'_> {
    fn drop(&mut self) {
        let phase = if self.committed { NEW } else { OLD };
        {
            // Under the lock of those who wait, so that none of them misses it.
            let _held = lock(&self.board.held);
            let number = self.board.state.load(Ordering::SeqCst) >> 2;
            self.board
                .state
                .store(number << 2 | phase, Ordering::SeqCst);
        }
        self.board.released.notify_all();
        for change in &self.changes {
            change.slot.finish(self.committed);
        }
    }
}
