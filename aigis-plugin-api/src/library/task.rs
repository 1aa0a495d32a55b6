//! Futures and closures of a library, as its host polls and runs them.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{contain, runtime};
use crate::error::{Failure, FailureKind};

/// A future with the form that crosses: an encoded result.
pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;

/// A future that has begun. What it runs, its drop included, is contained.
pub(crate) struct Running {
    name: &'static str,
    /// Gone as soon as it is over: what it holds is not kept until the host drops the task.
    future: Option<TaskFuture>,
}

impl Running {
    pub(crate) fn new(name: &'static str, future: TaskFuture) -> Self {
        Self {
            name,
            future: Some(future),
        }
    }

    /// Lets the future go on.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Vec<u8>, Failure>> {
        let outcome = contain(self.name, || {
            let future = self.future.as_mut().ok_or_else(polled_after_its_end)?;
            let polled = runtime::inside(|| future.as_mut().poll(&mut Context::from_waker(waker)));
            match polled {
                Poll::Pending => Ok(Poll::Pending),
                Poll::Ready(outcome) => outcome.map(Poll::Ready),
            }
        });
        match outcome {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(bytes)) => Poll::Ready(self.finish().map(|()| bytes)),
            Err(failure) => {
                // A second failure is in the log; the first one is the caller's.
                let _ = self.finish();
                Poll::Ready(Err(failure))
            }
        }
    }

    /// Drops the future; one that was not over is cancelled by it.
    ///
    /// # Errors
    /// A drop of the author's panicked.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self.future.take() {
            Some(future) => contain(self.name, || {
                runtime::inside(move || drop(future));
                Ok(())
            }),
            None => Ok(()),
        }
    }
}

fn polled_after_its_end() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "a task was polled after its end: the host calls `poll` until it is not pending, once more \
         never",
    )
}

/// Work that blocks, not begun yet.
pub(crate) struct Closure {
    name: &'static str,
    body: Box<dyn FnOnce() + Send>,
}

impl Closure {
    pub(crate) fn new(name: &'static str, body: impl FnOnce() + Send + 'static) -> Self {
        Self {
            name,
            body: Box::new(body),
        }
    }

    pub(crate) fn run(self) {
        // A panic is in the log by then, and whoever waits is told by the closure's own drop.
        let _ = contain(self.name, || {
            runtime::inside(self.body);
            Ok(())
        });
    }

    /// Drops the closure without running it.
    pub(crate) fn give_up(self) {
        let _ = contain(self.name, || {
            drop(self.body);
            Ok(())
        });
    }
}
