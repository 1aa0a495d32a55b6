//! The one thread that learns of the end of every child: it is there while there are children, and sleeps until one ends.
//!
//! It also starts the daemons, since what the system kills with its parent it kills with the *thread* that has started it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::spawn::{self, Traits};
use super::{Child, Exit, Life};

const BELL: u64 = 0;
/// How many ends are read at once.
const EVENTS: usize = 64;

struct Reaper {
    children: BTreeMap<u64, Watched>,
    /// Daemons that are still to be started.
    orders: Vec<Order>,
    /// How many are being started by other threads.
    starting: usize,
    last: u64,
    /// None while no thread is there.
    poll: Option<Arc<Poll>>,
    thread: Option<ThreadId>,
    /// That thread and those before it, which have nothing left to do but to end.
    threads: Vec<JoinHandle<()>>,
    /// Nothing is started any more.
    closed: bool,
}

/// A child that has not ended.
struct Watched {
    life: Arc<Life>,
    grace: Duration,
    kill_at: Option<Instant>,
}

/// What the thread waits at.
struct Poll {
    epoll: OwnedFd,
    bell: OwnedFd,
}

struct Order {
    command: process::Command,
    traits: Traits,
    started: Sender<io::Result<process::Child>>,
}

static REAPER: Mutex<Reaper> = Mutex::new(Reaper {
    children: BTreeMap::new(),
    orders: Vec::new(),
    starting: 0,
    last: BELL,
    poll: None,
    thread: None,
    threads: Vec::new(),
    closed: false,
});

fn reaper() -> MutexGuard<'static, Reaper> {
    REAPER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Poll {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self { epoll, bell })
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Waits until children have ended, at most until `until`, or until it is called.
    fn wait(&self, until: Option<Instant>) -> Vec<u64> {
        let left = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            // A millisecond that has begun counts.
            let left = left.saturating_add(Duration::from_micros(999));
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::from(i32::MAX),
                tv_nsec: 0,
            })
        });
        let mut events = Vec::with_capacity(EVENTS);
        // Interrupted is as good as called.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), left.as_ref());
        let tokens: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        if tokens.contains(&BELL) {
            let mut rings = [0; 8];
            // It does not ring any more: somebody else cannot have read it.
            let _ = rustix::io::read(&self.bell, &mut rings);
        }
        tokens
    }
}

/// A place for a child that is being started: the thread stays for it.
struct Starting {
    poll: Arc<Poll>,
}

impl Starting {
    fn begin() -> io::Result<Self> {
        let mut reaper = reaper();
        if reaper.closed {
            return Err(io::Error::other(
                "the plugin is being closed, and its children are ended with it",
            ));
        }
        let poll = match &reaper.poll {
            Some(poll) => Arc::clone(poll),
            None => reaper.start()?,
        };
        reaper.starting += 1;
        Ok(Self { poll })
    }

    /// Watches over what has been started.
    fn watch(self, life: &Arc<Life>, grace: Duration) -> io::Result<()> {
        let mut reaper = reaper();
        reaper.last += 1;
        let token = reaper.last;
        {
            let state = life.lock();
            let Some(pidfd) = &state.pidfd else {
                return Ok(());
            };
            let data = EventData::new_u64(token);
            epoll::add(&self.poll.epoll, pidfd, data, EventFlags::IN)?;
        }
        let mut watched = Watched {
            life: Arc::clone(life),
            grace,
            kill_at: None,
        };
        if reaper.closed {
            watched.end();
        }
        life.token.store(token);
        reaper.children.insert(token, watched);
        Ok(())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        reaper().starting -= 1;
        self.poll.ring();
    }
}

impl Watched {
    /// Asks it to end, and sees to it that it does.
    fn end(&mut self) {
        // One that cannot be asked cannot be killed either.
        let _ = self.life.send(Signal::TERM.as_raw());
        if self.kill_at.is_none() {
            self.kill_at = Instant::now().checked_add(self.grace);
        }
    }
}

impl Reaper {
    fn start(&mut self) -> io::Result<Arc<Poll>> {
        let poll = Arc::new(Poll::new()?);
        let own = Arc::clone(&poll);
        let thread = thread::Builder::new()
            .name("aigis-children".to_owned())
            .spawn(move || serve(&own))?;
        self.poll = Some(Arc::clone(&poll));
        self.thread = Some(thread.thread().id());
        self.threads.retain(|before| !before.is_finished());
        self.threads.push(thread);
        Ok(poll)
    }

    fn is_needed(&self) -> bool {
        !self.children.is_empty() || !self.orders.is_empty() || self.starting > 0
    }

    fn kill_overdue(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for watched in self.children.values_mut() {
            if watched.kill_at.is_some_and(|at| at <= now) {
                watched.kill_at = None;
                let _ = watched.life.send(Signal::KILL.as_raw());
            }
        }
        self.children
            .values()
            .filter_map(|watched| watched.kill_at)
            .min()
    }

    fn is_own_thread(&self) -> bool {
        self.thread == Some(thread::current().id())
    }
}

/// What the thread does.
fn serve(poll: &Poll) {
    loop {
        let (orders, until) = {
            let mut reaper = reaper();
            if !reaper.is_needed() {
                reaper.poll = None;
                return;
            }
            let until = reaper.kill_overdue();
            (std::mem::take(&mut reaper.orders), until)
        };
        if orders.is_empty() {
            for token in poll.wait(until) {
                reap(poll, token);
            }
        }
        for order in orders {
            let started = spawn::spawn(order.command, order.traits);
            // Whoever has given the order waits for the answer.
            let _ = order.started.send(started);
        }
    }
}

/// Collects a child that has ended, and tells everybody.
fn reap(poll: &Poll, token: u64) {
    let life = {
        let reaper = reaper();
        let Some(watched) = reaper.children.get(&token) else {
            return;
        };
        Arc::clone(&watched.life)
    };
    let exit = {
        let mut state = life.lock();
        let Some(pidfd) = &state.pidfd else {
            return;
        };
        let Some(exit) = collect(pidfd) else {
            return;
        };
        let _ = epoll::delete(&poll.epoll, pidfd);
        state.pidfd = None;
        exit
    };
    reaper().children.remove(&token);
    life.finish(exit);
}

/// Takes the status of a child; none if it has not ended.
fn collect(pidfd: &OwnedFd) -> Option<Exit> {
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) => return None,
            Ok(Some(status)) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Some(Exit::Code(code)),
                    (None, Some(signal)) => Some(Exit::Signal(signal)),
                    (None, None) => None,
                };
            }
            Err(Errno::INTR) => {}
            // Somebody else has it.
            Err(_) => return Some(Exit::Unknown),
        }
    }
}

/// Starts a child, and has it watched.
pub(super) fn start(
    command: process::Command,
    traits: Traits,
    name: String,
    daemon: bool,
    grace: Duration,
) -> io::Result<Child> {
    let starting = Starting::begin()?;
    let mut started = match traits.dies_with_thread && !reaper().is_own_thread() {
        true => order(command, traits, &starting)?,
        false => spawn::spawn(command, traits)?,
    };
    let pid = started.id();
    let watch = |started: &mut process::Child| {
        let life = match pidfd_of(pid) {
            Ok(pidfd) => Life::new(Some(pidfd)),
            // It has ended, and this process ignores the end of children.
            Err(Errno::SRCH) => {
                let life = Life::new(None);
                life.finish(Exit::Unknown);
                life
            }
            Err(error) => return Err(io::Error::from(error)),
        };
        let watched = starting.watch(&life, grace);
        watched.map(|()| Child {
            stdin: started.stdin.take(),
            stdout: started.stdout.take(),
            stderr: started.stderr.take(),
            life,
            name,
            pid,
            daemon,
        })
    };
    watch(&mut started).inspect_err(|_| {
        // Nobody would learn of its end.
        let _ = started.kill();
        let _ = started.wait();
    })
}

fn pidfd_of(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It marks the descriptor to be closed with the program by itself.
    pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// Has the thread start it.
fn order(
    command: process::Command,
    traits: Traits,
    starting: &Starting,
) -> io::Result<process::Child> {
    let (started, answer) = mpsc::channel();
    reaper().orders.push(Order {
        command,
        traits,
        started,
    });
    starting.poll.ring();
    answer
        .recv()
        .map_err(|_| io::Error::other("the thread that starts daemons has ended"))?
}

/// Asks a child to end; it is killed if it does not within its time.
pub(super) fn end(token: u64) {
    let mut reaper = reaper();
    if let Some(watched) = reaper.children.get_mut(&token) {
        watched.end();
        if let Some(poll) = &reaper.poll {
            poll.ring();
        }
    }
}

/// Ends every child and waits until they and the thread are gone; from then on there are no others.
///
/// A callback of the thread's own cannot wait for it.
pub(crate) fn close() {
    {
        let mut reaper = reaper();
        reaper.closed = true;
        for watched in reaper.children.values_mut() {
            watched.end();
        }
        if let Some(poll) = &reaper.poll {
            poll.ring();
        }
        if reaper.is_own_thread() {
            return;
        }
    }
    at_rest();
}

/// Waits until the last child has ended, and the thread with it.
#[doc(hidden)]
pub fn at_rest() {
    let threads = std::mem::take(&mut reaper().threads);
    for thread in threads {
        // It contains the panics of callbacks.
        let _ = thread.join();
    }
}
