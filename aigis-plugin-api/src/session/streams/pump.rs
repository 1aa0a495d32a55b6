//! Items that go out, for credit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::super::frame::{self, Credit, Kind, MAX_ITEM};
use super::super::incoming::{error_frame, panicked};
use super::super::link::Link;
use super::super::lock;
use super::super::turns::Turns;
use crate::error::{Failure, FailureKind, timed_out};
use crate::program::{Timer, start_timer, stop_timer};
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
    /// Rings when its time is over.
    deadline: Option<Deadline>,
}

/// A timer that is forgotten with whom it is for.
struct Deadline(Timer);

impl Drop for Deadline {
    fn drop(&mut self) {
        stop_timer(self.0);
    }
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
                deadline: None,
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

    /// Has it stopped after `time`; before it is [scheduled](Self::schedule).
    pub(crate) fn stop_after(&self, time: Duration) {
        let Some(at) = Instant::now().checked_add(time) else {
            return;
        };
        let late = Weak::clone(&self.own);
        let ring = move || {
            if let Some(pump) = late.upgrade() {
                pump.stop(Some(timed_out("the skill", time)));
            }
        };
        let deadline = Deadline(start_timer(at, Box::new(ring)));
        lock(&self.state).deadline = Some(deadline);
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
            return self.drop_items();
        };
        // The connection stays until the turn is over: without it nobody would drop the items, which may
        // have a waker that keeps this.
        let (pump, of_turn) = (Arc::clone(&self), Arc::clone(&link));
        if let Err(error) = link.reactor().submit(Box::new(move || pump.run(&of_turn))) {
            let message = format!("no thread can be started for the stream: {error}");
            self.finish(
                &link,
                Some(Err(Failure::new(FailureKind::Overloaded, message))),
            );
        }
    }

    fn run(self: Arc<Self>, link: &Link) {
        if !self.turns.begin() {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        for _ in 0..TURN {
            // Not under the lock: what drops the items is an author's code, which may wake this.
            let stopped = lock(&self.state).stopped.take();
            if let Some(failure) = stopped {
                return self.finish(link, failure.map(Err));
            }
            let goes_on = self.may_send(link)
                && match self.poll(&mut context) {
                    Poll::Pending => false,
                    Poll::Ready(next) => match self.send(link, next) {
                        Ok(()) => true,
                        Err(end) => return self.finish(link, Some(end)),
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
            if state.stopped.is_some() {
                // Its number may be that of another call already.
                return Ok(());
            }
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

    /// Drops what makes the items; whoever has the turn.
    fn drop_items(&self) {
        self.turns.end();
        let deadline = lock(&self.state).deadline.take();
        drop(deadline);
        let items = lock(&self.items).take();
        drop(items);
    }

    /// Drops what makes the items, and tells the other side how it ended, if that is to be told.
    fn finish(&self, link: &Link, end: Option<Result<(), Failure>>) {
        self.drop_items();
        match self.role {
            Role::Result => link.end_theirs(self, self.number, end),
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

    use super::super::super::frame::Call;
    use super::super::super::inbox::{Longest, Received};
    use super::super::super::incoming::{Done, Limits, Underway};
    use super::super::super::link::{End, Side};
    use super::super::super::reactor::Reactor;
    use super::*;
    use crate::stream::Items;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Has nothing to say.
    struct Silent;

    impl Side for Silent {
        fn take(&self, _: &Arc<Link>, _: Received) -> Result<(), Failure> {
            Ok(())
        }

        fn call(
            &self,
            _: &Arc<Link>,
            _: Call<'_>,
            _: Option<Duration>,
            _: Done,
        ) -> Option<Arc<dyn Underway>> {
            None
        }

        fn ended(&self, _: &End) {}
    }

    /// A link, and what is to outlive it: its other end, and its threads.
    fn link() -> (Arc<Link>, (UnixStream, Arc<Reactor>)) {
        let (near, far) = UnixStream::pair().expect("sockets");
        let reactor = Arc::new(Reactor::new(4, || {}).expect("threads"));
        let longest: Longest = |_, _| 1 << 20;
        let link = Link::new(
            near,
            Arc::clone(&reactor),
            Arc::new(Silent),
            Limits::default(),
            longest,
            PATIENCE,
        );
        (link, (far, reactor))
    }

    /// Never has an item, keeps the waker, and tells when it is asked and when it is gone.
    struct Kept {
        waker: Option<Waker>,
        asked: Sender<()>,
        /// Granted credit when this is dropped, as an author's code may have it be.
        granted: Receiver<Weak<Pump>>,
    }

    impl Items for Kept {
        fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
            self.waker = Some(context.waker().clone());
            let _ = self.asked.send(());
            Poll::Pending
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            if let Some(pump) = self.granted.try_recv().ok().and_then(|pump| pump.upgrade()) {
                pump.grant(Credit { items: 1, bytes: 1 });
            }
        }
    }

    /// A pump of such items; the receiver hears each question, and is cut off when they are gone.
    fn pump(link: &Arc<Link>) -> (Arc<Pump>, Receiver<()>) {
        let (asked, questions) = mpsc::channel();
        let (grant, granted) = mpsc::channel();
        let waker = None;
        let kept = Kept {
            waker,
            asked,
            granted,
        };
        let pump = Pump::new(link, 1, Role::Argument(1), Box::new(kept));
        grant.send(Arc::downgrade(&pump)).expect("is kept");
        pump.grant(Credit { items: 1, bytes: 1 });
        (pump, questions)
    }

    #[test]
    fn what_drops_the_items_may_reach_for_their_stream() {
        let (link, _outlives) = link();
        let (pump, questions) = pump(&link);
        pump.stop_after(PATIENCE * 100);
        Arc::clone(&pump).schedule();
        assert_eq!(questions.recv_timeout(PATIENCE), Ok(()));
        pump.stop(None);
        let gone = questions.recv_timeout(PATIENCE);
        assert_eq!(gone, Err(RecvTimeoutError::Disconnected));
        // Its own alone: the timer is forgotten.
        assert_eq!(Arc::weak_count(&pump), 1);
    }

    #[test]
    fn items_go_with_their_connection() {
        let (link, _outlives) = link();
        let (pump, questions) = pump(&link);
        let end = Arc::downgrade(&link);
        Arc::clone(&pump).schedule();
        assert_eq!(questions.recv_timeout(PATIENCE), Ok(()));
        let weak = Arc::downgrade(&pump);
        drop(pump);
        assert!(weak.upgrade().is_some(), "the waker keeps it");
        drop(link);
        // The turn may still be on its way out.
        while end.upgrade().is_some() {
            std::thread::yield_now();
        }
        if let Some(pump) = weak.upgrade() {
            pump.awake();
        }
        let gone = questions.recv_timeout(PATIENCE);
        assert_eq!(gone, Err(RecvTimeoutError::Disconnected));
        assert!(weak.upgrade().is_none(), "nothing keeps it any more");
    }
}
