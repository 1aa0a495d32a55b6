//! Polls futures on the host's call threads, without a thread for each.
//!
//! Whose turn it is says [`Turns`].

use std::ffi::c_void;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use aigis_plugin_api::__private::{Failure, FailureKind, cancelled, timed_out};
use aigis_plugin_api::abi::TaskWaker;
use aigis_plugin_api::session::Underway;
use aigis_plugin_api::session::turns::{Ending, Turns, stranded};
use tokio::task::AbortHandle;

use super::Services;
use super::guard::Visit;
use super::lock;
use super::task::{Pending, release, retain};

/// Hears of an outcome, on a thread that may block.
pub(crate) use aigis_plugin_api::session::Done;

/// Runs a call of a skill of this process on this thread, or begins it where it is async; `done` hears its
/// outcome once, here or, when what is underway is returned, later on another thread.
pub(crate) fn begin(
    visit: Visit,
    arguments: &[u8],
    timeout: Option<Duration>,
    done: Done,
) -> Option<Arc<dyn Underway>> {
    let pending = match visit.serving().begin(arguments) {
        Ok(pending) => pending,
        Err(failure) => {
            let failure = failure.of_skill(&visit.serving().offer().name);
            drop(visit);
            done(Err(failure));
            return None;
        }
    };
    let Some(pending) = pending else {
        let outcome = visit.serving().call(arguments, timeout);
        let outcome = outcome.map_err(|failure| failure.of_skill(&visit.serving().offer().name));
        drop(visit);
        done(outcome);
        return None;
    };
    let offer = Arc::clone(visit.serving().offer());
    // From here on the future keeps the generation.
    drop(visit);
    let late = timeout.map(|timeout| (timeout, timed_out(&offer.name, timeout)));
    let done = move |outcome: Result<_, Failure>| {
        done(outcome.map_err(|failure| failure.of_skill(&offer.name)));
    };
    let runner = Runner::new(pending, Box::new(done));
    if let Some((timeout, failure)) = late {
        runner.give_up_after(timeout, failure);
    }
    runner.run();
    Some(runner)
}

/// A future on its way, for whoever may want to give it up.
pub(crate) struct Runner {
    own: Weak<Self>,
    waker: TaskWaker,
    turns: Turns,
    /// Locked by whoever has the turn, so nobody waits for it.
    pending: Mutex<Option<Pending>>,
    ending: Ending<AbortHandle>,
    services: Weak<dyn Services>,
}

impl Runner {
    /// Makes a runner, which waits for [`schedule`](Self::schedule) or [`run`](Self::run). `done` is
    /// called once.
    pub(crate) fn new(pending: Pending, done: Done) -> Arc<Self> {
        let services = Weak::clone(pending.services());
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            own: Weak::clone(own),
            waker: TaskWaker {
                data: own.as_ptr().cast(),
                retain: retain::<Self>,
                release: release::<Self>,
                wake,
            },
            turns: Turns::default(),
            pending: Mutex::new(Some(pending)),
            ending: Ending::new(done),
            services,
        })
    }

    /// Has a call thread poll it.
    pub(crate) fn schedule(self: &Arc<Self>) {
        /// One turn of a runner; that of a host which is closing is dropped instead.
        struct Turn(Option<Arc<Runner>>);

        impl Drop for Turn {
            fn drop(&mut self) {
                if let Some(runner) = self.0.take() {
                    runner.end_now(Failure::new(
                        FailureKind::Overloaded,
                        "the call was not run to its end: the core is shutting down, or has no \
                         thread for it",
                    ));
                }
            }
        }

        let mut turn = Turn(Some(Arc::clone(self)));
        if let Some(services) = self.services.upgrade() {
            services.run(Box::new(move || {
                if let Some(runner) = turn.0.take() {
                    runner.run();
                }
            }));
        }
    }

    /// Polls it on this thread.
    pub(crate) fn run(self: &Arc<Self>) {
        if !self.turns.begin() {
            // Ended in the meantime.
            return;
        }
        if let Some(failure) = self.ending.given_up() {
            return self.finish(Err(failure));
        }
        let polled = match &mut *lock(&self.pending) {
            Some(pending) => pending.poll(&self.waker),
            None => return,
        };
        match polled {
            Poll::Ready(outcome) => self.finish(outcome),
            Poll::Pending if self.turns.pause() => {}
            // Woken meanwhile: others have their turn first.
            Poll::Pending => self.schedule(),
        }
    }

    /// Has it polled soon.
    fn wake(self: &Arc<Self>) {
        if self.turns.wake() {
            self.schedule();
        }
    }

    /// Has it dropped soon, unless it is over; `done` hears `failure`.
    pub(crate) fn give_up(self: &Arc<Self>, failure: Failure) {
        self.ending.give_up(failure);
        self.wake();
    }

    /// Gives it up after `time`.
    pub(crate) fn give_up_after(self: &Arc<Self>, time: Duration, failure: Failure) {
        let Some(services) = self.services.upgrade() else {
            return;
        };
        let runner = Arc::downgrade(self);
        let deadline = services.after(
            time,
            Box::new(move || {
                if let Some(runner) = runner.upgrade() {
                    runner.give_up(failure);
                }
            }),
        );
        if let Some(late) = self.ending.keep(deadline) {
            late.abort();
        }
    }

    /// Drops it on this thread; where another one polls it, as soon as that is done.
    pub(super) fn end_now(self: &Arc<Self>, failure: Failure) {
        self.ending.give_up(failure.clone());
        if self.turns.take() {
            self.finish(Err(failure));
        }
    }

    fn finish(&self, outcome: Result<Vec<u8>, Failure>) {
        self.turns.end();
        let pending = lock(&self.pending).take();
        let dropped = pending.map(Pending::end);
        self.ending
            .finish(outcome, dropped, |deadline| deadline.abort());
    }
}

impl Underway for Runner {
    fn give_up(&self) {
        if let Some(runner) = self.own.upgrade() {
            Self::give_up(&runner, cancelled());
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Over, as a rule. Else nobody has a waker of it any more.
        if !self.turns.are_over() {
            self.finish(Err(stranded()));
        }
    }
}

/// # Safety
/// `data` is the address of a [`Runner`] in an `Arc`, of which the caller has a reference.
unsafe extern "C" fn wake(data: *const c_void) {
    let runner = data.cast::<Runner>();
    // SAFETY: the caller's promise; the new reference is this function's own.
    let runner = unsafe {
        Arc::increment_strong_count(runner);
        Arc::from_raw(runner)
    };
    runner.wake();
}
