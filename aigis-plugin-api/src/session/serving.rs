//! What this process serves: calls that a core makes of its skills.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::frame::{Offer, OfferedSkill};
use super::incoming::{Done, Underway};
use super::lock;
use super::reactor::Reactor;
use super::turns::{Ending, Turns, stranded};
use crate::error::{Failure, FailureKind, cancelled, timed_out};
use crate::library::Running;
use crate::program::{Timer, start_timer, stop_timer};
use crate::skill::Skill;
use crate::stream::items::wait;
use crate::stream::{BoxItems, Flow, Streams, begun, failed, single};

/// What a process serves. Every method may be called from any thread.
pub trait Serve: Send + Sync {
    /// Says what is served, to a core.
    fn offer(&self) -> Offer;

    /// Runs a call on this thread, which may block, or begins it; `done` hears its outcome once, here or,
    /// when what is underway is returned, later on another thread that may block.
    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        reactor: &Arc<Reactor>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Opens a call; `streams` are the arguments that are streams. May block.
    fn open(&self, name: &str, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems;

    /// Takes no further call.
    fn close(&self);
}

/// The skills of this process.
pub(super) struct Skills {
    by_name: HashMap<&'static str, &'static Skill>,
    /// They are about to be closed: no further call is taken.
    closing: AtomicBool,
}

impl Skills {
    pub(super) fn new(skills: &[&'static Skill]) -> Self {
        Self {
            by_name: skills.iter().map(|skill| (skill.name, *skill)).collect(),
            closing: AtomicBool::new(false),
        }
    }
}

impl Serve for Skills {
    fn offer(&self) -> Offer {
        let mut skills: Vec<_> = self.by_name.values().map(|skill| offered(skill)).collect();
        skills.sort_by(|a, b| a.name.cmp(&b.name));
        Offer { skills }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        reactor: &Arc<Reactor>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        if self.closing.load(Ordering::SeqCst) {
            done(Err(ending(name)));
            return None;
        }
        let Some(skill) = self.by_name.get(name) else {
            done(Err(unserved(name)));
            return None;
        };
        let Some(begin) = skill.begin else {
            let outcome = (skill.encoded)(skill.parameters, arguments);
            done(outcome.map_err(|failure| failure.of_skill(name)));
            return None;
        };
        let future = begin(skill.parameters, arguments.to_vec());
        let polled = Polled::new(Running::new(skill.name, future), reactor, done);
        if let Some(timeout) = timeout {
            polled.give_up_after(timeout, timed_out(name, timeout));
        }
        polled.run();
        Some(Arc::new(GoesOn(polled)))
    }

    fn open(&self, name: &str, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems {
        if self.closing.load(Ordering::SeqCst) {
            return failed(ending(name));
        }
        let Some(skill) = self.by_name.get(name) else {
            return failed(unserved(name));
        };
        if let Some(open) = skill.open {
            let opening = open(skill.parameters, arguments.to_vec(), Streams::new(streams));
            return Box::new(Flow::opening(skill.name, opening));
        }
        // One without streams brings its result.
        let name = skill.name;
        let outcome = match skill.begin {
            None => (skill.encoded)(skill.parameters, arguments),
            Some(begin) => {
                let future = begin(skill.parameters, arguments.to_vec());
                let mut running = Running::new(name, future);
                wait(|context| running.poll(context.waker()))
            }
        };
        match outcome {
            Ok(result) => begun(single(result)),
            Err(failure) => failed(failure.of_skill(name)),
        }
    }
}

fn offered(skill: &Skill) -> OfferedSkill {
    OfferedSkill {
        name: skill.name.to_owned(),
        doc: skill.doc.to_owned(),
        signature: (skill.signature)(),
        idempotent: skill.idempotent,
    }
}

/// The failure of a call that comes too late.
pub fn ending(name: &str) -> Failure {
    let message = format!("the process that serves {name} is ending; it was not called");
    Failure::new(FailureKind::Unavailable, message).of_skill(name)
}

/// The failure of a call of what this process does not serve.
pub fn unserved(name: &str) -> Failure {
    let message = format!("this process does not serve `{name}`");
    Failure::new(FailureKind::NotFound, message).of_skill(name)
}

/// A call of an async skill, polled on the threads of the reactor.
struct Polled {
    turns: Turns,
    /// Locked by whoever has the turn, so nobody waits for it.
    running: Mutex<Option<Running>>,
    ending: Ending<Timer>,
    reactor: Arc<Reactor>,
}

impl Polled {
    fn new(running: Running, reactor: &Arc<Reactor>, done: Done) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::default(),
            running: Mutex::new(Some(running)),
            ending: Ending::new(done),
            reactor: Arc::clone(reactor),
        })
    }

    /// Polls it on this thread.
    fn run(self: &Arc<Self>) {
        if !self.turns.begin() {
            return;
        }
        if let Some(failure) = self.ending.given_up() {
            return self.finish(Err(failure));
        }
        let waker = Waker::from(Arc::clone(self));
        let polled = match &mut *lock(&self.running) {
            Some(running) => running.poll(&waker),
            None => return,
        };
        drop(waker);
        match polled {
            Poll::Ready(outcome) => self.finish(outcome),
            Poll::Pending if self.turns.pause() => {}
            // Others have their turn first.
            Poll::Pending => self.schedule(),
        }
    }

    /// Has a thread poll it.
    fn schedule(self: &Arc<Self>) {
        let polled = Arc::clone(self);
        if let Err(error) = self.reactor.submit(Box::new(move || polled.run())) {
            let message = format!("no thread can be started for the call: {error}");
            self.finish(Err(Failure::new(FailureKind::Overloaded, message)));
        }
    }

    fn awake(self: &Arc<Self>) {
        if self.turns.wake() {
            self.schedule();
        }
    }

    /// Has it dropped soon, unless it is over; its caller hears `failure`.
    fn give_up(self: &Arc<Self>, failure: Failure) {
        self.ending.give_up(failure);
        self.awake();
    }

    fn give_up_after(self: &Arc<Self>, time: Duration, failure: Failure) {
        let Some(at) = Instant::now().checked_add(time) else {
            return;
        };
        let polled = Arc::downgrade(self);
        let ring = move || {
            if let Some(polled) = polled.upgrade() {
                polled.give_up(failure);
            }
        };
        if let Some(late) = self.ending.keep(start_timer(at, Box::new(ring))) {
            stop_timer(late);
        }
    }

    fn finish(&self, outcome: Result<Vec<u8>, Failure>) {
        self.turns.end();
        let running = lock(&self.running).take();
        let dropped = running.map(Running::end);
        self.ending.finish(outcome, dropped, stop_timer);
    }
}

impl Wake for Polled {
    fn wake(self: Arc<Self>) {
        self.awake();
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        // Over, as a rule. Else nobody has a waker of it any more.
        if !self.turns.are_over() {
            self.finish(Err(stranded()));
        }
    }
}

/// A call of an async skill, for its caller to give up.
struct GoesOn(Arc<Polled>);

impl Underway for GoesOn {
    fn give_up(&self) {
        self.0.give_up(cancelled());
    }
}
