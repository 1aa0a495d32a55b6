//! Streams that libraries make, as the host holds and asks them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::task::{Context, Poll, Waker};

use aigis_plugin_api::__private::{BEGUN, BoxItems, Failure, FailureKind, Items, Next, over};
use aigis_plugin_api::abi::{Buffer, Produced, Producer, TaskWaker};

use super::guard::seats::{self, Stay};
use super::lock;
use super::task::{Frame, release, retain};
use crate::logging::spans::Boundary;

/// The streams that a generation makes and that are not over.
#[derive(Default)]
pub(super) struct Streams {
    state: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, Weak<Shared>>,
    /// They have had their time.
    superseded: Option<Failure>,
}

impl Streams {
    /// Takes over a stream of the generation that `frame` names, and `then` once it has begun. The caller
    /// is inside of it now.
    pub(super) fn take(
        self: &Arc<Self>,
        producer: Producer,
        frame: Frame,
        then: Frame,
    ) -> BoxItems {
        let shared = Arc::new(Shared {
            held: Mutex::new(Some(Held {
                producer,
                frame,
                then,
                stay: Stay::with(frame.get()),
            })),
            ended: OnceLock::new(),
            waking: Waking::new(),
        });
        let mut open = lock(&self.state);
        open.last += 1;
        let number = open.last;
        open.streams.insert(number, Arc::downgrade(&shared));
        let superseded = open.superseded.clone();
        drop(open);
        if let Some(failure) = superseded {
            shared.end(failure);
        }
        Box::new(OfLibrary {
            shared,
            number,
            streams: Arc::clone(self),
        })
    }

    /// Ends the streams that are left, and those that are still to come.
    pub(super) fn supersede(&self, failure: &Failure) {
        let left: Vec<_> = {
            let mut open = lock(&self.state);
            open.superseded = Some(failure.clone());
            open.streams.values().filter_map(Weak::upgrade).collect()
        };
        for shared in left {
            shared.end(failure.clone());
        }
    }
}

/// The failure of a stream whose plugin was replaced and that has outlived its time after that.
pub(crate) fn superseded(plugin: &str, after: std::time::Duration) -> Failure {
    Failure::new(
        FailureKind::Superseded,
        format!(
            "the version of plugin `{plugin}` that makes the stream was replaced {after:?} ago, which is its \
             DRAIN_TIMEOUT; call again for a stream of the version that serves now"
        ),
    )
}

/// A stream of a library. Dropping it gives up the rest.
struct OfLibrary {
    shared: Arc<Shared>,
    number: u64,
    streams: Arc<Streams>,
}

struct Shared {
    /// Locked by whoever asks for an item; none once it is over.
    held: Mutex<Option<Held>>,
    /// Why it was ended before its end.
    ended: OnceLock<Failure>,
    waking: Arc<Waking>,
}

/// What a library has handed over. It keeps its generation where it is.
struct Held {
    producer: Producer,
    frame: Frame,
    then: Frame,
    /// Goes after the producer: fields are dropped after `Drop::drop`.
    stay: Stay,
}

impl Held {
    fn next(&mut self, waker: &TaskWaker) -> Poll<Next> {
        // Whatever spans the author's code leaves entered, its consumer is not in them.
        let _boundary = Boundary::here();
        let mut out = Buffer::default();
        let (data, next) = (self.producer.data, self.producer.next);
        // SAFETY: `&mut self` makes this the only call with the producer now; it is not dropped, and it
        // is dropped as soon as it is over. The library stays for `stay`. The waker is good as long as
        // its maker, who asks.
        let produced = seats::within(self.frame.get(), || unsafe { next(data, waker, &mut out) });
        match produced {
            Produced::Pending => Poll::Pending,
            Produced::Item => {
                let item = out.into_vec();
                if item == BEGUN {
                    // The new stay stands before the old one goes.
                    self.stay = Stay::with(self.then.get());
                    self.frame = self.then;
                }
                Poll::Ready(Ok(Some(item)))
            }
            Produced::End => Poll::Ready(Ok(None)),
            Produced::Failed => Poll::Ready(Err(Failure::decode(out.as_slice()))),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut error = Buffer::default();
        let (data, drop) = (self.producer.data, self.producer.drop);
        // SAFETY: this is the one drop, after which nothing is called; the library stays as for `next`.
        // What went wrong is in the plugin's log.
        let _ = seats::within(self.frame.get(), || unsafe { drop(data, &mut error) });
    }
}

impl Shared {
    /// Ends it: it is dropped here, or by whoever asks for an item just now.
    fn end(&self, failure: Failure) {
        if self.ended.set(failure).is_ok() {
            self.drop_ended();
            self.waking.wake();
        }
    }

    fn drop_ended(&self) {
        let held = match self.held.try_lock() {
            Ok(mut held) => held.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // Whoever asks looks again when it has let go.
            Err(TryLockError::WouldBlock) => None,
        };
        drop(held);
    }

    fn next(&self, context: &Context<'_>) -> Poll<Next> {
        self.waking.wakes(context.waker());
        let mut held = lock(&self.held);
        let polled = match &mut *held {
            _ if self.ended.get().is_some() => Poll::Pending,
            Some(producer) => producer.next(&self.waking.task),
            None => Poll::Ready(Err(over())),
        };
        let over = match polled {
            Poll::Ready(Ok(Some(_))) | Poll::Pending => None,
            Poll::Ready(_) => held.take(),
        };
        drop(held);
        drop(over);
        match self.ended.get() {
            Some(failure) => {
                self.drop_ended();
                Poll::Ready(Err(failure.clone()))
            }
            None => polled,
        }
    }
}

impl Items for OfLibrary {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        self.shared.next(context)
    }
}

impl Drop for OfLibrary {
    fn drop(&mut self) {
        lock(&self.streams.state).streams.remove(&self.number);
        // Nobody else asks: this is the consumer.
        let held = lock(&self.shared.held).take();
        drop(held);
    }
}

/// The waker that a library is given: it wakes the one that the host was given.
struct Waking {
    task: TaskWaker,
    waker: Mutex<Option<Waker>>,
}

impl Waking {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            task: TaskWaker {
                data: own.as_ptr().cast(),
                retain: retain::<Self>,
                release: release::<Self>,
                wake,
            },
            waker: Mutex::new(None),
        })
    }

    /// Says whom to wake from now on.
    fn wakes(&self, waker: &Waker) {
        let mut place = lock(&self.waker);
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
    }

    fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// # Safety
/// `data` is the address of a [`Waking`] in an `Arc`, of which the caller has a reference.
unsafe extern "C" fn wake(data: *const c_void) {
    // SAFETY: the caller's reference keeps it where it is.
    unsafe { &*data.cast::<Waking>() }.wake();
}
