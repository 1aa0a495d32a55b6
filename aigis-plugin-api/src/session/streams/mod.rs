//! The streams of a connection: those that this side consumes, and those that it makes.
//!
//! A stream belongs to a call that was opened, and goes by the number of that call. Stream 0 is what the
//! call brings, those from 1 on are its arguments, in the order of the parameters. Items are sent for
//! credit alone: the consumer grants it, in items and in bytes.

mod feed;
mod pump;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(super) use feed::{Fed, Feed, Side as FedSide};
pub(super) use pump::{Pump, Role};

use super::lock;
use super::number::ByNumber;
use crate::error::Failure;

/// How many calls of one connection may be open that the other side has opened.
pub(super) const MOST_OPEN: usize = 256;
/// How many streams the other side may send at the same time, as arguments of all these calls.
pub(super) const MOST_ARGUMENTS: usize = 64;
/// How many streams one call may bring along: no skill has more parameters.
pub(super) const MOST_STREAMS: u32 = 8;

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
    /// Something is to be sent for which there was no room.
    wants_room: AtomicBool,
    /// This side has opened a call at some time.
    used: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// What this side has opened.
    ours: ByNumber<Ours>,
    /// What the other side has opened.
    theirs: ByNumber<Theirs>,
    /// How many streams the other side sends as arguments.
    arguments: usize,
    closed: bool,
}

/// A call that this side has opened.
pub(super) struct Ours {
    pub(super) skill: String,
    pub(super) results: Arc<Feed>,
    pub(super) arguments: Vec<Arc<Pump>>,
}

/// A call that the other side has opened.
pub(super) struct Theirs {
    pub(super) results: Arc<Pump>,
    pub(super) arguments: Vec<Arc<Feed>>,
}

/// Why a call of the other side's is not taken.
pub(super) enum Untaken {
    /// Its number is that of one that is open.
    Known,
    /// There are too many.
    Full,
    /// The connection has ended.
    Closed,
}

impl Streams {
    /// Takes note of a call that this side opens; false after the end.
    pub(super) fn open(&self, number: u64, ours: Ours) -> bool {
        self.used.store(true, Ordering::Release);
        let mut table = lock(&self.table);
        if !table.closed {
            table.ours.insert(number, ours);
            return true;
        }
        drop(table);
        drop(ours);
        false
    }

    /// Takes note of a call that the other side has opened.
    pub(super) fn take(&self, number: u64, theirs: Theirs) -> Result<(), Untaken> {
        let mut table = lock(&self.table);
        let arguments = table.arguments + theirs.arguments.len();
        let untaken = if table.closed {
            Untaken::Closed
        } else if table.theirs.contains_key(&number) {
            Untaken::Known
        } else if table.theirs.len() >= MOST_OPEN || arguments > MOST_ARGUMENTS {
            Untaken::Full
        } else {
            table.arguments = arguments;
            table.theirs.insert(number, theirs);
            return Ok(());
        };
        drop(table);
        drop(theirs);
        Err(untaken)
    }

    /// Tells whether this side waits for items.
    pub(super) fn awaits_items(&self) -> bool {
        let table = lock(&self.table);
        !table.ours.is_empty() || table.arguments > 0
    }

    /// Finds where items of a stream go that come in.
    pub(super) fn feed(&self, number: u64, stream: u32) -> Option<Arc<Feed>> {
        let table = lock(&self.table);
        match stream.checked_sub(1) {
            None => table
                .ours
                .get(&number)
                .map(|ours| Arc::clone(&ours.results)),
            Some(place) => {
                let theirs = table.theirs.get(&number)?;
                theirs.arguments.get(place as usize).map(Arc::clone)
            }
        }
    }

    /// Finds what sends the items of a stream.
    pub(super) fn pump(&self, number: u64, stream: u32) -> Option<Arc<Pump>> {
        let table = lock(&self.table);
        match stream.checked_sub(1) {
            None => {
                let theirs = table.theirs.get(&number)?;
                Some(Arc::clone(&theirs.results))
            }
            Some(place) => {
                let ours = table.ours.get(&number)?;
                ours.arguments.get(place as usize).map(Arc::clone)
            }
        }
    }

    /// Forgets a call that this side has opened.
    pub(super) fn forget_ours(&self, number: u64) -> Option<Ours> {
        // Asked at every answer, of which most are those of calls.
        if !self.used.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.table).ours.remove(&number)
    }

    /// Forgets a call that the other side has opened.
    pub(super) fn forget_theirs(&self, number: u64) -> Option<Theirs> {
        let mut table = lock(&self.table);
        table.forget_theirs(number)
    }

    /// Forgets the call of the other side that `results` belongs to. Its number may be that of another by
    /// now, if the other side has given it up.
    pub(super) fn forget_this(&self, number: u64, results: &Pump) -> Option<Theirs> {
        let mut table = lock(&self.table);
        let theirs = table.theirs.get(&number)?;
        if !std::ptr::eq(Arc::as_ptr(&theirs.results), results) {
            return None;
        }
        table.forget_theirs(number)
    }

    /// Ends everything; the other side is gone.
    pub(super) fn close(&self, lost: impl Fn(&str) -> Failure) {
        let (ours, theirs) = {
            let mut table = lock(&self.table);
            table.closed = true;
            table.arguments = 0;
            (
                std::mem::take(&mut table.ours),
                std::mem::take(&mut table.theirs),
            )
        };
        for ours in ours.into_values() {
            ours.end(Err(lost(&ours.skill)));
        }
        for theirs in theirs.into_values() {
            theirs.end(&lost("the call"));
        }
    }

    /// Says that something waits for room on the way out.
    pub(super) fn want_room(&self) {
        self.wants_room.store(true, Ordering::SeqCst);
    }

    /// Goes on with what has waited for room.
    pub(super) fn has_room(&self) {
        let wanted = &self.wants_room;
        if !wanted.load(Ordering::SeqCst) || !wanted.swap(false, Ordering::SeqCst) {
            return;
        }
        let pumps: Vec<Arc<Pump>> = {
            let table = lock(&self.table);
            let ours = table.ours.values().flat_map(|ours| &ours.arguments);
            let theirs = table.theirs.values().map(|theirs| &theirs.results);
            ours.chain(theirs).map(Arc::clone).collect()
        };
        for pump in pumps {
            pump.awake();
        }
    }
}

impl Table {
    fn forget_theirs(&mut self, number: u64) -> Option<Theirs> {
        let theirs = self.theirs.remove(&number)?;
        self.arguments -= theirs.arguments.len();
        Some(theirs)
    }
}

impl Ours {
    /// Ends what the call brings, and what it takes.
    pub(super) fn end(&self, outcome: Result<(), Failure>) {
        self.results.end(outcome);
        for pump in &self.arguments {
            pump.stop(None);
        }
    }
}

impl Theirs {
    /// Gives up: nobody waits any more.
    pub(super) fn end(&self, failure: &Failure) {
        self.results.stop(None);
        self.end_arguments(failure);
    }

    /// Ends the arguments; nothing comes any more.
    pub(super) fn end_arguments(&self, failure: &Failure) {
        for feed in &self.arguments {
            feed.end(Err(failure.clone()));
        }
    }
}
