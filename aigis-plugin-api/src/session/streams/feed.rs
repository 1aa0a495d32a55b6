//! Items that come in, for their consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use super::super::frame::{self, Credit, Kind};
use super::super::link::Link;
use super::super::lock;
use crate::error::Failure;
use crate::stream::{BEGUN, Items, Next, over};

/// How many items a consumer asks for ahead, at first and at most: twice as many each time it has taken
/// half of them.
const WINDOW: (u64, u64) = (2, 64);
/// How many bytes it asks for ahead; one more item may exceed them.
const BYTES: u64 = 256 << 10;

/// Items that have come in and were not taken, and what may still come.
pub(crate) struct Feed {
    state: Mutex<State>,
}

struct State {
    items: VecDeque<Vec<u8>>,
    bytes: u64,
    /// What the producer may send.
    credit: Credit,
    window: u64,
    /// It is still to be told that the call has begun.
    begins: bool,
    end: Option<Result<(), Failure>>,
    /// The consumer is gone.
    unwanted: bool,
    waker: Option<Waker>,
}

impl Feed {
    /// Makes one; what a call brings `begins` with a word that it has begun.
    pub(crate) fn new(begins: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                credit: Credit { items: 0, bytes: 0 },
                window: WINDOW.0,
                begins,
                end: None,
                unwanted: false,
                waker: None,
            }),
        })
    }

    /// Takes an item that has come.
    ///
    /// # Errors
    /// It was not asked for.
    pub(crate) fn receive(&self, item: Vec<u8>) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        if item == BEGUN {
            if !std::mem::take(&mut state.begins) {
                return Err(frame::malformed("an item is empty"));
            }
        } else {
            if state.begins {
                return Err(frame::malformed(
                    "an item came before the word that its call has begun",
                ));
            }
            let credit = &mut state.credit;
            if credit.items == 0 || credit.bytes == 0 {
                return Err(frame::malformed("an item came that was not asked for"));
            }
            credit.items -= 1;
            credit.bytes = credit.bytes.saturating_sub(item.len() as u64);
        }
        if state.unwanted || state.end.is_some() {
            return Ok(());
        }
        state.bytes += item.len() as u64;
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Takes the end; what has come before is still handed over.
    pub(crate) fn end(&self, outcome: Result<(), Failure>) {
        let waker = {
            let mut state = lock(&self.state);
            state.end.get_or_insert(outcome);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next item, and says what to grant.
    fn poll(&self, waker: &Waker) -> (Poll<Next>, Option<Credit>) {
        let mut state = lock(&self.state);
        if let Some(item) = state.items.pop_front() {
            state.bytes -= item.len() as u64;
            let grant = if item == BEGUN { None } else { state.grant() };
            return (Poll::Ready(Ok(Some(item))), grant);
        }
        if let Some(end) = &mut state.end {
            let end = std::mem::replace(end, Err(over()));
            return (Poll::Ready(end.map(|()| None)), None);
        }
        state.waker = Some(waker.clone());
        // No item is asked for before the call has begun.
        let grant = if state.begins { None } else { state.grant() };
        (Poll::Pending, grant)
    }

    /// The consumer is gone; tells whether the producer has to know.
    fn leave(&self) -> bool {
        let left = {
            let mut state = lock(&self.state);
            state.unwanted = true;
            state.bytes = 0;
            let left = std::mem::take(&mut state.items);
            if state.end.is_some() {
                return false;
            }
            left
        };
        drop(left);
        true
    }
}

impl State {
    fn grant(&mut self) -> Option<Credit> {
        if self.end.is_some() {
            return None;
        }
        let items = self
            .window
            .saturating_sub(self.items.len() as u64 + self.credit.items);
        let bytes = BYTES.saturating_sub(self.bytes + self.credit.bytes);
        if items * 2 < self.window && bytes * 2 < BYTES {
            return None;
        }
        self.credit.items += items;
        self.credit.bytes += bytes;
        self.window = (self.window * 2).min(WINDOW.1);
        Some(Credit { items, bytes })
    }
}

/// Whose stream it is that a consumer has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// What a call of this side brings.
    Result,
    /// An argument of a call of the other side; its number, from 1.
    Argument(u32),
}

/// A stream that comes in over a connection, as its consumer has it.
pub(crate) struct Fed {
    feed: Arc<Feed>,
    link: Weak<Link>,
    number: u64,
    side: Side,
}

impl Fed {
    pub(crate) fn new(feed: Arc<Feed>, link: &Arc<Link>, number: u64, side: Side) -> Self {
        Self {
            feed,
            link: Arc::downgrade(link),
            number,
            side,
        }
    }

    fn stream(&self) -> u32 {
        match self.side {
            Side::Result => 0,
            Side::Argument(stream) => stream,
        }
    }
}

impl Items for Fed {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let (polled, grant) = self.feed.poll(context.waker());
        if let Some(grant) = grant
            && let Some(link) = self.link.upgrade()
        {
            let more = frame::encode_frame(Kind::More, self.number, self.stream(), &grant);
            // Two numbers can be encoded.
            link.send(more.unwrap_or_default());
        }
        polled
    }

    fn before_sleeping(&self) {
        if let Some(link) = self.link.upgrade() {
            link.leave_reading();
        }
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        if !self.feed.leave() {
            return;
        }
        if let Some(link) = self.link.upgrade() {
            match self.side {
                Side::Result => link.cancel_open(self.number),
                Side::Argument(stream) => {
                    let stop = frame::frame(Kind::Cancel, self.number, stream, &[]);
                    link.send(stop.unwrap_or_default());
                }
            }
        }
    }
}
