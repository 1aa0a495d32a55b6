//! The calls that the other side has made and this one answers.

use std::any::Any;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Call, Header, Kind, Target, malformed};
use super::link::Link;
use super::lock;
use super::number::ByNumber;
use super::streams::MOST_OPEN;
use crate::error::{Failure, FailureKind, timed_out};
use crate::library::message_of;

/// How many times the limits a connection may reach that is read on for the sake of answers.
pub(super) const BEYOND: usize = 4;

/// After so many calls of one connection in a row, whoever else waits for a core has it.
const TURN: usize = 32;

/// Hears the outcome of a call; the caller gets it as it is.
pub type Done = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// A call that goes on without a thread.
pub trait Underway: Send + Sync {
    /// Ends it soon, unless it is over: nobody waits for it any more.
    fn give_up(&self);
}

/// How much one connection, and all of them together, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls of one connection that wait or run; then it is not read any further.
    pub calls: usize,
    /// Bytes of arguments, and likewise bytes of answers, that wait on one connection; one more frame
    /// may exceed them.
    pub bytes: usize,
    /// Time for which the other side may read nothing while its answers are at their limit.
    pub stall: Duration,
    /// Calls of all connections that wait or run, and how many there may be.
    pub in_all: Arc<Load>,
}

/// The calls of all connections.
#[derive(Debug)]
pub struct Load {
    now: AtomicUsize,
    most: usize,
}

impl Load {
    /// Allows `most` at the same time.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicUsize::new(0),
            most,
        })
    }

    /// How many there are.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 256,
            bytes: 64 << 20,
            stall: Duration::from_mins(1),
            in_all: Load::new(4096),
        }
    }
}

/// A call for which nobody waits any more, and that goes on.
#[derive(Clone, Debug)]
pub struct Overdue {
    /// What was called: the number of an import, or a full name.
    pub called: Result<u32, String>,
    /// For how long nobody has waited.
    pub time: Duration,
}

pub(super) struct Incoming {
    limits: Limits,
    opened: Arc<Mutex<Opened>>,
    state: Mutex<State>,
    /// Tells that nothing is left to answer.
    quiet: Condvar,
}

/// The calls that were opened and whose producers are not gone, given up or not. They have a count of
/// their own: they may go on for ever, and other calls are to be read meanwhile.
#[derive(Default)]
struct Opened {
    calls: usize,
    /// Their arguments.
    bytes: usize,
}

/// The place of a call that was opened, until what makes its items is gone.
pub(super) struct OpenPlace {
    opened: Arc<Mutex<Opened>>,
    in_all: Arc<Load>,
    bytes: usize,
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.in_all.now.fetch_sub(1, Ordering::Relaxed);
        let mut opened = lock(&self.opened);
        opened.calls -= 1;
        opened.bytes -= self.bytes;
    }
}

#[derive(Default)]
struct State {
    /// The calls that have not begun, those given up included.
    queue: VecDeque<u64>,
    /// The calls that the other side waits for.
    calls: ByNumber<Progress>,
    /// Answers that are just being sent.
    answering: usize,
    /// Calls that wait or run, given up or not.
    in_flight: usize,
    /// Their arguments.
    argument_bytes: usize,
    /// Of these those that have begun, and for which nobody has waited since then, by which they are.
    overdue: ByNumber<(Arc<Vec<u8>>, Instant)>,
    /// How many calls have begun.
    begun: u64,
    /// Another thread has been called to take from the queue.
    called: bool,
    /// Somebody waits until nothing is left to answer.
    closing: bool,
    /// No further call begins.
    sealed: bool,
    /// When it is looked for calls whose time is over.
    next_look: Option<Instant>,
}

enum Progress {
    Queued(Job),
    Running {
        /// Which one it is: the other side may use a number again.
        begun: u64,
        /// It goes on without a thread.
        underway: Option<Arc<dyn Underway>>,
        limit: Option<Limit>,
        body: Arc<Vec<u8>>,
        /// It has ended without an outcome.
        over: bool,
    },
}

/// How long the caller waits.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    /// When that is over.
    deadline: Instant,
}

impl Progress {
    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Queued(job) => job.limit,
            Self::Running { limit, .. } => *limit,
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Queued(job) => &job.body,
            Self::Running { body, .. } => body,
        }
    }

    fn give_up(self) {
        if let Self::Running {
            underway: Some(underway),
            ..
        } = self
        {
            underway.give_up();
        }
    }
}

/// A call that has not begun.
struct Job {
    body: Arc<Vec<u8>>,
    limit: Option<Limit>,
    received: Instant,
    /// Others were to be run before it.
    queued: bool,
    place: Place,
}

/// The place that a call takes among all that wait or run.
struct Place {
    link: Arc<Link>,
    bytes: usize,
    number: u64,
    /// Which one of that number it is, once it has begun.
    begun: u64,
    /// Its outcome was heard.
    heard: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let incoming = &self.link.incoming;
        incoming.limits.in_all.now.fetch_sub(1, Ordering::Relaxed);
        let mut state = incoming.lock();
        let was_full = incoming.is_full(&state);
        state.in_flight -= 1;
        state.argument_bytes -= self.bytes;
        if !state.overdue.is_empty() {
            state.overdue.remove(&self.begun);
        }
        if !self.heard
            && let Some(Progress::Running { begun, over, .. }) = state.calls.get_mut(&self.number)
            && *begun == self.begun
        {
            *over = true;
        }
        let has_room = was_full && !incoming.is_full(&state);
        drop(state);
        if has_room {
            self.link.watch_again();
            self.link.resume();
        }
    }
}

impl Incoming {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            opened: Arc::default(),
            state: Mutex::default(),
            quiet: Condvar::new(),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, state: &State) -> bool {
        state.in_flight >= self.limits.calls || state.argument_bytes >= self.limits.bytes
    }

    /// Tells whether one more call may be taken.
    pub(super) fn has_room(&self) -> bool {
        !self.is_full(&self.lock())
    }

    /// Finds a place for a call that is opened with so many bytes of arguments; none if that is too much.
    pub(super) fn open(&self, bytes: usize) -> Option<OpenPlace> {
        let in_all = &self.limits.in_all;
        let mut opened = lock(&self.opened);
        let sealed = self.lock().sealed;
        let taken = in_all.now.fetch_add(1, Ordering::Relaxed);
        // The share of one session is as for other calls. Those given up that go on are among them.
        if sealed
            || opened.calls >= in_all.most.saturating_sub(taken)
            || opened.calls >= MOST_OPEN * BEYOND
            || opened.bytes >= self.limits.bytes
        {
            in_all.now.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        opened.calls += 1;
        opened.bytes += bytes;
        drop(opened);
        Some(OpenPlace {
            opened: Arc::clone(&self.opened),
            in_all: Arc::clone(in_all),
            bytes,
        })
    }

    /// Returns the calls for which nobody waits any more, and that go on.
    pub(super) fn overdue(&self) -> Vec<Overdue> {
        let state = self.lock();
        let overdue = state.overdue.values().filter_map(|(body, since)| {
            let called = match Call::read(body).ok()?.target {
                Target::Import(number) => Ok(number),
                Target::Name(name) => Err(name.to_owned()),
            };
            let time = since.elapsed();
            Some(Overdue { called, time })
        });
        overdue.collect()
    }

    /// Waits until the other side waits for nothing, or until `deadline`.
    pub(super) fn wait_for_answers(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| !state.calls.is_empty() || state.answering > 0;
        let mut state = self.lock();
        state.closing = true;
        let _ = self
            .quiet
            .wait_timeout_while(state, left, waits)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Has no further call begin once the other side waits for nothing; false, and then they go on, if that
    /// is not so by `deadline`.
    pub(super) fn seal(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| !state.calls.is_empty() || state.answering > 0;
        let mut state = self.lock();
        if state.sealed {
            // What has come since then does not begin.
            return true;
        }
        state.closing = true;
        let (mut state, _) = self
            .quiet
            .wait_timeout_while(state, left, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.sealed = !waits(&mut state);
        state.sealed
    }

    /// Lets calls begin again, those included that came meanwhile.
    pub(super) fn unseal(&self, link: &Arc<Link>) {
        let waits = {
            let mut state = self.lock();
            state.sealed = false;
            state.closing = false;
            !state.queue.is_empty()
        };
        if waits && !call_for_help(link) {
            self.work(link);
        }
    }

    /// Takes a call in; [`work`](Self::work) runs it.
    ///
    /// # Errors
    /// The other side counts wrongly.
    pub(super) fn submit(
        &self,
        link: &Arc<Link>,
        header: Header,
        body: Vec<u8>,
        now: Instant,
    ) -> Result<(), Failure> {
        let number = header.call;
        check_number(number)?;
        let mut state = self.lock();
        // As many as there is room for others: so however many want more, each has its share, and one
        // that comes with its first call finds room.
        let load = &self.limits.in_all;
        let taken = load.now.fetch_add(1, Ordering::Relaxed);
        if state.in_flight >= load.most.saturating_sub(taken) {
            drop(state);
            load.now.fetch_sub(1, Ordering::Relaxed);
            let why = "as many calls as it takes are waiting or running already";
            link.answer_with(number, Err(overloaded(why)), now);
            return Ok(());
        }
        state.in_flight += 1;
        state.argument_bytes += header.len;
        // Only what is read on for answers comes so far.
        let too_many = state.in_flight > self.limits.calls * BEYOND
            || state.argument_bytes > self.limits.bytes * BEYOND + header.len;
        let job = Job {
            body: Arc::new(body),
            limit: match header.timeout_ms {
                0 => None,
                ms => {
                    let time = Duration::from_millis(ms.into());
                    let deadline = now.checked_add(time);
                    deadline.map(|deadline| Limit { time, deadline })
                }
            },
            received: now,
            queued: !state.queue.is_empty(),
            place: Place {
                link: Arc::clone(link),
                bytes: header.len,
                number,
                begun: 0,
                heard: false,
            },
        };
        if too_many {
            drop(state);
            drop(job);
            let why = "this session has as many calls waiting or running as it may";
            link.answer_with(number, Err(overloaded(why)), now);
            return Ok(());
        }
        match state.calls.entry(number) {
            Entry::Vacant(entry) => {
                entry.insert(Progress::Queued(job));
                state.queue.push_back(number);
                Ok(())
            }
            Entry::Occupied(_) => {
                drop(state);
                drop(job);
                Err(malformed(format_args!(
                    "a call of number {number} is waiting already"
                )))
            }
        }
    }

    /// Gives up on a call: one that has not begun never will, one that waits is ended, one that runs is
    /// not answered.
    pub(super) fn cancel(&self, number: u64) {
        let given_up = {
            let mut state = self.lock();
            let given_up = state.calls.remove(&number);
            if let Some(progress) = &given_up {
                state.nobody_waits_for(progress, Instant::now());
            }
            given_up
        };
        if let Some(progress) = given_up {
            progress.give_up();
        }
        self.quiet.notify_all();
    }

    /// Gives up on all calls; the other side is gone.
    pub(super) fn cancel_all(&self) {
        let given_up = {
            let mut state = self.lock();
            state.queue.clear();
            let given_up = std::mem::take(&mut state.calls);
            let now = Instant::now();
            for progress in given_up.values() {
                state.nobody_waits_for(progress, now);
            }
            given_up
        };
        given_up.into_values().for_each(Progress::give_up);
        self.quiet.notify_all();
    }

    /// Runs what waits on this thread, one after the other; another thread comes to help when more
    /// waits than this one has at hand.
    pub(super) fn work(&self, link: &Arc<Link>) {
        let mut ran = 0;
        let mut state = self.lock();
        while !state.sealed
            && let Some(number) = state.queue.pop_front()
        {
            state.begun += 1;
            let begun = state.begun;
            let Some(progress) = state.calls.get_mut(&number) else {
                // Given up.
                continue;
            };
            let Progress::Queued(job) = progress else {
                // Given up, and the number was used again: the newer one runs elsewhere.
                continue;
            };
            let running = Progress::Running {
                begun,
                underway: None,
                limit: job.limit,
                body: Arc::clone(&job.body),
                over: false,
            };
            let Progress::Queued(job) = std::mem::replace(progress, running) else {
                continue;
            };
            let look = job.limit.filter(|limit| state.has_to_look(limit.deadline));
            let calls = !state.queue.is_empty() && !std::mem::replace(&mut state.called, true);
            drop(state);
            if let Some(limit) = look {
                look_later(link, limit.deadline);
            }
            if calls && !call_for_help(link) {
                self.lock().called = false;
            }
            self.run(link, number, begun, job);
            ran += 1;
            if ran % TURN == 0 {
                thread::yield_now();
            }
            state = self.lock();
        }
    }

    fn run(&self, link: &Arc<Link>, number: u64, begun: u64, job: Job) {
        let Job {
            body,
            limit,
            received,
            queued,
            mut place,
        } = job;
        place.begun = begun;
        let call = match Call::read(&body) {
            Ok(call) => call,
            Err(failure) => return self.answer(link, number, Err(failure), received),
        };
        let left = match limit {
            Some(limit) => {
                let now = if queued { Instant::now() } else { received };
                let left = limit.deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return self.answer(link, number, Err(late(&body, limit)), now);
                }
                Some(left)
            }
            None => None,
        };
        let of_done = Arc::clone(link);
        let done: Done = Box::new(move |outcome| {
            let incoming = &of_done.incoming;
            let now = Instant::now();
            if limit.is_some_and(|limit| now >= limit.deadline) {
                // What comes too late is not told.
                incoming.end_late(&of_done);
            } else {
                incoming.answer(&of_done, number, outcome, now);
            }
            place.heard = true;
            drop(place);
        });
        let called = catch_unwind(AssertUnwindSafe(|| {
            link.side().call(link, call, left, done)
        }));
        match called {
            Ok(None) => {}
            Ok(Some(underway)) => self.goes_on(number, begun, underway),
            Err(payload) => {
                let failure = panicked(name(&call), payload);
                self.answer(link, number, Err(failure), received);
            }
        }
    }

    /// Remembers how to give a call up, unless nobody waits for it any more.
    fn goes_on(&self, number: u64, this: u64, underway: Arc<dyn Underway>) {
        let mut state = self.lock();
        match state.calls.get_mut(&number) {
            Some(Progress::Running {
                begun,
                underway: place,
                ..
            }) if *begun == this => *place = Some(underway),
            _ => {
                drop(state);
                underway.give_up();
            }
        }
    }

    fn answer(&self, link: &Link, number: u64, outcome: Result<Vec<u8>, Failure>, now: Instant) {
        let mut state = self.lock();
        if state.calls.remove(&number).is_none() {
            return;
        }
        // From here on the other side may use the number again, so it cannot stay among the calls; and
        // before the frame is on its way, the session must not say goodbye.
        state.answering += 1;
        drop(state);
        self.send_answer(link, number, outcome, now);
    }

    /// Sends an answer that is counted already.
    fn send_answer(
        &self,
        link: &Link,
        number: u64,
        outcome: Result<Vec<u8>, Failure>,
        now: Instant,
    ) {
        link.answer_with(number, outcome, now);
        let mut state = self.lock();
        state.answering -= 1;
        let closing = state.closing;
        drop(state);
        if closing {
            self.quiet.notify_all();
        }
    }
}

impl Incoming {
    /// Answers those whose time is over, whatever becomes of their work, and ends the work where it
    /// waits.
    fn end_late(&self, link: &Arc<Link>) {
        let now = Instant::now();
        let mut ended = Vec::new();
        let next = {
            let mut state = self.lock();
            state.next_look = None;
            let is_late = |limit: Limit| now >= limit.deadline;
            let late: Vec<u64> = state
                .calls
                .iter()
                .filter(|(_, progress)| progress.limit().is_some_and(is_late))
                .map(|(number, _)| *number)
                .collect();
            for number in late {
                let progress = state.calls.remove(&number);
                if let Some(progress) = &progress {
                    state.nobody_waits_for(progress, now);
                }
                ended.extend(progress.map(|progress| (number, progress)));
            }
            state.answering += ended.len();
            let limits = state.calls.values().filter_map(Progress::limit);
            let next = limits.map(|limit| limit.deadline).min();
            next.filter(|deadline| state.has_to_look(*deadline))
        };
        if let Some(deadline) = next {
            look_later(link, deadline);
        }
        for (number, progress) in ended {
            if let Some(limit) = progress.limit() {
                self.send_answer(link, number, Err(late(progress.body(), limit)), now);
            }
            progress.give_up();
        }
    }
}

impl State {
    /// Keeps a call in mind that goes on: it has its place until it ends.
    fn nobody_waits_for(&mut self, progress: &Progress, now: Instant) {
        if let Progress::Running {
            begun,
            body,
            over: false,
            ..
        } = progress
        {
            self.overdue.insert(*begun, (Arc::clone(body), now));
        }
    }

    /// Tells whether nobody looks for calls whose time is over at `deadline` or before.
    fn has_to_look(&mut self, deadline: Instant) -> bool {
        let has_to = self.next_look.is_none_or(|at| deadline < at);
        if has_to {
            self.next_look = Some(deadline);
        }
        has_to
    }
}

/// Checks the number that the other side has given to a call.
pub(super) fn check_number(number: u64) -> Result<(), Failure> {
    match number {
        0 => Err(malformed("calls are numbered from 1, this one is 0")),
        _ => Ok(()),
    }
}

/// Has those ended whose time is over at `deadline`.
fn look_later(link: &Arc<Link>, deadline: Instant) {
    let link = Arc::downgrade(link);
    let left = deadline.saturating_duration_since(Instant::now());
    super::later(left, move || {
        if let Some(link) = link.upgrade() {
            link.incoming.end_late(&link);
        }
    });
}

/// The failure of a call whose time is over.
fn late(body: &[u8], limit: Limit) -> Failure {
    match Call::read(body) {
        Ok(call) => timed_out(name(&call), limit.time),
        Err(failure) => failure,
    }
}

/// Calls another thread to take from the queue.
fn call_for_help(link: &Arc<Link>) -> bool {
    let helping = Arc::clone(link);
    let task = Box::new(move || {
        helping.incoming.lock().called = false;
        helping.incoming.work(&helping);
    });
    link.reactor().submit(task).is_ok()
}

fn name<'a>(call: &Call<'a>) -> &'a str {
    match call.target {
        Target::Name(name) => name,
        Target::Import(_) => "an imported skill",
    }
}

/// Says how a call is refused that finds no room.
pub(super) fn overloaded(why: &str) -> Failure {
    Failure::new(
        FailureKind::Overloaded,
        format!("the other side is overloaded ({why}); the call was not run, try again later"),
    )
}

/// Makes a frame of an error; number 0 speaks of the session.
pub(super) fn error_frame(number: u64, failure: &Failure) -> Vec<u8> {
    super::frame::frame(Kind::Error, number, 0, &failure.encode())
        .or_else(|too_large| super::frame::frame(Kind::Error, number, 0, &too_large.encode()))
        // An error about the size of an error fits.
        .unwrap_or_default()
}

pub(super) fn panicked(skill: &str, payload: Box<dyn Any + Send>) -> Failure {
    let message = format!("what serves {skill} panicked: {}", message_of(payload));
    Failure::new(FailureKind::Internal, message).of_skill(skill)
}
