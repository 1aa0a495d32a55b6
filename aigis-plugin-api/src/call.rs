//! A started call: a placeholder for its result.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::backend;
use crate::error::{CallError, Failure, FailureKind, timed_out};
use crate::library;

/// A call that has been started with `start::…` of an import.
///
/// It runs whether or not anybody looks at it; dropping it does not cancel it. Its result can be
/// awaited ([`Future`]), waited for ([`wait`](Self::wait)), passed on ([`then`](Self::then)), or
/// looked at when it is there ([`on_done`](Self::on_done)).
///
/// ```no_run
/// aigis_plugin_api::import! {
///     mod greeter {
///         fn greet(name: &str) -> String;
///     }
/// }
///
/// let length = greeter::start::greet("zaltu").then(|text| Ok(text.len()));
/// length.on_done(|outcome| println!("{outcome:?}"));
/// ```
pub struct Call<T, E = std::convert::Infallible> {
    shared: Arc<Shared<T, E>>,
}

type Outcome<T, E> = Result<T, CallError<E>>;
type Next<T, E> = Box<dyn FnOnce(Outcome<T, E>) + Send>;
type Callback<T, E> = Box<dyn FnOnce(&Outcome<T, E>) + Send>;

struct Shared<T, E> {
    skill: String,
    state: Mutex<State<T, E>>,
    done: Condvar,
}

struct State<T, E> {
    /// The outcome, until somebody takes it.
    outcome: Option<Outcome<T, E>>,
    complete: bool,
    wakers: Vec<Waker>,
    callbacks: Vec<Callback<T, E>>,
    /// Takes the outcome instead of leaving it here; see `then`.
    next: Option<Next<T, E>>,
    cancel: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl<T, E> Shared<T, E> {
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        // Callbacks never run while the lock is held, so nothing of the author's can poison it.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn complete(&self, outcome: Outcome<T, E>) {
        let mut state = self.lock();
        if state.complete {
            return;
        }
        let mut callbacks = std::mem::take(&mut state.callbacks);
        while !callbacks.is_empty() {
            // New callbacks may be attached while these run; they are asked for again below.
            drop(state);
            for callback in callbacks {
                // A callback that panics is in the log; the call completes all the same.
                library::contain_callback(|| callback(&outcome));
            }
            state = self.lock();
            callbacks = std::mem::take(&mut state.callbacks);
        }
        state.complete = true;
        state.cancel = None;
        let wakers = std::mem::take(&mut state.wakers);
        match state.next.take() {
            Some(next) => {
                drop(state);
                next(outcome);
            }
            None => {
                state.outcome = Some(outcome);
                drop(state);
            }
        }
        self.done.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Call<T, E> {
    pub(crate) fn pending(skill: &str) -> (Self, Completer<T, E>) {
        let shared = Arc::new(Shared {
            skill: skill.to_owned(),
            state: Mutex::new(State {
                outcome: None,
                complete: false,
                wakers: Vec::new(),
                callbacks: Vec::new(),
                next: None,
                cancel: None,
            }),
            done: Condvar::new(),
        });
        let completer = Completer {
            shared: Some(Arc::clone(&shared)),
        };
        (Self { shared }, completer)
    }

    pub(crate) fn cancel_with(&self, cancel: Arc<dyn Fn() + Send + Sync>) {
        let mut state = self.shared.lock();
        if !state.complete {
            state.cancel = Some(cancel);
        }
    }

    /// Waits for the result, at most `timeout`. The call goes on when the time is over, and can be
    /// waited for again.
    ///
    /// ```no_run
    /// # aigis_plugin_api::import! { mod greeter { fn greet(name: &str) -> String; } }
    /// # use std::time::Duration;
    /// let mut call = greeter::start::greet("zaltu");
    /// let text = call.wait(Duration::from_secs(1))?;
    /// # Ok::<(), aigis_plugin_api::CallError>(())
    /// ```
    ///
    /// # Errors
    /// [`CallError::TimedOut`]; [`CallError::WouldBlock`] at once on a thread that completes calls;
    /// whatever ended the call.
    pub fn wait(&mut self, timeout: Duration) -> Result<T, CallError<E>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return outcome;
            }
            if state.complete {
                return Err(taken(&self.shared.skill));
            }
            if backend::must_not_block() {
                return Err(of_host(backend::would_block(&self.shared.skill)));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(of_host(timed_out(&self.shared.skill, timeout)));
            }
            state = match left {
                Some(left) => {
                    let waited = self.shared.done.wait_timeout(state, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
                None => {
                    let waited = self.shared.done.wait(state);
                    waited.unwrap_or_else(|e| e.into_inner())
                }
            };
        }
    }

    /// Passes the result on: `next` runs with it once it is there, on the thread that completes the
    /// call, and the call that is returned has what `next` returns. An error skips `next`.
    ///
    /// ```no_run
    /// # aigis_plugin_api::import! { mod greeter { fn greet(name: &str) -> String; } }
    /// let length = greeter::start::greet("zaltu").then(|text| Ok(text.len()));
    /// ```
    pub fn then<U: Send + 'static>(
        self,
        next: impl FnOnce(T) -> Result<U, CallError<E>> + Send + 'static,
    ) -> Call<U, E> {
        let (call, completer) = Call::pending(&self.shared.skill);
        let mut state = self.shared.lock();
        if let Some(cancel) = state.cancel.clone() {
            call.cancel_with(cancel);
        }
        let pass = move |outcome: Outcome<T, E>| completer.complete(outcome.and_then(next));
        if let Some(outcome) = state.outcome.take() {
            drop(state);
            pass(outcome);
        } else if state.complete {
            let error = taken(&self.shared.skill);
            drop(state);
            pass(Err(error));
        } else {
            state.next = Some(Box::new(pass));
        }
        call
    }

    /// Runs `callback` with the outcome once it is there, on the thread that completes the call; at
    /// once if it is there already and nobody has taken it.
    ///
    /// ```no_run
    /// # aigis_plugin_api::import! { mod greeter { fn greet(name: &str) -> String; } }
    /// greeter::start::greet("zaltu").on_done(|outcome| println!("{outcome:?}"));
    /// ```
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, CallError<E>>) + Send + 'static) {
        let mut state = self.shared.lock();
        if !state.complete {
            state.callbacks.push(Box::new(callback));
            return;
        }
        // The outcome leaves its place while the callback runs, which may look at the call.
        let Some(outcome) = state.outcome.take() else {
            return;
        };
        drop(state);
        callback(&outcome);
        self.shared.lock().outcome = Some(outcome);
        self.shared.done.notify_all();
    }

    /// Tells whether the outcome is there.
    ///
    /// ```no_run
    /// # aigis_plugin_api::import! { mod greeter { fn greet(name: &str) -> String; } }
    /// let there = greeter::start::greet("zaltu").is_done();
    /// ```
    pub fn is_done(&self) -> bool {
        self.shared.lock().complete
    }

    /// Gives up: the call ends with [`CallError::Cancelled`] unless it has ended already. A skill
    /// that is running goes on; its result is thrown away.
    ///
    /// ```no_run
    /// # aigis_plugin_api::import! { mod greeter { fn greet(name: &str) -> String; } }
    /// greeter::start::greet("zaltu").cancel();
    /// ```
    pub fn cancel(&self) {
        let cancel = self.shared.lock().cancel.take();
        if let Some(cancel) = cancel {
            cancel();
        }
    }
}

/// What a function that is imported as `async fn` returns: the call, already started.
///
/// Dropping it before the result is there gives the call up, as [`Call::cancel`] does.
///
/// ```no_run
/// aigis_plugin_api::import! {
///     mod greeter {
///         async fn greet(name: &str) -> String;
///     }
/// }
///
/// async fn both() -> Result<String, aigis_plugin_api::CallError> {
///     // Both run at once.
///     let (first, second) = (greeter::greet("zaltu"), greeter::greet("dal"));
///     Ok(first.await? + &second.await?)
/// }
/// ```
#[must_use = "the call is given up when its future is dropped; `start::…` goes on alone"]
pub struct CallFuture<T: Send + 'static, E: Send + 'static = std::convert::Infallible> {
    call: Call<T, E>,
}

impl<T: Send + 'static, E: Send + 'static> CallFuture<T, E> {
    pub(crate) fn new(call: Call<T, E>) -> Self {
        Self { call }
    }
}

impl<T: Send + 'static, E: Send + 'static> Future for CallFuture<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.call).poll(context)
    }
}

impl<T: Send + 'static, E: Send + 'static> Drop for CallFuture<T, E> {
    fn drop(&mut self) {
        // Nothing happens to a call that is over.
        self.call.cancel();
    }
}

impl<T: Send + 'static, E: Send + 'static> fmt::Debug for CallFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture")
            .field("skill", &self.call.shared.skill)
            .field("done", &self.call.is_done())
            .finish()
    }
}

fn of_host<E>(failure: Failure) -> CallError<E> {
    CallError::new(failure, |_| None)
}

fn taken<E>(skill: &str) -> CallError<E> {
    let message = format!("the result of {skill} has been taken already");
    of_host(Failure::new(FailureKind::Internal, message).of_skill(skill))
}

impl<T: Send + 'static, E: Send + 'static> Future for Call<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        if state.complete {
            return Poll::Ready(Err(taken(&self.shared.skill)));
        }
        if state.wakers.iter().all(|w| !w.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("skill", &self.shared.skill)
            .field("done", &self.shared.lock().complete)
            .finish()
    }
}

/// The other end of a [`Call`]. Dropped without an outcome, because the code that was to make one
/// panicked or its host went away, it completes the call with a failure: nobody waits for ever.
pub(crate) struct Completer<T, E> {
    shared: Option<Arc<Shared<T, E>>>,
}

impl<T, E> Completer<T, E> {
    pub(crate) fn complete(mut self, outcome: Outcome<T, E>) {
        if let Some(shared) = self.shared.take() {
            shared.complete(outcome);
        }
    }
}

impl<T, E> Drop for Completer<T, E> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let message = "the call ended without an outcome: what was to complete it panicked, \
                           or its host has shut down";
            let failure = Failure::new(FailureKind::Internal, message).of_skill(&shared.skill);
            shared.complete(Err(of_host(failure)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn pending() -> (Call<u32>, Completer<u32, std::convert::Infallible>) {
        Call::pending("test.skill")
    }

    #[test]
    fn waiting_wakes_when_the_result_comes() {
        let (mut call, completer) = pending();
        let thread = thread::spawn(move || completer.complete(Ok(7)));
        assert_eq!(call.wait(Duration::from_secs(30)), Ok(7));
        thread.join().expect("no panic");
        assert!(call.wait(Duration::ZERO).is_err(), "it is taken only once");
    }

    #[test]
    fn a_timeout_leaves_the_call_alone() {
        let (mut call, completer) = pending();
        assert!(matches!(
            call.wait(Duration::ZERO),
            Err(CallError::TimedOut { .. })
        ));
        completer.complete(Ok(7));
        assert_eq!(call.wait(Duration::ZERO), Ok(7));
    }

    #[test]
    fn then_chains_before_and_after_completion() {
        let (call, completer) = pending();
        let mut early = call.then(|n| Ok(n + 1)).then(|n| Ok(n.to_string()));
        completer.complete(Ok(7));
        assert_eq!(early.wait(Duration::ZERO), Ok("8".to_owned()));

        let (call, completer) = pending();
        completer.complete(Ok(7));
        assert_eq!(call.then(|n| Ok(n * 2)).wait(Duration::ZERO), Ok(14));
    }

    #[test]
    fn an_error_skips_then_and_reaches_its_end() {
        let (call, completer) = pending();
        let mut end = call.then(|_| -> Result<u32, _> { unreachable!("an error skips it") });
        let error = CallError::Cancelled {
            skill: "test.skill".into(),
        };
        completer.complete(Err(error.clone()));
        assert_eq!(end.wait(Duration::ZERO), Err(error));
    }

    #[test]
    fn a_completer_that_is_dropped_ends_the_wait() {
        let (mut call, completer) = pending();
        drop(completer);
        assert!(matches!(
            call.wait(Duration::from_secs(30)),
            Err(CallError::Other(_))
        ));
    }

    #[test]
    fn a_panic_in_what_follows_ends_the_wait() {
        let (call, completer) = pending();
        call.on_done(|_| panic!("in a callback"));
        let mut end = call.then(|_| -> Result<u32, _> { panic!("in what follows") });
        let thread = thread::spawn(move || completer.complete(Ok(7)));
        assert!(matches!(
            end.wait(Duration::from_secs(30)),
            Err(CallError::Other(_))
        ));
        assert!(
            thread.join().is_err(),
            "the panic goes on to whoever contains it"
        );
    }

    #[test]
    fn callbacks_run_once_and_late_ones_at_once() {
        let (mut call, completer) = pending();
        let (sender, receiver) = mpsc::channel();
        let early = sender.clone();
        call.on_done(move |outcome| early.send(outcome.clone()).expect("is received"));
        completer.complete(Ok(7));
        call.on_done(move |outcome| sender.send(outcome.clone()).expect("is received"));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [Ok(7), Ok(7)]);
        assert_eq!(call.wait(Duration::ZERO), Ok(7));
    }

    #[test]
    fn waiting_on_a_thread_that_completes_calls_is_an_error_at_once() {
        backend::without_blocking(|| {
            let (mut call, _completer) = pending();
            assert!(matches!(
                call.wait(Duration::from_hours(1)),
                Err(CallError::WouldBlock { .. })
            ));
        });
    }

    #[test]
    fn a_future_is_woken() {
        struct Unpark(thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let (mut call, completer) = pending();
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut call).poll(&mut context).is_pending());
        let other = thread::spawn(move || completer.complete(Ok(7)));
        loop {
            match Pin::new(&mut call).poll(&mut context) {
                Poll::Ready(outcome) => break assert_eq!(outcome, Ok(7)),
                Poll::Pending => thread::park(),
            }
        }
        other.join().expect("no panic");
    }
}
