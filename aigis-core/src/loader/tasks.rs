//! What a generation does beside its calls: spawned tasks, blocking jobs, timers.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::abi::{Completion, Job, Task};
use tokio::task::AbortHandle;

use super::guard::seats;
use super::host_api::{HostContext, complete, context_of, guard};
use super::runner::Runner;
use super::task::Pending;

/// What one generation does beside its calls.
#[derive(Default)]
pub(super) struct Tasks {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stage: Stage,
    next: u64,
    spawned: HashMap<u64, Arc<Runner>>,
    /// By the numbers of started calls: both are cancelled by one function.
    timers: HashMap<u64, Timer>,
    /// Jobs that wait or run, and timers that ring.
    busy: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Open,
    /// Tasks and jobs are not taken any more; `cleanup` runs or is to run.
    Retired,
    /// Nothing is taken any more.
    Closed,
}

struct Timer {
    done: Completion,
    clock: AbortHandle,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the tasks, waits until they are gone and the jobs are done, and takes no new ones.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.stage = Stage::Retired;
        let spawned: Vec<_> = state.spawned.values().cloned().collect();
        drop(state);
        for runner in spawned {
            runner.end_now(cancelled());
        }
        self.wait(|state| state.spawned.is_empty() && state.busy == 0);
    }

    /// Gives up the timers that are left, after `cleanup`. From then on the library is called no more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.stage = Stage::Closed;
        let timers: Vec<_> = state.timers.drain().collect();
        drop(state);
        for (_, timer) in timers {
            timer.clock.abort();
            complete(timer.done, &Err(cancelled()));
        }
        self.wait(|state| state.busy == 0);
    }

    fn wait(&self, done: impl Fn(&State) -> bool) {
        let waited = self.changed.wait_while(self.lock(), |state| !done(state));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives up a timer; false when there is none of this number.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let timer = self.lock().timers.remove(&number);
        let Some(timer) = timer else { return false };
        timer.clock.abort();
        complete(timer.done, &Err(cancelled()));
        true
    }

    fn ring(&self, number: u64) {
        let timer = {
            let mut state = self.lock();
            let timer = state.timers.remove(&number);
            state.busy += usize::from(timer.is_some());
            timer
        };
        if let Some(timer) = timer {
            complete(timer.done, &Ok(Vec::new()));
            self.rest();
        }
    }

    fn rest(&self) {
        self.lock().busy -= 1;
        self.changed.notify_all();
    }

    fn is_over(&self, number: u64) {
        let runner = self.lock().spawned.remove(&number);
        self.changed.notify_all();
        drop(runner);
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the task was cancelled")
}

pub(super) unsafe extern "C" fn spawn(context: *const c_void, task: Task) -> u64 {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let pending = Pending::of_generation(task, context.frame(), context.weak_services());
    guard(
        |_| 0,
        || {
            let mut state = context.tasks.lock();
            state.next += 1;
            let number = state.next;
            if state.stage > Stage::Open {
                drop(state);
                drop(pending);
                return number;
            }
            let done = Box::new(move |_| context.tasks.is_over(number));
            let runner = Runner::new(pending, done);
            state.spawned.insert(number, Arc::clone(&runner));
            drop(state);
            runner.schedule();
            number
        },
    )
}

pub(super) unsafe extern "C" fn abort(context: *const c_void, task: u64) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(drop, || {
        let runner = context.tasks.lock().spawned.get(&task).cloned();
        if let Some(runner) = runner {
            runner.give_up(cancelled());
        }
    });
}

/// A job of a library on its way; dropped by a host that has no thread for it, it is given up.
struct Work {
    job: Option<Job>,
    context: &'static HostContext,
}

impl Work {
    fn run(mut self) {
        if let Some(job) = self.job.take() {
            // SAFETY: the job was taken from its place, so this is the one use of it. The generation
            // waits for it before it ends.
            seats::within(self.context.frame().get(), || unsafe {
                (job.run)(job.data)
            });
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            // SAFETY: as in `run`.
            seats::within(self.context.frame().get(), || unsafe {
                (job.drop)(job.data)
            });
        }
        self.context.tasks.rest();
    }
}

pub(super) unsafe extern "C" fn run(context: *const c_void, job: Job) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(drop, || {
        let taken = {
            let mut state = context.tasks.lock();
            state.busy += 1;
            state.stage == Stage::Open
        };
        let work = Work {
            job: Some(job),
            context,
        };
        if let (true, Ok(services)) = (taken, context.services()) {
            services.run(Box::new(move || work.run()));
        }
    });
}

pub(super) unsafe extern "C" fn sleep(
    context: *const c_void,
    milliseconds: u64,
    done: Completion,
) -> u64 {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let number = context.started.next.fetch_add(1, Ordering::Relaxed);
    let tasks = &context.tasks;
    guard(
        |_| number,
        || {
            // Held until the timer is known: it may ring at once.
            let mut state = tasks.lock();
            let services = context.services();
            let (true, Ok(services)) = (state.stage < Stage::Closed, services) else {
                drop(state);
                complete(done, &Err(cancelled()));
                return number;
            };
            let runs = Arc::downgrade(&services);
            let clock = services.after(
                Duration::from_millis(milliseconds),
                // The clock's thread runs no code of a library.
                Box::new(move || {
                    if let Some(services) = runs.upgrade() {
                        services.run(Box::new(move || tasks.ring(number)));
                    }
                }),
            );
            state.timers.insert(number, Timer { done, clock });
            number
        },
    )
}
