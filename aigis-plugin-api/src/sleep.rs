//! Waiting for a time, without a thread.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::library;
use crate::program;

/// The time given to [`Context::timeout`](crate::Context::timeout) was over before the future was.
///
/// ```
/// use aigis_plugin_api::TimedOut;
///
/// fn show(error: &TimedOut) -> String {
///     error.to_string()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    pub(crate) after: Duration,
}

impl TimedOut {
    /// Returns how long was waited.
    ///
    /// ```
    /// fn seconds(error: &aigis_plugin_api::TimedOut) -> u64 {
    ///     error.after().as_secs()
    /// }
    /// ```
    pub fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {:?}", self.after)
    }
}

impl std::error::Error for TimedOut {}

/// Is ready once its time has come. The timer is started by the first poll.
pub(crate) struct Sleep {
    /// None for a time that never comes.
    at: Option<Instant>,
    timer: Option<(Timer, Arc<Shared>)>,
}

/// Who wakes, and by which name that is cancelled.
enum Timer {
    Host(u64),
    Program(program::Timer),
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rung: Rung,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Rung {
    #[default]
    NotYet,
    InTime,
    /// The host has given the timer up: the library is closed, and nothing that waits goes on.
    Never,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, rung: Rung) {
        let mut state = self.lock();
        state.rung = rung;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sleep {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(time),
            timer: None,
        }
    }
}

fn start(at: Instant, shared: &Arc<Shared>) -> Timer {
    let ring = Arc::clone(shared);
    match library::host() {
        Some(host) => {
            let left = at.saturating_duration_since(Instant::now());
            // A millisecond that has begun counts: nobody is woken too early.
            let milliseconds = left.as_nanos().div_ceil(1_000_000);
            let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
            let done = move |outcome: Result<_, _>| {
                ring.ring(outcome.map_or(Rung::Never, |_| Rung::InTime));
            };
            Timer::Host(host.start_sleep(milliseconds, Box::new(done)))
        }
        None => Timer::Program(program::start_timer(
            at,
            Box::new(move || ring.ring(Rung::InTime)),
        )),
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        if let Some((_, shared)) = &self.timer {
            let mut state = shared.lock();
            if state.rung != Rung::InTime {
                let before = state.waker.replace(context.waker().clone());
                drop(state);
                drop(before);
                return Poll::Pending;
            }
        }
        // The first poll; or the host's clock rang before this one's time had come.
        let shared = Arc::new(Shared::default());
        shared.lock().waker = Some(context.waker().clone());
        self.timer = Some((start(at, &shared), shared));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some((timer, shared)) = self.timer.take() else {
            return;
        };
        if shared.lock().rung != Rung::NotYet {
            return;
        }
        match timer {
            Timer::Host(number) => {
                if let Some(host) = library::host() {
                    host.cancel_call(number);
                }
            }
            Timer::Program(timer) => program::stop_timer(timer),
        }
    }
}
