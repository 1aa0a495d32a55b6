//! The threads that read connections nobody waits at, and that run what comes in.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::lock;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);
/// How soon somebody waits for events again after a moment in which nobody did.
const LOOK: Duration = Duration::from_millis(1);
/// How soon it is at most once what was lent has been in use for a while: on a busy machine every look
/// takes a core from whoever uses it.
const LATER_LOOK: Duration = Duration::from_millis(4);
/// How many threads wait for events at the same time: one that gets its event, and one that is then
/// there already for the next.
const POSTS: usize = 2;
/// How many threads may stay with what they have handled.
const STAYS: usize = 8;

/// What a thread runs. It must not panic.
pub type Task = Box<dyn FnOnce() + Send>;

/// A pool of threads that grows with what blocks in it, and shrinks again.
///
/// A thread without work waits for events of the descriptors that are watched, and who gets an event
/// also handles it, so that nobody else has to be woken for it. Before it does, it sees to it that
/// another one waits.
pub struct Reactor {
    shared: Arc<Shared>,
}

/// Something with a descriptor that is watched.
pub trait Watched: Send + Sync {
    /// Handles what has happened at the descriptor. It is watched again when it asks for that.
    fn ready(self: Arc<Self>);

    /// Is asked again and again after it was [lent](Reactor::lend); `true` when that is over.
    fn reclaim(&self) -> bool {
        true
    }
}

struct Shared {
    limit: usize,
    /// Threads that stay with what they have handled.
    stays: AtomicUsize,
    /// What an idle thread does when it is woken for it.
    between: fn(),
    /// What is watched: an event is told once, to one thread.
    epoll: OwnedFd,
    /// Calls one of the threads that wait for events.
    bell: OwnedFd,
    watched: Mutex<Registry>,
    state: Mutex<State>,
    work: Condvar,
    /// Tells that a thread does not wait for events any more.
    left: Condvar,
}

#[derive(Default)]
struct Registry {
    last: u64,
    open: HashMap<u64, Weak<dyn Watched>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    threads: usize,
    /// Threads at no post that wait for work, those included that were woken but have not come to it.
    idle: usize,
    /// Where threads wait for events; in each place the last round that the thread there has made.
    posted: [Option<u64>; POSTS],
    /// How often idle threads were woken to do what is to be done between tasks.
    rounds: u64,
    /// A thread without a post looks again and again whether somebody waits for events, because there
    /// was a moment when nobody did.
    deputy: bool,
    /// How many events there have been.
    events: u64,
    /// What others look after for now.
    lent: Vec<Weak<dyn Watched>>,
    /// How long the deputy waits before it asks for that.
    look: Duration,
    /// Threads that wait for others to leave their posts.
    waiting: usize,
    /// A thread has been started and has not come to its work yet.
    starting: bool,
    closed: bool,
}

/// What the event of the bell is known by; what is watched counts from 1.
const BELL: u64 = 0;

impl Reactor {
    /// Makes one of at most `limit` threads, which start when they are needed; idle ones run `between`
    /// when they are [woken](Self::wake_idle) for it.
    ///
    /// # Errors
    /// The system gives no descriptors.
    pub fn new(limit: usize, between: fn()) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each ring calls one thread.
        let once = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), once)?;
        Ok(Self {
            shared: Arc::new(Shared {
                limit,
                stays: AtomicUsize::new(0),
                between,
                epoll,
                bell,
                watched: Mutex::default(),
                state: Mutex::default(),
                work: Condvar::new(),
                left: Condvar::new(),
            }),
        })
    }

    /// Runs `task` as soon as a thread is free. Never waits.
    ///
    /// # Errors
    /// The system gives not even one thread.
    pub fn submit(&self, task: Task) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.queue.push_back(task);
        if let Err(error) = self.shared.call_for_work(&mut state)
            && state.threads == 0
        {
            let refused = state.queue.pop_back();
            drop(state);
            drop(refused);
            return Err(error);
        }
        Ok(())
    }

    /// Leaves a descriptor to somebody else, and [asks](Watched::reclaim) about every millisecond
    /// whether that is over.
    pub fn lend(&self, watched: Weak<dyn Watched>) {
        let mut state = self.shared.lock();
        state.lent.push(watched);
        state.look = LOOK;
        if state.deputy || state.starting {
            return;
        }
        if state.idle > 0 {
            self.shared.work.notify_one();
        } else {
            // Without a thread, whoever it is lent to keeps it.
            let _ = self.shared.grow(&mut state);
        }
    }

    /// Tells whether a thread may stay with what it has handled, until it [ends](Self::end_stay) that.
    pub fn begin_stay(&self) -> bool {
        let stays = &self.shared.stays;
        let begun = stays.fetch_add(1, Ordering::Relaxed) < STAYS;
        if !begun {
            stays.fetch_sub(1, Ordering::Relaxed);
        }
        begun
    }

    /// Ends a stay that has begun.
    pub fn end_stay(&self) {
        self.shared.stays.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes every idle thread do what is to be done between tasks.
    pub fn wake_idle(&self) {
        self.shared.lock().rounds += 1;
        self.shared.call_all();
    }

    /// Has a descriptor watched, once [`Watch::set`] says for what.
    ///
    /// # Errors
    /// The system's.
    pub fn watch(&self, fd: BorrowedFd<'_>, watched: Weak<dyn Watched>) -> io::Result<Watch> {
        let mut registry = lock(&self.shared.watched);
        registry.last += 1;
        let token = registry.last;
        epoll::add(
            &self.shared.epoll,
            fd,
            EventData::new_u64(token),
            EventFlags::ONESHOT,
        )?;
        registry.open.insert(token, watched);
        drop(registry);
        // Somebody has to be there for the event.
        let mut state = self.shared.lock();
        let followed = self.shared.follow(&mut state);
        drop(state);
        let watch = Watch {
            shared: Arc::clone(&self.shared),
            token,
        };
        followed.map(|()| watch)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.call_all();
    }
}

impl State {
    /// Tells whether a thread waits for events.
    fn is_posted(&self) -> bool {
        self.posted.iter().any(Option::is_some)
    }

    /// Tells whether something was lent for which nobody asks.
    fn lacks_deputy(&self) -> bool {
        !self.deputy && !self.lent.is_empty()
    }
}

/// A descriptor that is watched. It has to live longer than this.
pub struct Watch {
    shared: Arc<Shared>,
    token: u64,
}

/// What to look out for, once. A connection that is gone is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Something can be read.
    pub reading: bool,
    /// Something can be written.
    pub writing: bool,
}

impl Watch {
    /// Tells the next event, or what is true already.
    pub fn set(&self, fd: BorrowedFd<'_>, interest: Interest) {
        let mut flags = EventFlags::ONESHOT;
        flags.set(EventFlags::IN | EventFlags::RDHUP, interest.reading);
        flags.set(EventFlags::OUT, interest.writing);
        // It can only fail for a descriptor that is not watched.
        let _ = epoll::modify(
            &self.shared.epoll,
            fd,
            EventData::new_u64(self.token),
            flags,
        );
    }

    /// Ends it, while the descriptor is still open.
    pub fn end(&self, fd: BorrowedFd<'_>) {
        if lock(&self.shared.watched)
            .open
            .remove(&self.token)
            .is_some()
        {
            let _ = epoll::delete(&self.shared.epoll, fd);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Wakes whoever can take what waits in the queue, or starts a thread for it.
    fn call_for_work(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.queue.len() <= state.idle {
            self.work.notify_one();
            return Ok(());
        }
        let posted = state.is_posted();
        if posted {
            self.ring();
        }
        if !posted || state.queue.len() > state.idle + 1 {
            return self.grow(state);
        }
        Ok(())
    }

    /// Sees to it that somebody waits for events.
    fn follow(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let seen_to = state.is_posted() && !state.lacks_deputy();
        if seen_to || state.starting || state.deputy {
            return Ok(());
        }
        if state.idle > 0 {
            self.work.notify_one();
            return Ok(());
        }
        self.grow(state)
    }

    fn grow(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.starting || state.threads >= self.limit {
            return Ok(());
        }
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("aigis-call".to_owned())
            .spawn(move || shared.work())?;
        state.starting = true;
        state.threads += 1;
        Ok(())
    }

    fn call_all(&self) {
        self.work.notify_all();
        self.ring();
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Waits for the next event; `None` for the bell.
    fn next_event(&self) -> Option<Arc<dyn Watched>> {
        let mut event = Vec::with_capacity(1);
        // Interrupted is as good as called.
        epoll::wait(&self.epoll, spare_capacity(&mut event), None).ok()?;
        let token = event.first()?.data.u64();
        lock(&self.watched).open.get(&token)?.upgrade()
    }

    /// Asks whether what was lent is over.
    fn ask_back<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        if state.lent.is_empty() {
            return state;
        }
        let mut lent = std::mem::take(&mut state.lent);
        drop(state);
        lent.retain(|lent| lent.upgrade().is_some_and(|lent| !lent.reclaim()));
        state = self.lock();
        // Whatever was lent meanwhile is looked at soon.
        if state.lent.is_empty() {
            state.look = (state.look * 2).min(LATER_LOOK);
        }
        state.lent.append(&mut lent);
        state
    }

    /// Does what is to be done between tasks, and has the other threads that wait for events do it.
    fn make_round<'s>(&'s self, mut state: MutexGuard<'s, State>) -> (MutexGuard<'s, State>, u64) {
        let round = state.rounds;
        drop(state);
        (self.between)();
        state = self.lock();
        // This one does not wait for events meanwhile, so that the bell calls the others.
        while state.posted.iter().flatten().any(|made| *made < round) && !state.closed {
            self.ring();
            state.waiting += 1;
            state = self
                .left
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        (state, round)
    }

    fn work(self: Arc<Self>) {
        let mut state = self.lock();
        state.starting = false;
        let mut rounds = state.rounds;
        let mut events = 0;
        loop {
            if let Some(task) = state.queue.pop_front() {
                // A refusal is not the end: this thread comes back to what waits.
                if !state.queue.is_empty() {
                    let _ = self.call_for_work(&mut state);
                }
                let _ = self.follow(&mut state);
                drop(state);
                task();
                state = self.lock();
            } else if state.closed {
                break;
            } else if state.rounds != rounds {
                // Also when it was busy at the time: it may have left its last call before.
                (state, rounds) = self.make_round(state);
            } else if let Some(post) = state.posted.iter().position(Option::is_none)
                && !(state.lacks_deputy() && state.is_posted())
            {
                state.posted[post] = Some(rounds);
                if state.lacks_deputy() {
                    // Another one has to ask for it: this one sleeps until there is an event.
                    if state.idle > 0 {
                        self.work.notify_one();
                    } else {
                        let _ = self.grow(&mut state);
                    }
                }
                drop(state);
                let event = self.next_event();
                state = self.lock();
                state.posted[post] = None;
                if state.waiting > 0 {
                    self.left.notify_all();
                }
                if let Some(watched) = event {
                    state.events += 1;
                    let _ = self.follow(&mut state);
                    drop(state);
                    watched.ready();
                    state = self.lock();
                }
            } else {
                let active = state.events != events || !state.lent.is_empty();
                let deputy = !state.deputy && active;
                events = state.events;
                state.deputy |= deputy;
                state.idle += 1;
                let time = match deputy {
                    true if state.lent.is_empty() => LOOK,
                    true => state.look,
                    false => IDLE,
                };
                let (again, waited) = self
                    .work
                    .wait_timeout(state, time)
                    .unwrap_or_else(PoisonError::into_inner);
                state = again;
                state.idle -= 1;
                if deputy {
                    state = self.ask_back(state);
                    state.deputy = false;
                    // Those at the posts come back to them if they can.
                    continue;
                }
                let wanted = state.posted.contains(&None)
                    || state.lacks_deputy()
                    || !state.queue.is_empty()
                    || state.rounds != rounds;
                if waited.timed_out() && !wanted {
                    break;
                }
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    static BETWEEN: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);

    fn tell() {
        if let Some(told) = &*BETWEEN.lock().unwrap() {
            told.send(()).unwrap();
        }
    }

    /// It may have left its last call already, and would go idle with what it has.
    #[test]
    fn a_thread_that_was_busy_does_what_it_was_woken_for() {
        let (told, between) = mpsc::channel();
        *BETWEEN.lock().unwrap() = Some(told);
        let reactor = Reactor::new(1, tell).unwrap();
        let (begins, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let task = move || {
            begins.send(()).unwrap();
            ends.recv_timeout(DEADLINE).unwrap();
        };
        reactor.submit(Box::new(task)).unwrap();
        begun.recv_timeout(DEADLINE).unwrap();
        reactor.wake_idle();
        end.send(()).unwrap();
        between.recv_timeout(IDLE / 2).unwrap();
    }

    /// Tells that it was called, then waits to be let go.
    struct Held {
        called: mpsc::Sender<()>,
        go: Mutex<mpsc::Receiver<()>>,
    }

    impl Watched for Held {
        fn ready(self: Arc<Self>) {
            self.called.send(()).unwrap();
            self.go.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
    }

    #[test]
    fn events_find_a_thread_while_others_are_busy() {
        let reactor = Reactor::new(64, || {}).unwrap();
        let (called, calls) = mpsc::channel();
        let mut kept = Vec::new();
        for _ in 0..5 {
            let (near, far) = UnixStream::pair().unwrap();
            let (go, gone) = mpsc::channel();
            let held = Arc::new(Held {
                called: called.clone(),
                go: Mutex::new(gone),
            });
            let weak: Weak<Held> = Arc::downgrade(&held);
            let watch = reactor.watch(near.as_fd(), weak).unwrap();
            let reading = Interest {
                reading: true,
                writing: false,
            };
            watch.set(near.as_fd(), reading);
            rustix::io::write(&far, b"x").unwrap();
            // Every one is busy until the end.
            calls.recv_timeout(DEADLINE).unwrap();
            kept.push((near, far, held, watch, go));
        }
        let (tell, told) = mpsc::channel();
        reactor
            .submit(Box::new(move || tell.send(()).unwrap()))
            .unwrap();
        told.recv_timeout(DEADLINE).unwrap();
        for (.., go) in &kept {
            go.send(()).unwrap();
        }
    }
}
