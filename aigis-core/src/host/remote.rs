//! Calls of skills that processes serve.

use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, Items, Next, failed, timed_out};
use tokio::task::AbortHandle;

use super::instances::{Busy, Instances};
use super::{Inner, lock};
use crate::loader::{Done, Remote, Services};
use crate::rpc::Underway;

/// The processes of a plugin, as callers of their skills see them.
pub(super) struct Elsewhere {
    inner: Weak<Inner>,
    instances: Arc<Instances>,
}

impl Elsewhere {
    pub(super) fn new(inner: &Arc<Inner>, instances: &Arc<Instances>) -> Self {
        Self {
            inner: Arc::downgrade(inner),
            instances: Arc::clone(instances),
        }
    }

    /// Finds a process for a call.
    fn pick(&self, name: &str) -> Result<Busy, Failure> {
        let picked = self.instances.pick();
        picked.ok_or_else(|| self.instances.unavailable(name))
    }
}

impl Remote for Elsewhere {
    fn comes(&self) {
        self.instances.comes();
    }

    fn is_in(&self) {
        self.instances.is_in();
    }

    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        self.pick(name)?.callee().call(name, arguments, timeout)
    }

    fn start(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let busy = match self.pick(name) {
            Ok(busy) => busy,
            Err(failure) => {
                done(Err(failure));
                return None;
            }
        };
        let callee = Arc::clone(busy.callee());
        let started = Arc::new(Started {
            waiting: Mutex::new(Some(Waiting {
                done,
                deadline: None,
                _busy: busy,
            })),
            name: name.to_owned(),
        });
        let heard = Heard(Arc::clone(&started));
        let done = Box::new(move |outcome| {
            heard.0.finish(outcome);
        });
        let underway = callee.start(name, arguments, timeout, done);
        if let (Some(timeout), Some(inner)) = (timeout, self.inner.upgrade()) {
            started.end_after(&inner, timeout, &underway);
        }
        Some(underway)
    }

    fn open(
        &self,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let busy = match self.pick(name) {
            Ok(busy) => busy,
            Err(failure) => return failed(failure),
        };
        let items = busy.callee().open(name, arguments, streams, timeout);
        Box::new(Opened {
            items,
            busy,
            name: name.to_owned(),
        })
    }
}

/// What a process was asked for, item by item. It is busy with it until it is over.
struct Opened {
    items: BoxItems,
    busy: Busy,
    name: String,
}

impl Opened {
    fn see(&mut self, next: Next) -> Next {
        match next {
            Ok(item) => {
                self.busy.streams();
                Ok(item)
            }
            Err(failure) => Err(self.busy.see(failure).of_skill(&self.name)),
        }
    }
}

impl Items for Opened {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        self.items.poll_next(context).map(|next| self.see(next))
    }

    fn wait_next(&mut self) -> Next {
        let next = self.items.wait_next();
        self.see(next)
    }

    fn before_sleeping(&self) {
        self.items.before_sleeping();
    }
}

/// A call that was started.
struct Started {
    waiting: Mutex<Option<Waiting>>,
    name: String,
}

struct Waiting {
    done: Done,
    deadline: Option<AbortHandle>,
    _busy: Busy,
}

impl Started {
    /// Says how it went, unless that has been said already; returns whether it was.
    fn finish(&self, outcome: Result<Vec<u8>, Failure>) -> bool {
        let waiting = lock(&self.waiting).take();
        let Some(Waiting {
            done,
            deadline,
            _busy: busy,
        }) = waiting
        else {
            return false;
        };
        if let Some(deadline) = deadline {
            deadline.abort();
        }
        drop(busy);
        done(outcome.map_err(|failure| failure.of_skill(&self.name)));
        true
    }

    /// Answers its caller when the time is over, and gives it up.
    fn end_after(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        timeout: Duration,
        underway: &Arc<dyn Underway>,
    ) {
        let (of, host) = (Arc::downgrade(self), Arc::downgrade(inner));
        let underway = Arc::clone(underway);
        let late = Box::new(move || {
            let (Some(started), Some(inner)) = (of.upgrade(), host.upgrade()) else {
                return;
            };
            // The caller may run code of its own.
            Services::run(
                &*inner,
                Box::new(move || {
                    if started.finish(Err(timed_out(&started.name, timeout))) {
                        underway.give_up();
                    }
                }),
            );
        });
        let deadline = Services::after(&**inner, timeout, late);
        match &mut *lock(&self.waiting) {
            Some(waiting) => waiting.deadline = Some(deadline),
            None => deadline.abort(),
        }
    }
}

/// Who is to hear the outcome; dropped without, there was no thread to tell it.
struct Heard(Arc<Started>);

impl Drop for Heard {
    fn drop(&mut self) {
        let message = format!(
            "the outcome of {} could not be handed on: there is no thread for it",
            self.0.name
        );
        self.0
            .finish(Err(Failure::new(FailureKind::Overloaded, message)));
    }
}
