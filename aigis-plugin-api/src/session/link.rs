//! One connection, as both of its sides see it: calls go both ways, over a socket and, while both
//! sides are at it, through memory that they share.
//!
//! A thread that waits for an answer reads the socket itself; otherwise the [`Reactor`] does. Who reads
//! a call also runs it.

mod offer;

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::attached;
use super::frame::{self, Call, HEADER, Header, Kind};
use super::inbox::{Inbox, Longest, Look, Received};
use super::incoming::{Done, Incoming, Limits, Underway, error_frame};
use super::outbox::{Outbox, Packet, Written};
use super::reactor::{Interest, Reactor, Watch, Watched};
use super::ring::Ring;
use super::spin::{Patience, spin};
use super::waiting::{Calls, Mode, Told, Waiter};
use crate::abi::OnOutcome;
use crate::backend;
use crate::error::{Failure, FailureKind, timed_out};

/// The bytes of shared memory in each direction.
const RING: usize = 128 << 10;
/// From this size on a result is not copied behind its header.
const APART: usize = 16 << 10;
/// How many bytes the system is to take before the other side has read them. It takes twice as many, with
/// what it needs for itself, and no memory before there are any.
const SEND_BUFFER: usize = 1 << 20;
/// How many threads of a process may spin for calls at the same time.
static SPINNERS: AtomicUsize = AtomicUsize::new(0);

/// What stands behind one side of a connection. Every method may be called from any thread.
pub trait Side: Send + Sync + 'static {
    /// Takes a frame that is neither an answer nor about a call; must not block.
    ///
    /// # Errors
    /// The frame breaks a rule: the connection ends.
    fn take(&self, link: &Arc<Link>, frame: Received) -> Result<(), Failure>;

    /// Looks at a call before it is taken in; must not block.
    ///
    /// # Errors
    /// The call breaks a rule: the connection ends.
    fn check(&self, call: &Call<'_>) -> Result<(), Failure> {
        let _ = call;
        Ok(())
    }

    /// Runs a call on this thread, which may block, or begins it; `done` hears its outcome once, here
    /// or, when what is underway is returned, later on another thread that may block. `timeout` is what
    /// is left of the caller's time, none without a limit.
    fn call(
        &self,
        link: &Arc<Link>,
        call: Call<'_>,
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Returns what to call the other side, in errors.
    fn other(&self) -> &'static str {
        "the other side"
    }

    /// Hears that the connection has ended, once; must not block. Calls of it may still be running.
    fn ended(&self, end: &End);
}

/// Why a connection has ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The other side said goodbye.
    Goodbye,
    /// The other side closed it.
    Closed,
    /// The other side said what is wrong with this one.
    Refused(Failure),
    /// The other side broke a rule.
    Fault(Failure),
    /// The other side does not read.
    Stalled,
    /// This side has ended it.
    Here,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Goodbye => f.write_str("it said goodbye"),
            Self::Closed => f.write_str("it closed the connection"),
            Self::Refused(failure) => f.write_str(&failure.message),
            Self::Fault(failure) => write!(f, "it broke the protocol: {}", failure.message),
            Self::Stalled => f.write_str("it does not read what it is sent"),
            Self::Here => f.write_str("this side has ended the session"),
        }
    }
}

/// One connection.
pub struct Link {
    me: Weak<Self>,
    socket: UnixStream,
    reactor: Arc<Reactor>,
    watch: OnceLock<Watch>,
    interest: Mutex<Wishes>,
    inbox: Mutex<Inbox>,
    outbox: Outbox,
    calls: Calls,
    pub(super) incoming: Incoming,
    side: Arc<dyn Side>,
    end: OnceLock<End>,
    ring: OnceLock<Shared>,
    /// How long after an answer the next call comes.
    next_call: Patience,
    /// How long an answer takes while the other side attends to the ring.
    answer: Patience,
    /// How long after an answer this side calls again.
    own_call: Patience,
    /// When the last answer of the other side was there, in nanoseconds since `born`.
    heard: AtomicU64,
    /// When the last answer went out, in nanoseconds since `born`; 0 for never.
    answered: AtomicU64,
    /// How many calls have come over the socket.
    calls_taken: AtomicU64,
    born: Instant,
    /// How long the system waits for bytes before it says that there are none.
    nap: Duration,
    /// How often somebody has read the socket who has it lent.
    progress: AtomicU64,
    /// As it was when the reactor asked last, and how often it has asked since.
    seen: Mutex<(u64, u32)>,
    /// The other side has been let in.
    greeted: AtomicBool,
    /// This side may offer to share memory.
    shares: AtomicBool,
    /// This side takes memory that is offered to be shared.
    accepts: AtomicBool,
    stalling: AtomicBool,
    /// Something has come in for which there was no room.
    held: AtomicBool,
}

/// The shared memory, and how to call a thread of this process away from the socket.
struct Shared {
    ring: Ring,
    bell: OwnedFd,
    /// Threads of this process that spin on it.
    spinning: AtomicUsize,
}

/// What the socket is watched for.
#[derive(Default)]
struct Wishes {
    /// Threads that wait or have just waited read the socket themselves.
    lent: bool,
    /// Whoever reads it has done so for long, and gives it back to the reactor on leaving.
    recalled: bool,
    /// Bytes wait to be written.
    writing: bool,
    /// No more calls are taken.
    closing: bool,
}

/// A call that this side makes.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// What it says.
    pub call: Call<'a>,
    /// The rest of its arguments, where it lay already.
    pub tail: &'a [u8],
    /// The full name of the skill, for errors.
    pub skill: &'a str,
    /// When it was made.
    pub begun: Instant,
    /// How long to wait from then on.
    pub timeout: Duration,
    /// It must not overtake what was sent before it.
    pub in_order: bool,
}

/// How a frame went out.
#[derive(Clone, Copy)]
enum Sent {
    Socket,
    /// At this position of the ring.
    Ring(u64),
}

/// What a thread that reads has to see to when it has let go of the socket.
#[derive(Default)]
struct Errands {
    callbacks: Vec<(OnOutcome, Result<Vec<u8>, Failure>)>,
    /// Calls have come in.
    calls: bool,
    /// Who reads waits for an answer, which may come behind calls for which there is no room.
    waits: bool,
}

impl Errands {
    fn call_back(&mut self) {
        for (done, outcome) in self.callbacks.drain(..) {
            backend::without_blocking(|| crate::library::contain_callback(|| done(outcome)));
        }
    }
}

thread_local! {
    /// Where a frame out of the ring goes.
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while one of these was held cannot leave it half changed: each holder does one thing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a call ended that was made on a connection, apart from what its skill says.
fn lost(other: &str, skill: &str, end: &End) -> Failure {
    Failure::new(
        FailureKind::CoreGone,
        format!("{other} is gone ({end}); whether {skill} ran is unknown"),
    )
    .of_skill(skill)
}

impl Link {
    /// Makes a connection of a socket; nothing is read before [`start`](Self::start). A thread that has
    /// answered stays with the socket for `nap` if the next call is likely to come soon.
    pub fn new(
        socket: UnixStream,
        reactor: Arc<Reactor>,
        side: Arc<dyn Side>,
        limits: Limits,
        longest: Longest,
        nap: Duration,
    ) -> Arc<Self> {
        // Where this is refused, bytes are waited for without an end, which a shutdown ends as well.
        let _ = socket.set_read_timeout(Some(nap));
        // What does not fit waits until the other side has read and another thread has been woken. The
        // system takes less where it must.
        let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            socket,
            reactor,
            watch: OnceLock::new(),
            interest: Mutex::default(),
            inbox: Mutex::new(Inbox::new(longest)),
            outbox: Outbox::new(),
            calls: Calls::default(),
            incoming: Incoming::new(limits),
            side,
            end: OnceLock::new(),
            ring: OnceLock::new(),
            next_call: Patience::none(),
            answer: Patience::some(),
            own_call: Patience::none(),
            heard: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            calls_taken: AtomicU64::new(0),
            born: Instant::now(),
            nap,
            progress: AtomicU64::new(0),
            seen: Mutex::default(),
            greeted: AtomicBool::new(false),
            shares: AtomicBool::new(false),
            accepts: AtomicBool::new(false),
            stalling: AtomicBool::new(false),
            held: AtomicBool::new(false),
        })
    }

    /// Begins to read.
    ///
    /// # Errors
    /// The system has no descriptors or threads.
    pub fn start(&self) -> io::Result<()> {
        let weak = Weak::clone(&self.me) as Weak<dyn Watched>;
        let watch = self.reactor.watch(self.socket.as_fd(), weak)?;
        let _ = self.watch.set(watch);
        self.watch_again();
        Ok(())
    }

    pub(super) fn side(&self) -> &Arc<dyn Side> {
        &self.side
    }

    pub(super) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    /// Returns the socket, to ask the system about the other side.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Lets the other side say more than hello.
    pub fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Offers to share memory with the other side, once that pays.
    pub fn share(&self) {
        self.shares.store(true, Ordering::Relaxed);
    }

    /// Takes memory that the other side offers to share, once.
    pub fn accept_sharing(&self) {
        self.accepts.store(true, Ordering::Relaxed);
    }

    /// Sends a frame that is no call.
    pub fn send(&self, frame: Vec<u8>) {
        if !frame.is_empty() {
            let written = self.outbox.push(&self.socket, frame.into());
            self.after_write(written);
        }
    }

    /// Sends a frame by the shortest way: through the ring if the other side attends to it.
    fn send_shortest(&self, packet: Packet) -> Sent {
        if let Some(shared) = self.ring.get()
            && shared.ring.is_attended()
            && packet.tail.is_empty()
            && packet.descriptor.is_none()
            && let Ok(Some(position)) = shared.ring.push(&[&packet.head])
        {
            if !shared.ring.is_attended() {
                self.call_to_ring();
            }
            return Sent::Ring(position);
        }
        let written = self.outbox.push(&self.socket, packet);
        self.after_write(written);
        Sent::Socket
    }

    /// Tells the other side to look at the ring.
    fn call_to_ring(&self) {
        let look = frame::frame(Kind::Look, 0, 0, &[]).unwrap_or_default();
        let written = self.outbox.push(&self.socket, look.into());
        self.after_write(written);
    }

    /// Sends what a call has led to.
    pub(super) fn answer_with(&self, number: u64, outcome: Result<Vec<u8>, Failure>, now: Instant) {
        let outcome = outcome.and_then(|body| {
            if body.len() >= APART {
                Ok((frame::head(Kind::Reply, number, 0, body.len())?, body))
            } else {
                Ok((frame::frame(Kind::Reply, number, 0, &body)?, Vec::new()))
            }
        });
        let (head, tail) =
            outcome.unwrap_or_else(|failure| (error_frame(number, &failure), Vec::new()));
        // Before it is sent: the next call may be there at once.
        self.answered.store(self.at(now), Ordering::Relaxed);
        self.send_shortest(Packet::new(head, tail));
    }

    fn after_write(&self, written: Written) {
        match written {
            Written::All => {}
            Written::Left(left) => {
                let mut wishes = lock(&self.interest);
                if !std::mem::replace(&mut wishes.writing, true) {
                    self.watch_for(&wishes);
                }
                drop(wishes);
                if left >= self.incoming.limits().bytes {
                    self.look_for_stall();
                }
            }
            Written::Closed => {
                // Who reads takes what the other side has sent before, and then finds the end.
                let _ = self.socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Ends the connection if the other side reads nothing for too long.
    fn look_for_stall(&self) {
        if self.stalling.swap(true, Ordering::Relaxed) {
            return;
        }
        let stall = self.incoming.limits().stall;
        let me = Weak::clone(&self.me);
        let ring = move || {
            let Some(link) = me.upgrade() else { return };
            link.stalling.store(false, Ordering::Relaxed);
            let (written, progress) = link.outbox.state();
            let most = link.incoming.limits().bytes;
            if matches!(written, Written::Left(left) if left >= most) {
                if progress.elapsed() >= stall {
                    link.finish(End::Stalled);
                } else {
                    link.look_for_stall();
                }
            }
        };
        super::later(stall, ring);
    }

    /// Returns a time in nanoseconds since `born`.
    fn at(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.born);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn watch_for(&self, wishes: &Wishes) {
        let Some(watch) = self.watch.get() else {
            return;
        };
        let reading = !wishes.lent && !wishes.closing && self.has_room();
        let writing = wishes.writing;
        watch.set(self.socket.as_fd(), Interest { reading, writing });
    }

    /// Has the socket watched for what is wanted now.
    pub(super) fn watch_again(&self) {
        self.watch_for(&lock(&self.interest));
    }

    /// Tells whether to read on. What this side itself waits for is read in any case.
    fn has_room(&self) -> bool {
        let most = self.incoming.limits().bytes;
        let full = matches!(self.outbox.state().0, Written::Left(left) if left >= most);
        (!full && self.incoming.has_room()) || self.calls.is_waiting()
    }

    /// Takes no more calls.
    pub fn take_no_more(&self) {
        let mut wishes = lock(&self.interest);
        wishes.closing = true;
        self.watch_for(&wishes);
    }

    /// Gives the calls that run until `deadline` to be answered, and says goodbye.
    pub fn close(&self, deadline: Instant) {
        self.incoming.wait_for_answers(deadline);
        self.goodbye();
    }

    /// Ends the connection with a word.
    pub fn goodbye(&self) {
        let goodbye = frame::frame(Kind::Goodbye, 0, 0, &[]).unwrap_or_default();
        self.finish_with(End::Here, goodbye);
    }

    /// Ends the connection because the other side broke a rule, and tells it which.
    pub fn refuse(&self, failure: Failure) {
        let error = error_frame(0, &failure);
        self.finish_with(End::Fault(failure), error);
    }

    /// Returns why the connection has ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.get()
    }

    fn finish(&self, end: End) {
        self.finish_with(end, Vec::new());
    }

    /// Ends the connection, once; `last` is the frame that says why.
    fn finish_with(&self, end: End, last: Vec<u8>) {
        if self.end.set(end).is_err() {
            return;
        }
        let Some(end) = self.end.get() else { return };
        if !last.is_empty() {
            self.outbox.push(&self.socket, last.into());
        }
        if let Some(watch) = self.watch.get() {
            watch.end(self.socket.as_fd());
        }
        // What the system has taken already is still delivered.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.outbox.close();
        self.incoming.cancel_all();
        // First: who is told that a call has failed may make the next one at once.
        self.side.ended(end);
        let mut errands = Errands::default();
        for told in self
            .calls
            .close(|skill| lost(self.side.other(), skill, end))
        {
            self.tell(told, &mut errands);
        }
        self.hand_off(&mut errands);
    }
}

/// What comes in.
impl Link {
    /// Reads what is there, or, if it `waits`, what comes during a nap; `false` when there is nothing
    /// more to be read.
    fn look(&self, inbox: &mut Inbox, waits: bool, errands: &mut Errands) -> bool {
        let look = match self.take(inbox, errands) {
            Ok(true) => {
                let greeted = self.greeted.load(Ordering::Relaxed);
                let look = inbox.look(&self.socket, waits, greeted);
                self.take(inbox, errands).and(look)
            }
            Ok(false) => Ok(Look::Nothing),
            Err(failure) => Err(failure),
        };
        match look {
            Ok(Look::Some) => true,
            Ok(Look::Nothing) => false,
            Ok(Look::Closed) => {
                self.finish(End::Closed);
                false
            }
            Err(failure) => {
                self.refuse(failure);
                false
            }
        }
    }

    /// Takes the frames that are there, as far as there is room for the calls among them; `false` when
    /// some are left.
    fn take(&self, inbox: &mut Inbox, errands: &mut Errands) -> Result<bool, Failure> {
        loop {
            if inbox.begins_with_call() && errands.calls && !errands.waits && !self.has_room() {
                self.held.store(true, Ordering::SeqCst);
                return Ok(false);
            }
            match inbox.next() {
                Some(frame) => self.receive(frame, errands)?,
                None => return Ok(true),
            }
        }
    }

    /// Has what was held back taken, once there is room for it.
    pub(super) fn resume(&self) {
        // Who has let go of the inbox, or has made room, sees what was held back before.
        fence(Ordering::SeqCst);
        if self.held.load(Ordering::Acquire)
            && self.has_room()
            && self.held.swap(false, Ordering::AcqRel)
            && let Some(link) = self.me.upgrade()
        {
            let task = Box::new(move || link.ready_after(true));
            if let Err(error) = self.reactor.submit(task) {
                let message = format!("no thread can be started: {error}");
                self.refuse(Failure::new(FailureKind::Overloaded, message));
            }
        }
    }

    /// Takes a frame.
    fn receive(&self, frame: Received, errands: &mut Errands) -> Result<(), Failure> {
        let Some(me) = self.me.upgrade() else {
            return Ok(());
        };
        let header = frame.header;
        if !self.greeted.load(Ordering::Relaxed) {
            return self.side.take(&me, frame);
        }
        match header.kind {
            Kind::Reply => self.tell(self.calls.complete(header.call, Ok(frame.body)), errands),
            Kind::Error if header.call == 0 => {
                self.finish(End::Refused(Failure::decode(&frame.body)));
            }
            Kind::Error => {
                let failure = Failure::decode(&frame.body);
                self.tell(self.calls.complete(header.call, Err(failure)), errands);
            }
            Kind::Call => {
                let now = Instant::now();
                self.learn_pace(now);
                // Here, and not by whoever runs it: what comes behind it is to find the session ended.
                self.side.check(&Call::read(&frame.body)?)?;
                self.incoming.submit(&me, header, frame.body, now)?;
                errands.calls = true;
            }
            Kind::Cancel => {
                // The call may lie in the ring, whoever read the socket first.
                self.drain(errands)?;
                self.incoming.cancel(header.call);
            }
            Kind::Goodbye => self.finish(End::Goodbye),
            Kind::Look => self.drain(errands)?,
            Kind::Ring if self.accepts.swap(false, Ordering::Relaxed) => {
                self.adopt(frame.descriptor)?;
            }
            _ => self.side.take(&me, frame)?,
        }
        Ok(())
    }

    /// Has the reactor see to what this thread, which waits for an answer of its own, must not.
    fn hand_off(&self, errands: &mut Errands) {
        if std::mem::take(&mut errands.calls)
            && let Some(link) = self.me.upgrade()
        {
            let task = Box::new(move || link.incoming.work(&link));
            if let Err(error) = self.reactor.submit(task) {
                let message = format!("no thread can be started: {error}");
                self.refuse(Failure::new(FailureKind::Overloaded, message));
            }
        }
        if !errands.callbacks.is_empty() {
            let mut errands = Errands {
                callbacks: std::mem::take(&mut errands.callbacks),
                ..Errands::default()
            };
            // Without a thread the callbacks are dropped, which tells whoever waits for them.
            let _ = self.reactor.submit(Box::new(move || errands.call_back()));
        }
    }

    /// Tells whoever waits.
    fn tell(&self, told: Told, errands: &mut Errands) {
        match told {
            Told::Done | Told::Nobody => {}
            Told::IsReading => {
                if let Some(shared) = self.ring.get() {
                    let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
                }
            }
            Told::Callback(done, outcome) => errands.callbacks.push((done, outcome)),
        }
    }

    /// Notes when a call has come, and offers to share memory with a caller that does not pause.
    fn learn_pace(&self, now: Instant) {
        let answered = self.answered.swap(0, Ordering::Relaxed);
        if answered > 0 {
            self.next_call
                .took(Duration::from_nanos(self.at(now).saturating_sub(answered)));
        }
    }
}

/// The shared memory.
impl Link {
    /// Offers the other side to share memory, once it has shown that it calls without a pause.
    fn offer_ring(&self) {
        const CALLS: u64 = 8;
        if self.ring.get().is_some()
            || !self.shares.load(Ordering::Relaxed)
            || self.calls_taken.fetch_add(1, Ordering::Relaxed) < CALLS
            || !self.next_call.is_short()
            || !self.shares.swap(false, Ordering::Relaxed)
        {
            return;
        }
        let Ok((ring, memory)) = Ring::create(RING) else {
            return;
        };
        let Ok(bell) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
            return;
        };
        let offer = Packet {
            head: frame::frame(Kind::Ring, 0, 0, &[]).unwrap_or_default(),
            tail: Vec::new(),
            descriptor: Some(memory),
        };
        let spinning = AtomicUsize::new(0);
        // Before the other side can say that there is something in it.
        let _ = self.ring.set(Shared {
            ring,
            bell,
            spinning,
        });
        let written = self.outbox.push(&self.socket, offer);
        self.after_write(written);
    }

    fn adopt(&self, memory: Option<OwnedFd>) -> Result<(), Failure> {
        let refused = |error: &dyn std::fmt::Display| {
            attached::malformed(&format!("the shared memory cannot be used: {error}"))
        };
        let memory = memory.ok_or_else(|| {
            attached::malformed("memory to be shared should come in a descriptor, none came")
        })?;
        let ring = Ring::adopt(memory).map_err(|error| refused(&error))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).map_err(|error| refused(&error))?;
        let spinning = AtomicUsize::new(0);
        let _ = self.ring.set(Shared {
            ring,
            bell,
            spinning,
        });
        Ok(())
    }

    /// Takes everything out of the ring, as far as there is room.
    fn drain(&self, errands: &mut Errands) -> Result<(), Failure> {
        while errands.waits || self.has_room() {
            if !self.pop(errands)? {
                return Ok(());
            }
        }
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes one frame out of the ring, unless another thread is at it.
    fn pop(&self, errands: &mut Errands) -> Result<bool, Failure> {
        let Some(shared) = self.ring.get() else {
            return Ok(false);
        };
        let frame = FRAME.with_borrow_mut(|bytes| {
            let corrupt = |_| attached::malformed("the shared memory was written to wrongly");
            if !shared.ring.pop(bytes).map_err(corrupt)? {
                return Ok(None);
            }
            let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
                return Err(attached::malformed("a frame in shared memory is cut off"));
            };
            let header = Header::parse(header)?;
            if header.len != body.len() || header.attached {
                return Err(attached::malformed(
                    "a frame in shared memory has another length than it says",
                ));
            }
            if !matches!(
                header.kind,
                Kind::Call | Kind::Reply | Kind::Error | Kind::Cancel
            ) {
                return Err(attached::malformed(
                    "only calls and their answers go through shared memory",
                ));
            }
            Ok(Some(Received {
                header,
                body: body.to_vec(),
                descriptor: None,
            }))
        })?;
        match frame {
            // What it cancels lay before it.
            Some(frame) if frame.header.kind == Kind::Cancel => {
                self.incoming.cancel(frame.header.call);
                Ok(true)
            }
            Some(frame) => self.receive(frame, errands).map(|()| true),
            None => Ok(false),
        }
    }

    /// Looks at the ring for as long as calls come without a pause, and runs them.
    fn attend(&self, me: &Arc<Self>) {
        let Some(shared) = self.ring.get() else {
            return self.offer_ring();
        };
        if self.next_call.window().is_none() || !self.has_room() {
            return;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        if SPINNERS.fetch_add(1, Ordering::Relaxed) >= (cores / 2).max(1) {
            SPINNERS.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        shared.ring.attend();
        while self.end.get().is_none()
            && self.has_room()
            && let Some(window) = self.next_call.window()
        {
            match spin(
                Instant::now(),
                window,
                || false,
                || shared.ring.has_message(),
            ) {
                None => self.next_call.took(window * 4),
                Some(waited) => {
                    self.answered.store(0, Ordering::Relaxed);
                    self.next_call.took(waited);
                    let mut errands = Errands::default();
                    if let Err(failure) = self.pop(&mut errands) {
                        self.refuse(failure);
                        break;
                    }
                    errands.call_back();
                    self.incoming.work(me);
                }
            }
        }
        SPINNERS.fetch_sub(1, Ordering::Relaxed);
        if shared.ring.leave() && self.end.get().is_none() {
            let mut errands = Errands::default();
            if let Err(failure) = self.drain(&mut errands) {
                self.refuse(failure);
            }
            errands.call_back();
            self.incoming.work(me);
            self.resume();
        }
    }
}

impl Watched for Link {
    fn ready(self: Arc<Self>) {
        self.ready_after(false);
    }

    fn reclaim(&self) -> bool {
        const LONG: u32 = 5;
        let progress = self.progress.load(Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        if seen.0 != progress {
            *seen = (progress, 0);
            return self.end.get().is_some();
        }
        seen.1 += 1;
        if let Some(inbox) = self.try_inbox() {
            *seen = (progress, 0);
            self.give_back();
            drop(inbox);
            self.resume();
            return true;
        }
        if seen.1 > LONG {
            // Whoever reads it waits for something that takes its time.
            *seen = (progress, 0);
            lock(&self.interest).recalled = true;
            // Who has let go of it just now may not have seen that.
            if let Some(inbox) = self.try_inbox() {
                self.give_back();
                drop(inbox);
                self.resume();
            }
            return true;
        }
        false
    }
}

impl Link {
    /// Sees to what has come in, and to what was held back before if there is room for that again.
    fn ready_after(self: Arc<Self>, held: bool) {
        let mut errands = Errands::default();
        if held && let Err(failure) = self.drain(&mut errands) {
            self.refuse(failure);
        }
        let mut inbox = self.try_inbox();
        if held && inbox.is_none() {
            // Whoever has it may have held back just what this is about: it resumes when it has let go,
            // unless it has by now.
            self.held.store(true, Ordering::SeqCst);
            inbox = self.try_inbox();
            if inbox.is_some() {
                self.held.store(false, Ordering::SeqCst);
            }
        }
        // Whoever else reads it looks after it.
        if let Some(mut inbox) = inbox {
            let mut more = true;
            // One that has something to run lets others read.
            while more && !errands.calls && self.end.get().is_none() && self.has_room() {
                more = self.look(&mut inbox, false, &mut errands);
            }
            drop(inbox);
            if !self.has_room() && self.hung_up() {
                self.finish(End::Closed);
            }
        }
        let stays = errands.calls && self.next_call.is_near() && self.reactor.begin_stay();
        if !self.flush(stays) {
            if stays {
                self.reactor.end_stay();
            }
            // An answer that came right before the end is told all the same.
            errands.call_back();
            return;
        }
        self.resume();
        errands.call_back();
        if errands.calls {
            self.incoming.work(&self);
            self.attend(&self);
        }
        if stays {
            self.stay(&self);
            self.reactor.end_stay();
        }
    }
}

/// What a thread of the reactor does with the socket.
impl Link {
    /// Writes what waits, and has the socket watched again unless this thread stays with it; `false` at
    /// the end.
    fn flush(&self, stays: bool) -> bool {
        let mut wishes = lock(&self.interest);
        if wishes.writing {
            match self.outbox.flush(&self.socket) {
                Written::All => wishes.writing = false,
                Written::Left(_) => {}
                Written::Closed => {
                    wishes.writing = false;
                    let _ = self.socket.shutdown(Shutdown::Both);
                }
            }
        }
        if self.end.get().is_some() {
            return false;
        }
        let lent = wishes.lent;
        wishes.lent |= stays;
        wishes.recalled &= lent;
        if wishes.writing || !stays {
            self.watch_for(&wishes);
        }
        drop(wishes);
        if stays && !lent {
            self.reactor
                .lend(Weak::clone(&self.me) as Weak<dyn Watched>);
        }
        true
    }

    /// Waits for the next calls right here, as long as they come soon.
    fn stay(&self, me: &Arc<Self>) {
        while self.is_lent() && self.end.get().is_none() && self.has_room() {
            let Some(mut inbox) = self.try_inbox() else {
                return;
            };
            let mut errands = Errands::default();
            let came = self.look(&mut inbox, true, &mut errands);
            self.progress.fetch_add(1, Ordering::Relaxed);
            drop(inbox);
            // Nobody asks for it any more, and what has come in may take its time.
            if lock(&self.interest).recalled {
                self.give_back();
            }
            errands.call_back();
            if errands.calls {
                self.incoming.work(me);
                self.attend(me);
            }
            if !came {
                break;
            }
        }
        self.give_back();
        self.resume();
    }
}

/// Calls of this side.
impl Link {
    /// Calls and waits, on this thread.
    ///
    /// # Errors
    /// Whatever ended the call.
    pub fn call(&self, call: Outgoing<'_>) -> Result<Vec<u8>, Failure> {
        let Outgoing {
            skill,
            begun,
            timeout,
            ..
        } = call;
        let heard = self.heard.load(Ordering::Relaxed);
        let pause = self.at(begun).saturating_sub(heard);
        self.own_call.took(Duration::from_nanos(pause));
        let deadline = begun.checked_add(timeout);
        let Some((number, waiter)) = self.calls.wait() else {
            return Err(self.gone(skill));
        };
        // Before the call goes out: the answer is not to wake another thread for nothing.
        let attended = self.ring.get().is_some_and(|it| it.ring.is_attended());
        let inbox = if attended && !call.in_order {
            None
        } else {
            self.try_inbox().inspect(|_| self.borrow())
        };
        let sent = match self.send_call(number, &call) {
            Ok(sent) => sent,
            Err(failure) => {
                self.calls.forget(number);
                if let Some(inbox) = inbox {
                    drop(inbox);
                    self.pass_on();
                }
                return Err(failure);
            }
        };
        let spun = match (sent, &inbox) {
            (Sent::Ring(position), None) => self.spin_for(&waiter, position, begun),
            _ => None,
        };
        let heard = match spun {
            Some(took) => begun + took,
            None => {
                self.wait(&waiter, inbox, deadline);
                Instant::now()
            }
        };
        self.heard.store(self.at(heard), Ordering::Relaxed);
        if waiter.is_done() {
            return waiter.take().unwrap_or_else(|| Err(self.gone(skill)));
        }
        if self.calls.forget(number) {
            self.cancelled(number);
        } else if let Some(outcome) = waiter.take() {
            // It came at the last moment.
            return outcome;
        }
        Err(timed_out(skill, timeout))
    }

    /// Starts a call; `done` hears its outcome on a thread that must not wait.
    pub fn start_call(&self, call: Outgoing<'_>, done: OnOutcome) -> u64 {
        let skill = call.skill;
        let number = match self.calls.start(skill, done) {
            Ok(number) => number,
            Err(done) => {
                done(Err(self.gone(skill)));
                return 0;
            }
        };
        if let Err(failure) = self.send_call(number, &call) {
            let mut errands = Errands::default();
            self.tell(self.calls.complete(number, Err(failure)), &mut errands);
            errands.call_back();
        }
        number
    }

    fn send_call(&self, number: u64, call: &Outgoing<'_>) -> Result<Sent, Failure> {
        let (arguments, tail) = (call.call.arguments, call.tail);
        let timeout_ms = milliseconds(call.timeout);
        let len = arguments.len() + tail.len();
        let mut head = call.call.head(number, timeout_ms, arguments.len(), len)?;
        head.extend_from_slice(arguments);
        let packet = Packet::new(head, tail.to_vec());
        if call.in_order {
            let written = self.outbox.push(&self.socket, packet);
            self.after_write(written);
            return Ok(Sent::Socket);
        }
        Ok(self.send_shortest(packet))
    }

    /// Gives up on a call that was started.
    pub fn cancel(&self, number: u64) {
        let failure = Failure::new(FailureKind::Cancelled, "the call was cancelled");
        let told = self.calls.complete(number, Err(failure));
        if !matches!(told, Told::Nobody) {
            self.cancelled(number);
            let mut errands = Errands::default();
            self.tell(told, &mut errands);
            errands.call_back();
        }
    }

    fn cancelled(&self, number: u64) {
        // When the other side is gone there is nothing to cancel. Behind the call: what lies in the
        // ring is taken before a cancel that comes over the socket.
        if let Ok(cancel) = frame::frame(Kind::Cancel, number, 0, &[]) {
            self.send(cancel);
        }
    }

    fn gone(&self, skill: &str) -> Failure {
        let end = self.end.get().unwrap_or(&End::Closed);
        lost(self.side.other(), skill, end)
    }

    /// Waits until the waiter has its outcome, or the time is over.
    /// `inbox`: this thread reads the socket already.
    fn wait<'l>(
        &'l self,
        waiter: &Arc<Waiter>,
        mut inbox: Option<MutexGuard<'l, Inbox>>,
        deadline: Option<Instant>,
    ) {
        while !waiter.is_done() {
            let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if let Some(mut reading) = inbox.take().or_else(|| self.try_inbox()) {
                self.lead(&mut reading, waiter, deadline);
                drop(reading);
                self.pass_on();
                if late() {
                    return;
                }
                continue;
            }
            self.calls.park(waiter);
            // Whoever read has stopped before it could see this one in the list.
            let free = self.try_inbox().is_some();
            if !free && waiter.set(Mode::Parked) {
                match deadline {
                    Some(deadline) => {
                        thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
                    }
                    None => thread::park(),
                }
                waiter.set(Mode::Awake);
            }
            let leads = !self.calls.unpark(waiter);
            if waiter.is_done() || late() {
                if leads {
                    self.pass_on();
                }
                return;
            }
        }
    }

    fn try_inbox(&self) -> Option<MutexGuard<'_, Inbox>> {
        match self.inbox.try_lock() {
            Ok(inbox) => Some(inbox),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Looks at the ring for an answer, for a while; returns how long it took since the call was made,
    /// or has the other side look where the call lies at `position`.
    fn spin_for(&self, waiter: &Arc<Waiter>, position: u64, begun: Instant) -> Option<Duration> {
        let shared = self.ring.get()?;
        let mut took = None;
        if let Some(window) = self.answer.window() {
            shared.ring.attend();
            shared.spinning.fetch_add(1, Ordering::Relaxed);
            let crowded = || shared.spinning.load(Ordering::Relaxed) > 1;
            let mut errands = Errands {
                waits: true,
                ..Errands::default()
            };
            let look = || {
                if !waiter.is_done()
                    && shared.ring.has_message()
                    && let Err(failure) = self.pop(&mut errands)
                {
                    self.refuse(failure);
                }
                waiter.is_done()
            };
            took = spin(begun, window, crowded, look);
            shared.spinning.fetch_sub(1, Ordering::Relaxed);
            // Even while others look: they may be about to stop as well.
            if shared.ring.leave()
                && let Err(failure) = self.drain(&mut errands)
            {
                self.refuse(failure);
            }
            self.hand_off(&mut errands);
            self.answer.took(took.unwrap_or(window * 2));
        }
        if took.is_none() && !waiter.is_done() && !shared.ring.is_taken(position) {
            // Whoever attended is busy with something else: another thread has to look.
            self.call_to_ring();
        }
        took
    }

    /// Reads the socket until the waiter has its outcome, or the time is over.
    fn lead(&self, inbox: &mut Inbox, waiter: &Arc<Waiter>, deadline: Option<Instant>) {
        self.borrow();
        let mut errands = Errands {
            waits: true,
            ..Errands::default()
        };
        while waiter.set(Mode::Reading) && self.end.get().is_none() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // Without a bell the system may wait for the bytes right where they are read.
            let waits = self.ring.get().is_none() && left.is_none_or(|left| left > self.nap);
            if !waits {
                self.sleep(left);
            }
            self.look(inbox, waits, &mut errands);
            self.hand_off(&mut errands);
        }
        waiter.set(Mode::Awake);
    }

    /// Sleeps until the socket can be read, or somebody else has taken what this thread waits for.
    fn sleep(&self, left: Option<Duration>) {
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let socket = PollFd::new(&self.socket, PollFlags::IN);
        match self.ring.get() {
            None => {
                let _ = poll(&mut [socket], left.as_ref());
            }
            Some(shared) => {
                let bell = PollFd::new(&shared.bell, PollFlags::IN);
                let mut both = [socket, bell];
                let _ = poll(&mut both, left.as_ref());
                if both[1].revents().contains(PollFlags::IN) {
                    let _ = rustix::io::read(&shared.bell, &mut [0_u8; 8]);
                }
            }
        }
    }

    /// Takes the reading of the socket over from the reactor, which looks after it when this thread,
    /// or another, does not come back to it.
    fn borrow(&self) {
        let mut wishes = lock(&self.interest);
        if std::mem::replace(&mut wishes.lent, true) {
            return;
        }
        // One that calls now and then gives it back each time.
        wishes.recalled = !self.own_call.is_near();
        self.watch_for(&wishes);
        if wishes.recalled {
            return;
        }
        drop(wishes);
        self.reactor
            .lend(Weak::clone(&self.me) as Weak<dyn Watched>);
    }

    fn is_lent(&self) -> bool {
        lock(&self.interest).lent
    }

    /// Gives it back.
    fn give_back(&self) {
        let mut wishes = lock(&self.interest);
        if std::mem::take(&mut wishes.lent) {
            self.watch_for(&wishes);
        }
    }

    /// Has another thread that waits read the socket, or leaves it for the next one that does.
    fn pass_on(&self) {
        self.resume();
        if !self.calls.next_reader() {
            self.progress.fetch_add(1, Ordering::Relaxed);
            if lock(&self.interest).recalled {
                self.give_back();
            }
        }
    }

    fn hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec::default();
        poll(&mut socket, Some(&now)).is_ok() && socket[0].revents().contains(PollFlags::HUP)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.goodbye();
    }
}

/// Rounded up: the caller's own clock is to end the call first, and says how long it has waited.
fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}
