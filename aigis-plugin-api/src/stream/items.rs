//! Items on their way: encoded, and asked for one by one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::error::{Failure, FailureKind};

/// The next item, encoded; none at the end. A failure is the end, too.
pub type Next = Result<Option<Vec<u8>>, Failure>;

/// Items that are made when they are asked for. Dropping them gives up the rest.
///
/// What an opened call brings begins with [`BEGUN`]; after the end nothing is asked for any more.
pub trait Items: Send {
    /// Asks for the next item. It may block: that is up to whoever makes the items.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next>;

    /// Asks for the next item and waits for it, on this thread.
    fn wait_next(&mut self) -> Next {
        wait(|context| {
            let polled = self.poll_next(context);
            if polled.is_pending() {
                self.before_sleeping();
            }
            polled
        })
    }

    /// Hears that the thread that has polled is about to sleep.
    fn before_sleeping(&self) {}
}

/// Items of any kind.
pub type BoxItems = Box<dyn Items>;

/// What an opened call brings before its first item: it has begun. No value is encoded like this.
pub const BEGUN: &[u8] = &[];

/// Wakes a thread that waits.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// Polls on this thread, which sleeps in between, until it is ready.
pub(crate) fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let parked = Arc::new(Parked {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(ready) = poll(&mut context) {
            return ready;
        }
        while !parked.woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}

/// No items but a failure.
pub fn failed(failure: Failure) -> BoxItems {
    Box::new(Failed(Some(failure)))
}

struct Failed(Option<Failure>);

impl Items for Failed {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(self.0.take().map_or_else(|| Err(over()), Err))
    }
}

/// The failure of whoever asks on after the end.
pub fn over() -> Failure {
    Failure::new(FailureKind::Internal, "the stream is over already")
}

/// Items of one encoded value.
pub fn single(value: Vec<u8>) -> BoxItems {
    Box::new(Single(Some(value)))
}

struct Single(Option<Vec<u8>>);

impl Items for Single {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(Ok(self.0.take()))
    }
}

/// Items of which nothing is done before the first is asked for; `start` may block then.
pub fn lazily(start: impl FnOnce() -> BoxItems + Send + 'static) -> BoxItems {
    Box::new(Lazy::Unopened(Some(Box::new(start))))
}

enum Lazy {
    Unopened(Option<Box<dyn FnOnce() -> BoxItems + Send>>),
    Open(BoxItems),
}

impl Lazy {
    fn open(&mut self) -> &mut BoxItems {
        if let Self::Unopened(start) = self {
            let items = start.take().map_or_else(|| failed(over()), |start| start());
            *self = Self::Open(items);
        }
        match self {
            Self::Open(items) => items,
            Self::Unopened(_) => unreachable!("it has just been opened"),
        }
    }
}

impl Items for Lazy {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        self.open().poll_next(context)
    }

    fn wait_next(&mut self) -> Next {
        self.open().wait_next()
    }

    fn before_sleeping(&self) {
        if let Self::Open(items) = self {
            items.before_sleeping();
        }
    }
}

/// Puts [`BEGUN`] before the items.
pub fn begun(items: BoxItems) -> BoxItems {
    Box::new(Begun { told: false, items })
}

struct Begun {
    told: bool,
    items: BoxItems,
}

impl Items for Begun {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if !std::mem::replace(&mut self.told, true) {
            return Poll::Ready(Ok(Some(BEGUN.to_vec())));
        }
        self.items.poll_next(context)
    }
}

/// Says of each failure what that means to whoever hears it; keeps `kept` until the items are gone.
pub fn seen<K: Send + 'static>(
    items: BoxItems,
    kept: K,
    see: impl Fn(Failure) -> Failure + Send + 'static,
) -> BoxItems {
    Box::new(Seen {
        items,
        see,
        _kept: kept,
    })
}

struct Seen<F, K> {
    items: BoxItems,
    see: F,
    _kept: K,
}

impl<F: Fn(Failure) -> Failure + Send, K: Send> Items for Seen<F, K> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        self.items
            .poll_next(context)
            .map(|next| next.map_err(&self.see))
    }

    fn wait_next(&mut self) -> Next {
        self.items.wait_next().map_err(&self.see)
    }

    fn before_sleeping(&self) {
        self.items.before_sleeping();
    }
}

/// Refuses items that are longer than `most` bytes.
pub fn limited(
    items: BoxItems,
    most: usize,
    refuse: impl Fn(usize) -> Failure + Send + 'static,
) -> BoxItems {
    Box::new(Limited {
        items: Some(items),
        most,
        refuse,
    })
}

struct Limited<F> {
    items: Option<BoxItems>,
    most: usize,
    refuse: F,
}

impl<F: Fn(usize) -> Failure + Send> Limited<F> {
    fn check(&mut self, next: Next) -> Next {
        match next {
            Ok(Some(item)) if item.len() > self.most => {
                self.items = None;
                Err((self.refuse)(item.len()))
            }
            next => next,
        }
    }
}

impl<F: Fn(usize) -> Failure + Send> Items for Limited<F> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(Err(over()));
        };
        items.poll_next(context).map(|next| self.check(next))
    }

    fn wait_next(&mut self) -> Next {
        let Some(items) = &mut self.items else {
            return Err(over());
        };
        let next = items.wait_next();
        self.check(next)
    }

    fn before_sleeping(&self) {
        if let Some(items) = &self.items {
            items.before_sleeping();
        }
    }
}

/// The streams that a call brings along as arguments, in the order of the parameters.
#[derive(Default)]
pub struct Streams(Mutex<VecDeque<BoxItems>>);

impl Streams {
    /// Makes them of what was sent.
    pub fn new(streams: Vec<BoxItems>) -> Self {
        Self(Mutex::new(streams.into()))
    }

    /// Takes the next one.
    pub(crate) fn take(&self) -> Option<BoxItems> {
        super::lock(&self.0).pop_front()
    }
}
