//! Items that go out, for credit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::super::frame::{self, Credit, Kind, MAX_ITEM};
use super::super::incoming::{error_frame, panicked};
use super::super::link::Link;
use super::super::lock;
use super::super::turns::Turns;
use crate::error::{Failure, FailureKind};
use crate::stream::{BEGUN, BoxItems, Next};

/// How many items one turn sends before others have theirs.
const TURN: usize = 64;

/// What a stream is to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What a call of the other side brings.
    Result,
    /// An argument of a call of this side; its number, from 1.
    Argument(u32),
}

/// Sends the items of one stream.
pub(crate) struct Pump {
    own: Weak<Self>,
    link: Weak<Link>,
    number: u64,
    role: Role,
    turns: Turns,
    /// Locked by whoever has the turn, so nobody waits for it.
    items: Mutex<Option<BoxItems>>,
    state: Mutex<State>,
}

struct State {
    credit: Credit,
    /// It was told that the call has begun, or need not be.
    begun: bool,
    /// It is to end; with what the other side is to hear.
    stopped: Option<Option<Failure>>,
}

impl Pump {
    /// Makes one; it waits for [`schedule`](Self::schedule).
    pub(crate) fn new(link: &Arc<Link>, number: u64, role: Role, items: BoxItems) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            link: Arc::downgrade(link),
            number,
            role,
            turns: Turns::default(),
            items: Mutex::new(Some(items)),
            state: Mutex::new(State {
                credit: Credit { items: 0, bytes: 0 },
                begun: role != Role::Result,
                stopped: None,
            }),
        })
    }

    /// Takes credit.
    pub(crate) fn grant(&self, credit: Credit) {
        {
            let mut state = lock(&self.state);
            let now = &mut state.credit;
            now.items = now.items.saturating_add(credit.items);
            now.bytes = now.bytes.saturating_add(credit.bytes);
        }
        self.awake();
    }

    /// Ends it: what makes the items is dropped soon. The other side hears `failure`, if there is one.
    pub(crate) fn stop(&self, failure: Option<Failure>) {
        lock(&self.state).stopped.get_or_insert(failure);
        self.awake();
    }

    /// Goes on with it soon.
    pub(crate) fn awake(&self) {
        if self.turns.wake()
            && let Some(pump) = self.own.upgrade()
        {
            pump.schedule();
        }
    }

    /// Has a thread that may block go on with it.
    pub(crate) fn schedule(self: Arc<Self>) {
        let Some(link) = self.link.upgrade() else {
            return;
        };
        let pump = Arc::clone(&self);
        if let Err(error) = link.reactor().submit(Box::new(move || pump.run())) {
            let message = format!("no thread can be started for the stream: {error}");
            self.finish(
                &link,
                Some(Err(Failure::new(FailureKind::Overloaded, message))),
            );
        }
    }

    fn run(self: Arc<Self>) {
        let Some(link) = self.link.upgrade() else {
            return;
        };
        if !self.turns.begin() {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        for _ in 0..TURN {
            if let Some(failure) = lock(&self.state).stopped.take() {
                return self.finish(&link, failure.map(Err));
            }
            let goes_on = self.may_send(&link)
                && match self.poll(&mut context) {
                    Poll::Pending => false,
                    Poll::Ready(next) => match self.send(&link, next) {
                        Ok(()) => true,
                        Err(end) => return self.finish(&link, Some(end)),
                    },
                };
            if !goes_on {
                if !self.turns.pause() {
                    self.schedule();
                }
                return;
            }
        }
        // Others have their turn first. What has come meanwhile is seen then.
        if self.turns.pause() {
            self.awake();
        } else {
            self.schedule();
        }
    }

    /// Tells whether there is credit for an item, and room.
    fn may_send(&self, link: &Link) -> bool {
        let state = lock(&self.state);
        let has_credit = state.credit.items > 0 && state.credit.bytes > 0;
        if state.begun && !has_credit {
            return false;
        }
        drop(state);
        link.has_room_for_items()
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Next> {
        let mut items = lock(&self.items);
        let Some(items) = &mut *items else {
            return Poll::Ready(Ok(None));
        };
        // An author's code is contained where it is; this thread is to outlive whatever else fails.
        let polled = catch_unwind(AssertUnwindSafe(|| items.poll_next(context)));
        polled.unwrap_or_else(|payload| Poll::Ready(Err(panicked("a stream", payload))))
    }

    /// Sends what came; the end comes back.
    fn send(&self, link: &Link, next: Next) -> Result<(), Result<(), Failure>> {
        let item = match next {
            Ok(Some(item)) => item,
            Ok(None) => return Err(Ok(())),
            Err(failure) => return Err(Err(failure)),
        };
        if item.len() > MAX_ITEM {
            let message = format!(
                "an item of {} bytes cannot be sent, at most {MAX_ITEM} can; send it in parts",
                item.len()
            );
            return Err(Err(Failure::new(FailureKind::TooLarge, message)));
        }
        {
            let mut state = lock(&self.state);
            if item == BEGUN {
                if std::mem::replace(&mut state.begun, true) {
                    // Further on it was told already.
                    return Ok(());
                }
            } else if !state.begun {
                let message = "an item came before the word that its call has begun";
                return Err(Err(Failure::new(FailureKind::Internal, message)));
            } else {
                state.credit.items = state.credit.items.saturating_sub(1);
                state.credit.bytes = state.credit.bytes.saturating_sub(item.len() as u64);
            }
        }
        match frame::frame(Kind::Item, self.number, self.stream(), &item) {
            Ok(frame) => link.send(frame),
            Err(failure) => return Err(Err(failure)),
        }
        Ok(())
    }

    fn stream(&self) -> u32 {
        match self.role {
            Role::Result => 0,
            Role::Argument(stream) => stream,
        }
    }

    /// Drops what makes the items, and tells the other side how it ended, if that is to be told.
    fn finish(&self, link: &Link, end: Option<Result<(), Failure>>) {
        self.turns.end();
        let items = lock(&self.items).take();
        drop(items);
        match self.role {
            Role::Result => link.end_theirs(self.number, end),
            Role::Argument(stream) => {
                let Some(end) = end else { return };
                let body = end.err().map(|failure| failure.encode());
                let body = body.unwrap_or_default();
                let frame = frame::frame(Kind::End, self.number, stream, &body);
                link.send(frame.unwrap_or_default());
            }
        }
    }

    /// The frame that ends what a call brings.
    pub(crate) fn last_frame(number: u64, end: Result<(), Failure>) -> Vec<u8> {
        const NIL: &[u8] = &[0xc0];
        match end {
            Ok(()) => frame::frame(Kind::Reply, number, 0, NIL).unwrap_or_default(),
            Err(failure) => error_frame(number, &failure),
        }
    }
}

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        self.awake();
    }
}
