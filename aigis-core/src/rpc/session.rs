//! The calls of one session.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Expected, Failure, FailureKind, timed_out};
use aigis_plugin_api::session::frame::{self, Header, Kind};
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::server::Shared;
use super::{Done, SessionInfo, Underway};

/// One admitted client, its calls and the way back to it.
pub(super) struct Session {
    pub(super) info: Arc<SessionInfo>,
    pub(super) outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Tells the session's task that something in `state` or the outbox has become less.
    room: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// The calls that the client waits for.
    calls: HashMap<u64, Progress>,
    /// Answers that are just being sent.
    answering: usize,
    /// Calls that wait or run, given up or not.
    in_flight: usize,
    /// Their arguments.
    argument_bytes: usize,
    /// How many calls have begun.
    begun: u64,
}

enum Progress {
    Queued(Job),
    Running {
        /// Which one it is: the client may use a number again.
        begun: u64,
        /// It goes on without a thread.
        underway: Option<Arc<dyn Underway>>,
    },
}

impl Progress {
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
pub(super) struct Job {
    pub(super) body: Vec<u8>,
    pub(super) expected: Option<Arc<Expected>>,
    pub(super) received: Instant,
    /// How long the caller waits from then on.
    pub(super) timeout: Option<Duration>,
}

/// The place that a call takes among all that are waiting or running.
struct Slot {
    session: Arc<Session>,
    bytes: usize,
}

impl Slot {
    /// Takes a place; none when the core has as many calls as it takes.
    fn take(session: &Arc<Session>, bytes: usize) -> Option<Self> {
        let in_all = &session.shared.calls;
        let limit = session.shared.limits.calls_in_all;
        in_all
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                (calls < limit).then_some(calls + 1)
            })
            .ok()?;
        let mut state = session.lock();
        state.in_flight += 1;
        state.argument_bytes += bytes;
        drop(state);
        Some(Self {
            session: Arc::clone(session),
            bytes,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        decrease(&self.session.shared.calls);
        let mut state = self.session.lock();
        state.in_flight -= 1;
        state.argument_bytes -= self.bytes;
        drop(state);
        self.session.room.notify_one();
    }
}

fn decrease(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

impl Session {
    pub(super) fn new(
        info: Arc<SessionInfo>,
        outbox: Arc<Outbox>,
        shared: Arc<Shared>,
        room: Arc<Notify>,
    ) -> Self {
        Self {
            info,
            outbox,
            shared,
            state: Mutex::default(),
            room,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until one more call may be taken from the client.
    pub(super) async fn wait_for_room(&self) {
        let limits = &self.shared.limits;
        loop {
            let has_room = {
                let state = self.lock();
                state.in_flight < limits.calls_of_session
                    && state.argument_bytes < limits.bytes_of_session
            };
            if has_room && !self.outbox.is_full() {
                return;
            }
            self.room.notified().await;
        }
    }

    /// Waits until the client waits for nothing.
    pub(super) async fn wait_for_answers(&self) {
        loop {
            {
                let state = self.lock();
                if state.calls.is_empty() && state.answering == 0 {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// Has a call run as soon as a thread is free.
    ///
    /// # Errors
    /// The client counts wrongly: a call of this number is waiting already.
    pub(super) fn submit(self: &Arc<Self>, header: Header, job: Job) -> Result<(), Failure> {
        let number = header.call;
        let Some(slot) = Slot::take(self, header.len) else {
            self.outbox.push(error_frame(
                number,
                &overloaded("as many calls as it takes are waiting or running already"),
            ));
            return Ok(());
        };
        match self.lock().calls.entry(number) {
            Entry::Vacant(entry) => entry.insert(Progress::Queued(job)),
            Entry::Occupied(_) => {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("malformed frame: a call of number {number} is waiting already"),
                ));
            }
        };
        let session = Arc::clone(self);
        let task = Box::new(move || session.run(number, slot));
        if let Err(error) = self.shared.pool.submit(task) {
            let refused = overloaded(&format!("no thread can be started: {error}"));
            self.answer(number, error_frame(number, &refused));
        }
        Ok(())
    }

    /// Gives up on a call: one that has not begun never will, one that waits is ended, one that runs is
    /// not answered.
    pub(super) fn cancel(&self, number: u64) {
        let given_up = self.lock().calls.remove(&number);
        if let Some(progress) = given_up {
            progress.give_up();
        }
    }

    /// Gives up on all calls; the client is gone.
    pub(super) fn cancel_all(&self) {
        let given_up = std::mem::take(&mut self.lock().calls);
        given_up.into_values().for_each(Progress::give_up);
    }

    fn run(self: &Arc<Self>, number: u64, slot: Slot) {
        let Some((begun, job)) = self.begin(number) else {
            return;
        };
        let deadline = job
            .timeout
            .and_then(|timeout| job.received.checked_add(timeout));
        // The reader has decoded it once, to look for what it expects.
        let call: frame::Call<'_> = match frame::decode_body(&job.body) {
            Ok(call) => call,
            Err(failure) => return self.answer(number, error_frame(number, &failure)),
        };
        let left = match (job.timeout, deadline) {
            (Some(timeout), Some(deadline)) => {
                match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => Some(left),
                    _ => {
                        let failure = timed_out(call.name, timeout);
                        return self.answer(number, error_frame(number, &failure));
                    }
                }
            }
            _ => None,
        };
        let (session, name) = (Arc::clone(self), call.name.to_owned());
        let done: Done = Box::new(move |outcome| {
            session.complete(number, &name, deadline, outcome);
            drop(slot);
        });
        let called = catch_unwind(AssertUnwindSafe(|| {
            let (service, expected) = (&self.shared.service, job.expected.as_deref());
            service.call(&self.info, call.name, expected, call.arguments, left, done)
        }));
        match called {
            Ok(None) => {}
            Ok(Some(underway)) => self.goes_on(number, begun, underway),
            Err(payload) => {
                let failure = panicked(call.name, payload);
                self.answer(number, error_frame(number, &failure));
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
            }) if *begun == this => *place = Some(underway),
            _ => {
                drop(state);
                underway.give_up();
            }
        }
    }

    fn complete(
        &self,
        number: u64,
        name: &str,
        deadline: Option<Instant>,
        outcome: Result<Vec<u8>, Failure>,
    ) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // The caller has stopped waiting at the same time.
            return self.cancel(number);
        }
        let frame = match outcome {
            Ok(result) => frame::frame(Kind::Reply, number, 0, &result)
                .unwrap_or_else(|failure| error_frame(number, &failure.of_skill(name))),
            Err(failure) => error_frame(number, &failure.of_skill(name)),
        };
        self.answer(number, frame);
    }

    /// Takes the call out of the queue, unless it was given up.
    fn begin(&self, number: u64) -> Option<(u64, Job)> {
        let mut state = self.lock();
        state.begun += 1;
        let begun = state.begun;
        let progress = state.calls.get_mut(&number)?;
        let running = Progress::Running {
            begun,
            underway: None,
        };
        match std::mem::replace(progress, running) {
            Progress::Queued(job) => Some((begun, job)),
            // Given up, and the number was used again: the newer one runs elsewhere.
            running @ Progress::Running { .. } => {
                *progress = running;
                None
            }
        }
    }

    fn answer(&self, number: u64, frame: Vec<u8>) {
        let mut state = self.lock();
        let wanted = state.calls.remove(&number).is_some();
        if !wanted {
            return;
        }
        // From here on the client may use the number again, so it cannot stay among the calls; and
        // before the frame is with the outbox, the session must not say goodbye.
        state.answering += 1;
        drop(state);
        self.outbox.push(frame);
        self.lock().answering -= 1;
        self.room.notify_one();
    }
}

/// Makes the frame that says how a call failed; number 0 speaks of the session.
pub(super) fn error_frame(number: u64, failure: &Failure) -> Vec<u8> {
    frame::frame(Kind::Error, number, 0, &failure.encode())
        .or_else(|too_large| frame::frame(Kind::Error, number, 0, &too_large.encode()))
        // An error about the size of an error fits.
        .unwrap_or_default()
}

fn overloaded(why: &str) -> Failure {
    Failure::new(
        FailureKind::Overloaded,
        format!("the core is overloaded ({why}); the call was not run, try again later"),
    )
}

fn panicked(skill: &str, payload: Box<dyn Any + Send>) -> Failure {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    // A payload whose own drop panics must not take this thread down.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    tracing::error!(skill, message, "the core panicked while it ran a call");
    Failure::new(
        FailureKind::Internal,
        format!("the core panicked while it ran {skill}: {message}"),
    )
    .of_skill(skill)
}
