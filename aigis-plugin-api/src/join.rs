//! The result of what was spawned.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Failure, FailureKind};

/// What [`Context::spawn`](crate::Context::spawn) and
/// [`Context::spawn_blocking`](crate::Context::spawn_blocking) return: a future of the result.
///
/// Dropping it detaches what was spawned, which goes on.
///
/// ```
/// use aigis_plugin_api::{Context, JoinError};
///
/// async fn both(ctx: &Context) -> Result<u32, JoinError> {
///     let (left, right) = (ctx.spawn(async { 20 }), ctx.spawn(async { 22 }));
///     Ok(left.await? + right.await?)
/// }
/// ```
#[must_use = "a task that is to go on alone is detached by dropping its handle: `drop(ctx.spawn(…))`"]
pub struct JoinHandle<T> {
    shared: Arc<Shared<T>>,
    abort: Option<Box<dyn Fn() + Send + Sync>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    outcome: Option<Result<T, JoinError>>,
    over: bool,
    /// What is to be done was given up before it began.
    given_up: bool,
    waker: Option<Waker>,
}

/// Why there is no result of what was spawned.
///
/// ```
/// use aigis_plugin_api::JoinError;
///
/// fn show(error: &JoinError) -> &'static str {
///     match error {
///         JoinError::Panicked { .. } => "it panicked",
///         _ => "it was given up",
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// It was aborted, or the plugin's version was retired before it was over.
    Cancelled,
    /// It panicked; that is in the plugin's log, too.
    Panicked {
        /// The panic's message.
        message: String,
        /// File, line and column where it started.
        location: Option<String>,
    },
}

impl JoinError {
    pub(crate) fn of(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Panicked => Self::Panicked {
                message: failure.message,
                location: failure.location,
            },
            _ => Self::Cancelled,
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the task was cancelled before it was over"),
            Self::Panicked { message, location } => {
                write!(f, "the task panicked: {message}")?;
                match location {
                    Some(location) => write!(f, " (at {location})"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for JoinError {}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing of the author's runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> JoinHandle<T> {
    pub(crate) fn abort_with(&mut self, abort: impl Fn() + Send + Sync + 'static) {
        self.abort = Some(Box::new(abort));
    }

    /// Gives the task up: a future is dropped at the point where it waits, a closure that has not
    /// begun never does. What is over, or blocks, is not touched.
    ///
    /// ```
    /// # use aigis_plugin_api::{Context, JoinError};
    /// async fn never(ctx: &Context) {
    ///     let task = ctx.spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert_eq!(task.await, Err(JoinError::Cancelled));
    /// }
    /// ```
    pub fn abort(&self) {
        self.shared.lock().given_up = true;
        if let Some(abort) = &self.abort {
            abort();
        }
    }

    /// Tells whether the task is over.
    ///
    /// ```
    /// # use aigis_plugin_api::Context;
    /// fn ready(ctx: &Context) -> bool {
    ///     let task = ctx.spawn(async { 7 });
    ///     task.is_finished()
    /// }
    /// ```
    pub fn is_finished(&self) -> bool {
        self.shared.lock().over
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        assert!(
            !state.over,
            "a `JoinHandle` was awaited again after its end"
        );
        let before = state.waker.replace(context.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// The other end of a [`JoinHandle`]. Dropped without a result, it tells that there will be none.
pub(crate) struct Ending<T>(Option<Arc<Shared<T>>>);

impl<T> Ending<T> {
    pub(crate) fn complete(mut self, outcome: Result<T, JoinError>) {
        self.end(outcome);
    }

    /// Tells whether the task was given up before it began.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.lock().given_up)
    }

    fn end(&mut self, outcome: Result<T, JoinError>) {
        let Some(shared) = self.0.take() else { return };
        let mut state = shared.lock();
        state.outcome = Some(outcome);
        state.over = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.end(Err(JoinError::Cancelled));
    }
}

/// Makes the two ends.
pub(crate) fn pair<T>() -> (JoinHandle<T>, Ending<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            outcome: None,
            over: false,
            given_up: false,
            waker: None,
        }),
    });
    let handle = JoinHandle {
        shared: Arc::clone(&shared),
        abort: None,
    };
    (handle, Ending(Some(shared)))
}
