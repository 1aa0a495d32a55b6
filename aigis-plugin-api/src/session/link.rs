//! One connection, as both of its sides see it: calls go both ways, over a socket and, while both
//! sides are at it, through memory that they share.
//!
//! A thread that waits for an answer reads the socket itself; otherwise the [`Reactor`] does. Who reads
//! a call also runs it.

mod calling;
mod offer;
mod reading;
mod receiving;
mod sharing;
mod streaming;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::frame::{self, Call, Kind};
use super::inbox::{Inbox, Longest, Received};
use super::incoming::{BEYOND, Done, Incoming, Limits, Overdue, Underway, error_frame};
use super::lock;
use super::outbox::{Outbox, Packet, Written};
use super::reactor::{Interest, Reactor, Watch, Watched};
use super::ring::Ring;
use super::spin::Patience;
use super::streams::Streams;
use super::waiting::Calls;
use crate::abi::OnOutcome;
use crate::backend;
use crate::error::{Failure, FailureKind};
use crate::stream::{BoxItems, failed};

/// From this size on a result is not copied behind its header.
const APART: usize = 16 << 10;
/// How many bytes the system is to take before the other side has read them. It takes twice as many, with
/// what it needs for itself, and no memory before there are any.
const SEND_BUFFER: usize = 1 << 20;
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

    /// Opens a call, which begins when the first item is asked for; `streams` are the arguments that are
    /// streams. May block.
    fn open(
        &self,
        link: &Arc<Link>,
        call: Call<'_>,
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let _ = (link, call, streams, timeout);
        let message = "this side serves no streams";
        failed(Failure::new(FailureKind::Refused, message))
    }

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
    /// The other side said goodbye after it had answered every call that had begun.
    HandedOver,
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
            Self::HandedOver => f.write_str("it has made way for the next one"),
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
    streams: Streams,
    side: Arc<dyn Side>,
    end: OnceLock<End>,
    ring: OnceLock<Shared>,
    /// How long after an answer the next call comes.
    next_call: Patience,
    /// How long an answer takes while the other side attends to the ring.
    answer: Patience,
    /// How long an answer takes that comes after a pause.
    late_answer: Patience,
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
    /// Both sides know streams.
    streams_agreed: AtomicBool,
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
    /// Threads of this process that spin on it for their answers.
    spinning: AtomicUsize,
    /// Threads of this process that take what they find in it.
    takers: AtomicUsize,
    /// The thread that reads the socket does not hear the bell.
    deaf: AtomicBool,
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
    /// Those of a thread that waits for an answer.
    fn of_waiter() -> Self {
        Self {
            waits: true,
            ..Self::default()
        }
    }

    fn call_back(&mut self) {
        for (done, outcome) in self.callbacks.drain(..) {
            backend::without_blocking(|| crate::library::contain_callback(|| done(outcome)));
        }
    }
}

/// How a call ended that was made on a connection, apart from what its skill says.
fn lost(other: &str, skill: &str, end: &End) -> Failure {
    let known = match end {
        End::HandedOver => format!("{skill} was not called"),
        _ => format!("whether {skill} ran is unknown"),
    };
    let message = format!("{other} is gone ({end}); {known}");
    let mut failure = Failure::new(FailureKind::CoreGone, message).of_skill(skill);
    if matches!(end, End::HandedOver) {
        failure.details.push(NOT_BEGUN.to_owned());
    }
    failure
}

/// Marks the failure of a call that has not begun, and never will.
const NOT_BEGUN: &str = "not begun";

/// Tells whether a call of this failure may be made again, whatever it does.
pub(super) fn has_not_begun(failure: &Failure) -> bool {
    failure.kind == FailureKind::CoreGone && failure.details.iter().any(|it| it == NOT_BEGUN)
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
            streams: Streams::default(),
            side,
            end: OnceLock::new(),
            ring: OnceLock::new(),
            next_call: Patience::none(),
            answer: Patience::of_awake(),
            late_answer: Patience::of_asleep(),
            own_call: Patience::none(),
            heard: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            calls_taken: AtomicU64::new(0),
            born: Instant::now(),
            nap,
            progress: AtomicU64::new(0),
            seen: Mutex::default(),
            streams_agreed: AtomicBool::new(false),
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
            self.push(frame.into());
        }
    }

    /// Sends a frame that is no call, and a descriptor along with it.
    pub fn send_with(&self, frame: Vec<u8>, descriptor: OwnedFd) {
        if !frame.is_empty() {
            self.push(Packet {
                descriptor: Some(descriptor),
                ..frame.into()
            });
        }
    }

    /// Sends a packet over the socket.
    fn push(&self, packet: Packet) {
        let written = self.outbox.push(&self.socket, packet);
        self.after_write(written);
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
        self.push(packet);
        Sent::Socket
    }

    /// Tells the other side to look at the ring.
    fn call_to_ring(&self) {
        self.send(frame::frame(Kind::Look, 0, 0, &[]).unwrap_or_default());
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

    /// Tells whether to read on. What this side itself waits for is read too, unless the other side lets
    /// far too much wait for it: each frame that is read may be answered with another.
    fn has_room(&self) -> bool {
        let most = self.incoming.limits().bytes;
        let left = self.left();
        left < most.saturating_mul(BEYOND)
            && (left < most && self.incoming.has_room()
                || self.calls.is_waiting()
                || self.streams.awaits_items())
    }

    /// Tells whether to read on whoever waits.
    fn has_room_for_calls(&self) -> bool {
        self.left() < self.incoming.limits().bytes && self.incoming.has_room()
    }

    /// How many bytes are left until the other side reads.
    fn left(&self) -> usize {
        match self.outbox.state().0 {
            Written::Left(left) => left,
            Written::All | Written::Closed => 0,
        }
    }

    /// Takes no more calls.
    pub fn take_no_more(&self) {
        let mut wishes = lock(&self.interest);
        wishes.closing = true;
        self.watch_for(&wishes);
    }

    /// Has no further call begin, once those that run are answered; false if they are not by `deadline`.
    pub fn seal(&self, deadline: Instant) -> bool {
        self.take_no_more();
        self.incoming.seal(deadline)
    }

    /// Takes calls again.
    pub fn unseal(&self) {
        {
            let mut wishes = lock(&self.interest);
            wishes.closing = false;
            self.watch_for(&wishes);
        }
        if let Some(link) = self.me.upgrade() {
            self.incoming.unseal(&link);
        }
    }

    /// Ends the connection of a link that is sealed: the other side may make elsewhere what is not answered.
    pub fn hand_over(&self) {
        let goodbye = frame::frame(Kind::Goodbye, 0, 0, &[frame::ALL_ANSWERED]).unwrap_or_default();
        self.finish_with(End::Here, goodbye);
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

    /// Returns the calls of the other side for which it does not wait any more, and that go on.
    pub fn overdue(&self) -> Vec<Overdue> {
        self.incoming.overdue()
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
        self.outbox.close(&self.socket, last);
        if let Some(watch) = self.watch.get() {
            watch.end(self.socket.as_fd());
        }
        // What the system has taken already is still delivered.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.incoming.cancel_all();
        self.streams
            .close(|skill| lost(self.side.other(), skill, end));
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

impl Drop for Link {
    fn drop(&mut self) {
        self.goodbye();
    }
}
