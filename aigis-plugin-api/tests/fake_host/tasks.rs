//! The host's side of futures: each has a thread that polls it.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::abi::{
    Buffer, Completion, Descriptor, Job, Status, Task, TaskPoll, TaskWaker,
};

use super::{complete, host};

/// What waits for a future, and what its wakers wake.
pub struct Poller {
    waker: TaskWaker,
    signals: Mutex<Signals>,
    changed: Condvar,
    polls: AtomicUsize,
}

#[derive(Default)]
struct Signals {
    woken: bool,
    aborted: bool,
}

unsafe extern "C" fn retain(data: *const c_void) {
    // SAFETY: it is the address of a poller in an `Arc`, of which the caller has a reference.
    unsafe { Arc::increment_strong_count(data.cast::<Poller>()) }
}

unsafe extern "C" fn release(data: *const c_void) {
    // SAFETY: as above; the reference was retained.
    unsafe { Arc::decrement_strong_count(data.cast::<Poller>()) }
}

unsafe extern "C" fn wake(data: *const c_void) {
    // SAFETY: as above.
    let poller = unsafe { &*data.cast::<Poller>() };
    poller.signals.lock().unwrap().woken = true;
    poller.changed.notify_all();
}

impl Poller {
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            waker: TaskWaker {
                data: own.as_ptr().cast(),
                retain,
                release,
                wake,
            },
            signals: Mutex::default(),
            changed: Condvar::new(),
            polls: AtomicUsize::new(0),
        })
    }

    /// Has the future dropped that is driven.
    pub fn abort(&self) {
        self.signals.lock().unwrap().aborted = true;
        self.changed.notify_all();
    }

    /// What a poll is given.
    pub fn waker(&self) -> &TaskWaker {
        &self.waker
    }

    /// Waits until it is woken.
    pub fn wait(&self) {
        let signals = self.signals.lock().unwrap();
        let woken = self.changed.wait_while(signals, |signals| !signals.woken);
        woken.unwrap().woken = false;
    }

    /// How often a future was polled.
    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    /// How many wakers there are, this one apart.
    pub fn wakers(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }

    /// Polls a future until it is over or given up; then drops it.
    pub fn drive(&self, task: Task) -> Result<Vec<u8>, Failure> {
        let outcome = loop {
            if self.signals.lock().unwrap().aborted {
                break Err(Failure::new(FailureKind::Cancelled, "cancelled"));
            }
            self.polls.fetch_add(1, Ordering::SeqCst);
            let mut out = Buffer::default();
            // SAFETY: the task is not over, and this thread alone has it; the waker is this poller's.
            match unsafe { (task.poll)(task.data, &self.waker, &mut out) } {
                TaskPoll::Ready => break Ok(out.into_vec()),
                TaskPoll::Failed => break Err(Failure::decode(out.as_slice())),
                TaskPoll::Pending => {
                    let signals = self.signals.lock().unwrap();
                    let idle = |signals: &mut Signals| !signals.woken && !signals.aborted;
                    self.changed.wait_while(signals, idle).unwrap().woken = false;
                }
            }
        };
        let mut error = Buffer::default();
        // SAFETY: the task is dropped here, once.
        match unsafe { (task.drop)(task.data, &mut error) } {
            Status::Ok => outcome,
            Status::Failed | Status::Absent => Err(Failure::decode(error.as_slice())),
        }
    }
}

/// Begins an async skill; none when it is a plain one.
pub fn begin(
    descriptor: &Descriptor,
    index: u32,
    arguments: &[u8],
) -> Result<Option<Task>, Failure> {
    let (mut task, mut error) = (MaybeUninit::uninit(), Buffer::default());
    match descriptor.begin.expect("is of 1.1")(index, arguments.into(), &mut task, &mut error) {
        // SAFETY: after `Ok` the task is written.
        Status::Ok => Ok(Some(unsafe { task.assume_init() })),
        Status::Absent => Ok(None),
        Status::Failed => Err(Failure::decode(error.as_slice())),
    }
}

/// What the library has given to its host.
#[derive(Default)]
pub struct Tasks {
    next: AtomicU64,
    /// Tasks and jobs on their way, and timers.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    retired: bool,
    tasks: HashMap<u64, Arc<Poller>>,
    jobs: usize,
    timers: HashMap<u64, Arc<Mutex<Option<Completion>>>>,
}

impl Tasks {
    /// Ends the library's tasks and waits for them and its jobs; what comes later is dropped.
    pub fn retire(&self) {
        let mut state = self.state.lock().unwrap();
        state.retired = true;
        for poller in state.tasks.values() {
            poller.abort();
        }
        let busy = |state: &mut State| !state.tasks.is_empty() || state.jobs > 0;
        drop(self.changed.wait_while(state, busy).unwrap());
    }

    /// How many tasks there are now.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().tasks.len()
    }

    /// How many timers there are now.
    pub fn timers(&self) -> usize {
        self.state.lock().unwrap().timers.len()
    }

    fn number(&self) -> u64 {
        // Never a number of a started call: both are cancelled by the same function.
        self.next.fetch_add(1, Ordering::SeqCst) + 1_000_000
    }

    /// Gives up on a timer; false when there is none of this number.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let timer = self.state.lock().unwrap().timers.remove(&number);
        let Some(place) = timer else { return false };
        let failure = Failure::new(FailureKind::Cancelled, "cancelled");
        complete(&place, &Err(failure));
        self.changed.notify_all();
        true
    }
}

fn drop_task(task: &Task) {
    let mut error = Buffer::default();
    // SAFETY: the task was handed over and is dropped here, once.
    unsafe { (task.drop)(task.data, &mut error) };
}

pub(super) unsafe extern "C" fn spawn(context: *const c_void, task: Task) -> u64 {
    let tasks = &host(context).tasks;
    let number = tasks.number();
    let poller = Poller::new();
    {
        let mut state = tasks.state.lock().unwrap();
        if state.retired {
            drop(state);
            drop_task(&task);
            return number;
        }
        state.tasks.insert(number, Arc::clone(&poller));
    }
    thread::spawn(move || {
        // Whoever waits for the task is told by the library; a panic in it is in the log.
        let _ = poller.drive(task);
        tasks.state.lock().unwrap().tasks.remove(&number);
        tasks.changed.notify_all();
    });
    number
}

pub(super) unsafe extern "C" fn abort(context: *const c_void, task: u64) {
    let poller = host(context)
        .tasks
        .state
        .lock()
        .unwrap()
        .tasks
        .get(&task)
        .cloned();
    if let Some(poller) = poller {
        poller.abort();
    }
}

pub(super) unsafe extern "C" fn run(context: *const c_void, job: Job) {
    let tasks = &host(context).tasks;
    {
        let mut state = tasks.state.lock().unwrap();
        if state.retired {
            drop(state);
            // SAFETY: the job is used here, once.
            unsafe { (job.drop)(job.data) };
            return;
        }
        state.jobs += 1;
    }
    thread::spawn(move || {
        let job = job;
        // SAFETY: the job is used here, once.
        unsafe { (job.run)(job.data) };
        tasks.state.lock().unwrap().jobs -= 1;
        tasks.changed.notify_all();
    });
}

pub(super) unsafe extern "C" fn sleep(
    context: *const c_void,
    milliseconds: u64,
    done: Completion,
) -> u64 {
    let tasks = &host(context).tasks;
    let number = tasks.number();
    let place = Arc::new(Mutex::new(Some(done)));
    let at = Instant::now() + Duration::from_millis(milliseconds);
    tasks
        .state
        .lock()
        .unwrap()
        .timers
        .insert(number, Arc::clone(&place));
    thread::spawn(move || {
        let mut state = tasks.state.lock().unwrap();
        while state.timers.contains_key(&number) {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.timers.remove(&number);
                drop(state);
                return complete(&place, &Ok(Vec::new()));
            }
            state = tasks.changed.wait_timeout(state, left).unwrap().0;
        }
    });
    number
}
