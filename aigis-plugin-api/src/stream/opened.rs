//! Between an opened call and the values of its two sides.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Stream;
use super::items::{BEGUN, BoxItems, Items, Next, single};
use super::made::encode;
use crate::backend::decode_result;
use crate::error::{Failure, FailureKind, cancelled};
use crate::library::run_soon;
use crate::session::turns::Turns;

/// What a skill returns that is opened: a stream, or one value.
pub trait Outflow {
    /// Makes its encoded form.
    ///
    /// # Errors
    /// It cannot be encoded.
    fn into_items(self) -> Result<BoxItems, Failure>;
}

impl<T: Serialize + 'static> Outflow for T {
    fn into_items(self) -> Result<BoxItems, Failure> {
        encode(self).map(single)
    }
}

impl<T: Serialize + 'static> Outflow for Stream<T> {
    fn into_items(self) -> Result<BoxItems, Failure> {
        Ok(self.into_items())
    }
}

/// What the caller of an opened call gets: a stream once it has begun, or its one value.
pub trait Inflow: Sized + Send + 'static {
    /// Takes it as far as `ask` gets; the items are taken out if they are a part of it.
    fn take(
        name: &str,
        items: &mut Option<BoxItems>,
        ask: &mut dyn FnMut(&mut dyn Items) -> Poll<Next>,
    ) -> Poll<Result<Self, Failure>>;

    /// Waits for it on this thread.
    ///
    /// # Errors
    /// Whatever ended the call.
    fn wait(name: &str, items: BoxItems) -> Result<Self, Failure> {
        let mut items = Some(items);
        loop {
            let ask = &mut |items: &mut dyn Items| Poll::Ready(items.wait_next());
            if let Poll::Ready(taken) = Self::take(name, &mut items, ask) {
                return taken;
            }
        }
    }
}

fn ended(name: &str) -> Failure {
    let message = format!("{name} ended without a result");
    Failure::new(FailureKind::Internal, message).of_skill(name)
}

impl<T: DeserializeOwned + Send + 'static> Inflow for T {
    fn take(
        name: &str,
        items: &mut Option<BoxItems>,
        ask: &mut dyn FnMut(&mut dyn Items) -> Poll<Next>,
    ) -> Poll<Result<Self, Failure>> {
        loop {
            let Some(from) = items.as_deref_mut() else {
                return Poll::Ready(Err(ended(name)));
            };
            let Poll::Ready(next) = ask(from) else {
                return Poll::Pending;
            };
            let value = match next {
                Ok(Some(item)) if item == BEGUN => continue,
                Ok(Some(item)) => decode_result(name, item),
                Ok(None) => Err(ended(name)),
                Err(failure) => Err(failure.of_skill(name)),
            };
            *items = None;
            return Poll::Ready(value);
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Inflow for Stream<T> {
    fn take(
        name: &str,
        items: &mut Option<BoxItems>,
        ask: &mut dyn FnMut(&mut dyn Items) -> Poll<Next>,
    ) -> Poll<Result<Self, Failure>> {
        let Some(from) = items.as_deref_mut() else {
            return Poll::Ready(Err(ended(name)));
        };
        let Poll::Ready(next) = ask(from) else {
            return Poll::Pending;
        };
        Poll::Ready(match (next, items.take()) {
            (Ok(Some(item)), Some(items)) if item == BEGUN => {
                let name = name.to_owned();
                let see = move |failure: Failure| failure.of_skill(&name);
                Ok(Self::from_items(super::items::seen(items, (), see)))
            }
            (Ok(_), _) => Err(ended(name)),
            (Err(failure), _) => Err(failure.of_skill(name)),
        })
    }
}

/// Takes what a call brings without a thread that waits; `done` hears it once.
pub(crate) fn hear<R: Inflow>(
    name: &'static str,
    items: BoxItems,
    done: impl FnOnce(Result<R, Failure>) + Send + 'static,
) -> Arc<dyn Fn() + Send + Sync> {
    let hearing = Arc::new(Hearing::<R> {
        name,
        turns: Turns::default(),
        items: Mutex::new(Some(items)),
        done: Mutex::new(Some(Box::new(done))),
    });
    let to_cancel = Arc::downgrade(&hearing);
    hearing.schedule();
    Arc::new(move || {
        if let Some(hearing) = to_cancel.upgrade() {
            hearing.give_up();
        }
    })
}

type HeardBy<R> = Box<dyn FnOnce(Result<R, Failure>) + Send>;

/// A call that was opened and has not said yet that it has begun.
struct Hearing<R> {
    name: &'static str,
    turns: Turns,
    /// Locked by whoever has the turn.
    items: Mutex<Option<BoxItems>>,
    /// None once it was told.
    done: Mutex<Option<HeardBy<R>>>,
}

impl<R: Inflow> Hearing<R> {
    fn schedule(self: Arc<Self>) {
        run_soon("a stream", Box::new(move || self.run()));
    }

    fn run(self: Arc<Self>) {
        if !self.turns.begin() {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        let taken = {
            let mut items = super::lock(&self.items);
            if super::lock(&self.done).is_none() {
                // Given up.
                *items = None;
                self.turns.end();
                return;
            }
            R::take(self.name, &mut items, &mut |items| {
                items.poll_next(&mut context)
            })
        };
        match taken {
            Poll::Ready(taken) => {
                self.turns.end();
                self.tell(taken);
            }
            Poll::Pending if self.turns.pause() => {}
            Poll::Pending => self.schedule(),
        }
    }

    fn tell(&self, taken: Result<R, Failure>) {
        let done = super::lock(&self.done).take();
        if let Some(done) = done {
            crate::backend::without_blocking(|| crate::library::contain_callback(|| done(taken)));
        }
    }

    fn give_up(self: &Arc<Self>) {
        self.tell(Err(cancelled()));
        // Its items are dropped where it is polled next.
        if self.turns.wake() {
            Arc::clone(self).schedule();
        }
    }
}

impl<R: Inflow> Wake for Hearing<R> {
    fn wake(self: Arc<Self>) {
        if self.turns.wake() {
            self.schedule();
        }
    }
}
