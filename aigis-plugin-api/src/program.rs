//! What stands in for a host's timers and threads in a program, which has no core around it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

use crate::library::{Closure, Running};

/// When a timer rings, and which one of that time it is.
pub(crate) type Timer = (Instant, u64);

type Ring = Box<dyn FnOnce() + Send>;

struct Timers {
    waiting: BTreeMap<Timer, Ring>,
    next: u64,
    /// The one thread that waits for them all; it ends when none is left.
    served: bool,
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers {
    waiting: BTreeMap::new(),
    next: 0,
    served: false,
});
static CHANGED: Condvar = Condvar::new();

fn timers() -> MutexGuard<'static, Timers> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `ring` run at a time.
pub(crate) fn start_timer(at: Instant, ring: Ring) -> Timer {
    let mut timers = timers();
    let timer = (at, timers.next);
    timers.next += 1;
    timers.waiting.insert(timer, ring);
    if !timers.served {
        timers.served = spawn("aigis-timers", serve_timers);
    }
    drop(timers);
    CHANGED.notify_one();
    timer
}

/// Forgets a timer.
pub(crate) fn stop_timer(timer: Timer) {
    let ring = timers().waiting.remove(&timer);
    drop(ring);
}

fn serve_timers() {
    let mut timers = timers();
    while let Some((&(at, _), _)) = timers.waiting.first_key_value() {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let due = timers.waiting.pop_first();
            drop(timers);
            if let Some((_, ring)) = due {
                ring();
            }
            timers = self::timers();
        } else {
            let waited = CHANGED.wait_timeout(timers, left);
            timers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
    timers.served = false;
}

/// Starts a thread; without one, `body` is dropped.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(body).is_ok()
}

/// Polls one task, on a thread of its own.
#[derive(Default)]
pub(crate) struct Poller {
    state: Mutex<Signals>,
    changed: Condvar,
}

#[derive(Default)]
struct Signals {
    woken: bool,
    aborted: bool,
}

impl Poller {
    fn lock(&self) -> MutexGuard<'_, Signals> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task dropped, unless it is over.
    pub(crate) fn abort(&self) {
        self.lock().aborted = true;
        self.changed.notify_one();
    }

    fn serve(self: Arc<Self>, mut running: Running) {
        let waker = Waker::from(Arc::clone(&self));
        while !self.lock().aborted {
            if let Poll::Ready(outcome) = running.poll(&waker) {
                // Whoever waits for a spawned task has been told already; a panic is in the log.
                drop(outcome);
                break;
            }
            let idle = |signals: &mut Signals| !signals.woken && !signals.aborted;
            let woken = self.changed.wait_while(self.lock(), idle);
            woken.unwrap_or_else(PoisonError::into_inner).woken = false;
        }
        // A panic in a drop is in the log.
        let _ = running.end();
    }
}

impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        self.lock().woken = true;
        self.changed.notify_one();
    }
}

/// Polls a task until it is over.
pub(crate) fn spawn_task(running: Running) -> Arc<Poller> {
    let poller = Arc::new(Poller::default());
    let serving = Arc::clone(&poller);
    spawn("aigis-task", move || serving.serve(running));
    poller
}

/// Runs a closure that may block.
pub(crate) fn run_closure(closure: Closure) {
    spawn("aigis-blocking", move || closure.run());
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::context::{Context, Grant};
    use crate::join::JoinError;
    use crate::logger::Logger;

    fn context() -> Context {
        let grant = Grant {
            plugin: "tested".to_owned(),
            generation: 1,
            home: PathBuf::new(),
            data: PathBuf::new(),
            core_pid: 1,
            instance: 0,
            settings: None,
            brought: false,
        };
        Context::new(grant, Logger::to_stderr())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let mut future = std::pin::pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match future
                .as_mut()
                .poll(&mut std::task::Context::from_waker(&waker))
            {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn timers_ring_in_the_order_of_their_times() {
        let (sender, receiver) = mpsc::channel();
        let now = Instant::now();
        for milliseconds in [6, 2, 4] {
            let sender = sender.clone();
            let ring = Box::new(move || sender.send(milliseconds).expect("is received"));
            start_timer(now + Duration::from_millis(milliseconds), ring);
        }
        let never = start_timer(
            now + Duration::from_millis(3),
            Box::new(move || drop(sender)),
        );
        stop_timer(never);
        // Over when every timer has rung or was forgotten, each with its end of the channel.
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 4, 6]);
    }

    #[test]
    fn a_program_sleeps_spawns_and_gives_up() {
        let ctx = context();
        let own = ctx.clone();
        let task = ctx.spawn(async move {
            own.sleep(Duration::from_millis(2)).await;
            20
        });
        let work = ctx.spawn_blocking(|| 22);
        assert_eq!(
            block_on(async { Ok(task.await? + work.await?) }),
            Ok::<_, JoinError>(42)
        );

        let never = ctx.spawn(std::future::pending::<()>());
        assert!(!never.is_finished());
        never.abort();
        assert_eq!(block_on(never), Err(JoinError::Cancelled));

        let short = ctx.timeout(Duration::from_millis(1), std::future::pending::<()>());
        let error = block_on(short).expect_err("never ends");
        assert_eq!(error.to_string(), "not done within 1ms");
    }

    #[test]
    fn a_panic_is_told_to_whoever_joins() {
        let task = context().spawn(async { panic!("in a task") });
        let outcome: Result<(), _> = block_on(task);
        let Err(JoinError::Panicked { message, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(message, "in a task");
    }
}
