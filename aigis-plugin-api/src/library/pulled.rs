//! Streams that come from the host: the results of this library's calls, and the arguments of calls of
//! its skills.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::abi::HostApi;
use crate::stream::{Items, Next};

/// A stream of the host's, by its number; dropped, it is given up.
pub(crate) struct Pulled {
    host: &'static HostApi,
    number: u64,
    /// What was asked for and has not come.
    asked: Option<Arc<Asked>>,
}

/// A question to the host.
#[derive(Default)]
struct Asked {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Option<Next>,
    waker: Option<Waker>,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, next: Next) {
        let waker = {
            let mut state = self.lock();
            state.answer = Some(next);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Pulled {
    /// Takes over a stream that the host has numbered.
    pub(crate) fn new(host: &'static HostApi, number: u64) -> Self {
        Self {
            host,
            number,
            asked: None,
        }
    }
}

impl Items for Pulled {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let asked = match &self.asked {
            Some(asked) => Arc::clone(asked),
            None => {
                let asked = Arc::new(Asked::default());
                let answered = Arc::clone(&asked);
                self.asked = Some(Arc::clone(&asked));
                let done = Box::new(move |next| answered.answer(next));
                self.host.pull_item(self.number, done);
                asked
            }
        };
        let mut state = asked.lock();
        if let Some(next) = state.answer.take() {
            drop(state);
            self.asked = None;
            return Poll::Ready(next);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn wait_next(&mut self) -> Next {
        if self.asked.is_some() {
            // It was polled before.
            return crate::stream::items::wait(|context| self.poll_next(context));
        }
        self.host.next_item(self.number)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        self.host.close_stream(self.number);
    }
}
