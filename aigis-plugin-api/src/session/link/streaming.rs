//! Calls that are opened: their results, and some of their arguments, come item by item.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Link, Outgoing};
use crate::error::{Failure, FailureKind};
use crate::session::frame::{self, Credit, Kind, Open};
use crate::session::inbox::Received;
use crate::session::incoming::{check_number, error_frame, overloaded};
use crate::session::outbox::{Packet, Written};
use crate::session::streams::{
    Fed, FedSide, Feed, MOST_STREAMS, Ours, Pump, Role, Theirs, Untaken,
};
use crate::session::waiting::next_number;
use crate::stream::{BoxItems, failed, lazily, seen};

/// Streams.
impl Link {
    /// Lets both sides open calls.
    pub fn stream(&self) {
        self.streams_agreed.store(true, Ordering::Relaxed);
    }

    fn streams(&self) -> bool {
        self.streams_agreed.load(Ordering::Relaxed)
    }

    /// Opens a call; `streams` are the arguments that are streams.
    pub fn open(
        &self,
        call: Outgoing<'_>,
        timeout: Option<Duration>,
        streams: Vec<BoxItems>,
    ) -> BoxItems {
        let skill = call.skill;
        let Some(me) = self.me.upgrade() else {
            return failed(self.gone(skill));
        };
        if !self.streams() {
            let message = format!(
                "{} does not know streams, so {skill} cannot be called: it was built with an older \
                 version of AIGIS",
                self.side.other()
            );
            return failed(Failure::new(FailureKind::Refused, message).of_skill(skill));
        }
        let number = next_number();
        let results = Feed::new(true);
        let pumps = streams.into_iter().zip(1..);
        let arguments: Vec<Arc<Pump>> = pumps
            .map(|(items, stream)| Pump::new(&me, number, Role::Argument(stream), items))
            .collect();
        let open = Open {
            call: call.call,
            streams: u32::try_from(arguments.len()).unwrap_or(u32::MAX),
        };
        let head = match open.head(number, timeout, call.tail.len()) {
            Ok(head) => head,
            Err(failure) => return failed(failure.of_skill(skill)),
        };
        let ours = Ours {
            skill: skill.to_owned(),
            results: Arc::clone(&results),
            arguments: arguments.clone(),
        };
        // Before it goes out: the answer may come at once.
        if !self.streams.open(number, ours) {
            return failed(self.gone(skill));
        }
        // Never through the ring: what follows goes over the socket.
        self.push(Packet::new(head, call.tail.to_vec()));
        // Nothing more may have been read, for want of room; what this side waits for is.
        self.read_on();
        for pump in arguments {
            pump.schedule();
        }
        Box::new(Fed::new(results, &me, number, FedSide::Result))
    }

    /// Gives up on a call that was opened.
    pub(in crate::session) fn cancel_open(&self, number: u64) {
        if let Some(ours) = self.streams.forget_ours(number) {
            for pump in &ours.arguments {
                pump.stop(None);
            }
            self.send(frame::frame(Kind::Cancel, number, 0, &[]).unwrap_or_default());
        }
    }

    /// Takes the outcome of a call of this side if it was opened; else it comes back.
    pub(super) fn end_ours(&self, number: u64, outcome: Result<(), Failure>) -> bool {
        let Some(ours) = self.streams.forget_ours(number) else {
            return false;
        };
        ours.end(outcome);
        true
    }

    /// Forgets the call of the other side that `results` belongs to, which is over, and tells it how it
    /// ended, if that is to be told.
    pub(in crate::session) fn end_theirs(
        &self,
        results: &Pump,
        number: u64,
        end: Option<Result<(), Failure>>,
    ) {
        let Some(theirs) = self.streams.forget_this(number, results) else {
            return;
        };
        if let Some(end) = end {
            self.send(Pump::last_frame(number, end));
        }
        let message = "the call that the stream belongs to is over";
        theirs.end_arguments(&Failure::new(FailureKind::Cancelled, message));
    }

    /// The other side no longer waits for a call that it has opened.
    pub(super) fn cancel_theirs(&self, number: u64) {
        if let Some(theirs) = self.streams.forget_theirs(number) {
            let message = "the caller gave the call up";
            theirs.end(&Failure::new(FailureKind::Cancelled, message));
        }
    }

    /// Tells whether items may be sent; if not, whoever has some is woken when there is room.
    pub(in crate::session) fn has_room_for_items(&self) -> bool {
        let is_full = || matches!(self.outbox.state().0, Written::Left(_));
        if !is_full() {
            return true;
        }
        self.streams.want_room();
        // What was written meanwhile has woken nobody.
        !is_full()
    }

    /// Sees to it that somebody reads: this thread is about to wait for what comes.
    pub(in crate::session) fn leave_reading(&self) {
        if !self.is_lent() {
            self.read_on();
        } else if let Some(inbox) = self.try_inbox() {
            self.give_back();
            drop(inbox);
            self.resume();
        }
    }

    /// Has the reactor read on: there may have been no room, and now it is waited for what comes.
    fn read_on(&self) {
        if !self.has_room_for_calls() {
            self.watch_again();
            self.resume();
        }
    }

    /// Takes a frame that is about a stream.
    pub(super) fn receive_streaming(&self, me: &Arc<Self>, frame: Received) -> Result<(), Failure> {
        let header = frame.header;
        if !self.streams() {
            return Err(frame::malformed(format_args!(
                "a frame of kind {:?} is for sessions with the feature `{}`, which this one has not",
                header.kind,
                frame::feature::STREAMS
            )));
        }
        // The place of the time in these frames.
        let (number, stream) = (header.call, header.timeout_ms);
        match header.kind {
            Kind::Open => self.opened(me, frame),
            Kind::Item => match self.streams.feed(number, stream) {
                Some(feed) => feed.receive(frame.body),
                // It was given up meanwhile.
                None => Ok(()),
            },
            Kind::More => {
                let credit: Credit = frame::decode_body(&frame.body)?;
                if let Some(pump) = self.streams.pump(number, stream) {
                    pump.grant(credit);
                }
                Ok(())
            }
            Kind::End => {
                if stream == 0 {
                    return Err(frame::malformed(
                        "an end is that of an argument, numbered from 1, this one is 0",
                    ));
                }
                let end = match frame.body.as_slice() {
                    [] => Ok(()),
                    failure => Err(Failure::decode(failure)),
                };
                if let Some(feed) = self.streams.feed(number, stream) {
                    feed.end(end);
                }
                Ok(())
            }
            kind => Err(frame::malformed(format_args!(
                "{kind:?} is about no stream"
            ))),
        }
    }

    /// Takes a call that the other side has opened.
    fn opened(&self, me: &Arc<Self>, frame: Received) -> Result<(), Failure> {
        let (number, body) = (frame.header.call, frame.body);
        let open = Open::read(&body)?;
        check_number(number)?;
        if open.streams > MOST_STREAMS {
            return Err(frame::malformed(format_args!(
                "a call has at most {MOST_STREAMS} streams, this one has {}",
                open.streams
            )));
        }
        self.side.check(&open.call)?;
        let Some(place) = self.incoming.open(body.len()) else {
            self.refuse_open(number);
            return Ok(());
        };
        let feeds: Vec<Arc<Feed>> = (0..open.streams).map(|_| Feed::new(false)).collect();
        let streams = feeds.iter().zip(1..);
        let streams: Vec<BoxItems> = streams
            .map(|(feed, stream)| {
                let side = FedSide::Argument(stream);
                Box::new(Fed::new(Arc::clone(feed), me, number, side)) as BoxItems
            })
            .collect();
        let timeout = match frame.header.timeout_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        };
        let link = Arc::downgrade(me);
        let items = lazily(move || {
            let Some(link) = link.upgrade() else {
                return failed(Failure::new(FailureKind::Cancelled, "the caller is gone"));
            };
            match Open::read(&body) {
                Ok(open) => link.side().open(&link, open.call, streams, timeout),
                Err(failure) => failed(failure),
            }
        });
        // With the items, and not with the number: what was given up goes on until they are dropped.
        let items = seen(items, place, |failure| failure);
        let pump = Pump::new(me, number, Role::Result, items);
        let theirs = Theirs {
            results: Arc::clone(&pump),
            arguments: feeds,
        };
        match self.streams.take(number, theirs) {
            Ok(()) => {}
            Err(Untaken::Closed) => return Ok(()),
            Err(Untaken::Known) => {
                return Err(frame::malformed(format_args!(
                    "a call of number {number} is open already"
                )));
            }
            Err(Untaken::Full) => {
                self.refuse_open(number);
                return Ok(());
            }
        }
        if let Some(timeout) = timeout {
            pump.stop_after(timeout);
        }
        pump.schedule();
        Ok(())
    }

    fn refuse_open(&self, number: u64) {
        let why = "this session, or all of them together, has as many streams open as it may";
        self.send(error_frame(number, &overloaded(why)));
    }
}
