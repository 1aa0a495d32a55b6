//! Streams: results and arguments that come item by item.

mod flow;
pub(crate) mod items;
mod made;
mod opened;
mod timed;

use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use flow::Flow;
pub use flow::Opening;
pub(crate) use flow::Openings;
pub use items::{
    BEGUN, BoxItems, Items, Next, Streams, begun, failed, lazily, limited, over, seen, single,
};
pub use made::StreamSender;
use made::{Encoder, Made, Produced};
pub(crate) use opened::hear;
pub use opened::{Inflow, Outflow};
pub use timed::{Limit, timed};

use crate::backend;
use crate::error::{AuthorError, CallError, Failure, FailureKind, Valued as _};

/// A result or an argument that comes item by item, made when it is asked for.
///
/// A skill may return one, as its whole result, and take some, each as a whole parameter; the same type
/// stands in the caller's `import!`. Whoever has one is its consumer: an [`Iterator`] that waits for each
/// item, or [`next_item`](Self::next_item) in async code. The producer makes no item that its consumer has
/// not asked for; across processes the consumer asks for some ahead. Dropping a stream gives up the rest:
/// its producer is dropped soon.
///
/// An item is a `Result`: the producer may fail, panic or go away in the middle. That is the last item.
///
/// ```
/// use aigis_plugin_api::{Stream, skills};
///
/// #[skills]
/// pub mod numbers {
///     use aigis_plugin_api::{CallError, Stream};
///
///     /// Counts from 0, for ever.
///     pub fn count() -> Stream<u64> {
///         Stream::of(0..)
///     }
///
///     /// The same: any iterator will do that owns what it needs.
///     pub fn squares(to: u64) -> impl Iterator<Item = u64> {
///         (0..to).map(|n| n * n)
///     }
///
///     /// Takes one. Without an error of its own it could not pass on that of the stream.
///     pub fn sum(items: Stream<u64>) -> Result<u64, String> {
///         items.sum::<Result<u64, CallError>>().map_err(|error| error.to_string())
///     }
/// }
/// # fn main() {}
/// ```
///
/// The caller's side:
///
/// ```no_run
/// aigis_plugin_api::import! {
///     mod numbers {
///         fn count() -> Stream<u64>;
///         fn sum(items: Stream<u64>) -> Result<u64, String>;
///     }
/// }
/// use aigis_plugin_api::Stream;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for number in numbers::count()?.take(3) {
///     println!("{}", number?);
/// }
/// let sum = numbers::sum(Stream::of(1..=100)).map_err(|error| error.to_string())?;
/// # Ok(()) }
/// ```
#[must_use = "what makes the items is given up when their stream is dropped"]
pub struct Stream<T> {
    source: Source<T>,
}

enum Source<T> {
    /// It was made in this library or program.
    Made(Made<T>),
    /// It comes from elsewhere.
    Encoded {
        items: BoxItems,
        decode: fn(Vec<u8>) -> Result<T, Failure>,
    },
    Over,
}

impl<T> Stream<T> {
    /// Makes a stream of an iterator, which is asked for an item when the consumer asks for one. It may
    /// wait: it then takes a thread meanwhile.
    ///
    /// ```
    /// use aigis_plugin_api::Stream;
    ///
    /// let stream = Stream::of(["a", "b"]);
    /// let items: Vec<_> = stream.map(|item| item.expect("does not fail")).collect();
    /// assert_eq!(items, ["a", "b"]);
    /// ```
    pub fn of<I>(items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        let mut items = items.into_iter();
        Self::made(move |_: &mut Context<'_>| Poll::Ready(Ok(items.next())))
    }

    /// Makes a stream of a function that is polled for each item, such as that of another library's
    /// stream; `None` is the end.
    ///
    /// ```
    /// use std::task::Poll;
    /// use aigis_plugin_api::Stream;
    ///
    /// let mut left = 3;
    /// let stream = Stream::poll_fn(move |_context| {
    ///     left -= 1;
    ///     Poll::Ready((left > 0).then_some(left))
    /// });
    /// assert_eq!(stream.count(), 2);
    /// ```
    pub fn poll_fn(
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<T>> + Send + 'static,
    ) -> Self {
        Self::made(move |context: &mut Context<'_>| poll(context).map(Ok))
    }

    fn made(
        poll: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<T>, Failure>> + Send + 'static,
    ) -> Self {
        Self {
            source: Source::Made(Box::new(poll)),
        }
    }

    /// Makes a stream of async code, which hands over each item when the consumer has asked for it and
    /// goes on when the next one is asked for.
    ///
    /// ```
    /// use aigis_plugin_api::Stream;
    ///
    /// let stream = Stream::produce(|mut sender| async move {
    ///     for n in 0..3 {
    ///         sender.send(n).await;
    ///     }
    /// });
    /// assert_eq!(stream.count(), 3);
    /// ```
    pub fn produce<F>(body: impl FnOnce(StreamSender<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        T: Send + 'static,
    {
        let mut produced = Produced::new(body);
        Self::made(move |context: &mut Context<'_>| produced.poll(context).map(Ok))
    }

    /// Waits for the next item without taking a thread; `None` at the end.
    ///
    /// ```
    /// use aigis_plugin_api::{CallError, Stream};
    ///
    /// async fn largest(mut numbers: Stream<u64>) -> Result<u64, CallError> {
    ///     let mut largest = 0;
    ///     while let Some(number) = numbers.next_item().await {
    ///         largest = largest.max(number?);
    ///     }
    ///     Ok(largest)
    /// }
    /// ```
    pub async fn next_item(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    /// Polls for the next item, for whoever writes futures by hand.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// use aigis_plugin_api::Stream;
    ///
    /// let mut stream = Stream::of([7]);
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert_eq!(stream.poll_item(&mut context), Poll::Ready(Some(Ok(7))));
    /// assert_eq!(stream.poll_item(&mut context), Poll::Ready(None));
    /// ```
    pub fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        let next = match &mut self.source {
            Source::Made(made) => made(context),
            Source::Encoded { items, decode } => {
                let decode = *decode;
                items
                    .poll_next(context)
                    .map(|next| next.and_then(|item| item.map(decode).transpose()))
            }
            Source::Over => return Poll::Ready(None),
        };
        next.map(|next| self.passed_on(next))
    }

    /// Hands on what came; after the end nothing is asked for.
    fn passed_on(&mut self, next: Result<Option<T>, Failure>) -> Option<Result<T, CallError>> {
        if !matches!(next, Ok(Some(_))) {
            self.source = Source::Over;
        }
        next.map_err(CallError::untyped).transpose()
    }
}

impl<T, E> Stream<Result<T, E>>
where
    T: 'static,
    E: fmt::Display + Serialize + 'static,
{
    /// Ends the stream with the first error, instead of handing it over as an item: the consumer sees a
    /// [`CallError::Failed`] and can have the error back.
    ///
    /// Of a skill that returns `impl Iterator<Item = Result<T, E>>` the same is done.
    ///
    /// ```
    /// use aigis_plugin_api::{CallError, Stream};
    ///
    /// let mut stream = Stream::of([Ok(1), Err("no more".to_owned()), Ok(2)]).until_error();
    /// assert_eq!(stream.next(), Some(Ok(1)));
    /// let Some(Err(CallError::Failed(error))) = stream.next() else { panic!("an error") };
    /// assert_eq!(error.downcast::<String>(), Some("no more".to_owned()));
    /// assert_eq!(stream.next(), None);
    /// ```
    pub fn until_error(self) -> Stream<T> {
        ending(self, |error: &E| (&&&AuthorError(error)).failure())
    }
}

/// Ends a stream with its first error; the macros use it.
pub fn ending<T: 'static, E: 'static>(
    mut results: Stream<Result<T, E>>,
    mut failure: impl FnMut(&E) -> Failure + Send + 'static,
) -> Stream<T> {
    Stream::made(move |context: &mut Context<'_>| {
        let next = match &mut results.source {
            Source::Made(made) => made(context),
            Source::Encoded { items, decode } => {
                let decode = *decode;
                let next = items.poll_next(context);
                next.map(|next| next.and_then(|item| item.map(decode).transpose()))
            }
            Source::Over => return Poll::Ready(Ok(None)),
        };
        next.map(|next| match next? {
            Some(Ok(item)) => Ok(Some(item)),
            Some(Err(error)) => Err(failure(&error)),
            None => Ok(None),
        })
    })
}

impl<T: Serialize + 'static> Stream<T> {
    /// Makes its encoded form; what came from elsewhere is handed on as it is.
    pub(crate) fn into_items(self) -> BoxItems {
        match self.source {
            Source::Made(made) => Box::new(Encoder(made)),
            Source::Encoded { items, .. } => items,
            Source::Over => Box::new(Encoder::<T>(Box::new(|_| Poll::Ready(Ok(None))))),
        }
    }
}

impl<T> Stream<T> {
    /// Keeps `kept` until the stream is gone.
    pub(crate) fn keeping<K: Send + 'static>(mut self, kept: K) -> Self {
        if let Source::Encoded { items, decode } = self.source {
            let items = seen(items, kept, |failure| failure);
            self.source = Source::Encoded { items, decode };
        }
        self
    }
}

impl<T: DeserializeOwned + 'static> Stream<T> {
    /// Makes a stream of its encoded form.
    pub(crate) fn from_items(items: BoxItems) -> Self {
        Self {
            source: Source::Encoded {
                items,
                decode: made::decode,
            },
        }
    }
}

/// Waits for each item, on this thread.
impl<T> Iterator for Stream<T> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.source {
            Source::Over => return None,
            _ if backend::must_not_block() => {
                let message = "waiting for an item here would block the thread that completes calls; \
                               use `next_item`";
                Err(Failure::new(FailureKind::WouldBlock, message))
            }
            Source::Made(made) => items::wait(made),
            Source::Encoded { items, decode } => {
                let decode = *decode;
                let next = items.wait_next();
                next.and_then(|item| item.map(decode).transpose())
            }
        };
        self.passed_on(next)
    }
}

impl<T> FusedIterator for Stream<T> {}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Made(_) => "made here",
            Source::Encoded { .. } => "from elsewhere",
            Source::Over => "over",
        };
        f.debug_tuple("Stream").field(&source).finish()
    }
}

/// Takes a lock of a stream's. Nothing that can panic runs under one, but for an author's code that is
/// contained.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
