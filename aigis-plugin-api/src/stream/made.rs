//! Streams that are made here: of iterators and of async code.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::items::{Items, Next};
use crate::codec;
use crate::error::{Failure, FailureKind};

/// Makes the next item; none at the end, after which it is not asked again.
pub(super) type Made<T> =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Result<Option<T>, Failure>> + Send>;

/// Encodes what is made.
pub(super) struct Encoder<T>(pub(super) Made<T>);

impl<T: Serialize + 'static> Items for Encoder<T> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        (self.0)(context).map(|next| next?.map(encode).transpose())
    }
}

pub(super) fn encode<T: Serialize + 'static>(item: T) -> Result<Vec<u8>, Failure> {
    codec::into_vec(item).map_err(|error| {
        let message = format!("an item cannot be encoded: {error}");
        Failure::new(FailureKind::Unserializable, message)
    })
}

pub(super) fn decode<T: DeserializeOwned + 'static>(item: Vec<u8>) -> Result<T, Failure> {
    codec::from_vec(item).map_err(|error| {
        let message = format!("an item is not what its consumer expects: {error}");
        Failure::new(FailureKind::Unserializable, message)
    })
}

/// Where async code puts its items; see [`Stream::produce`](super::Stream::produce).
///
/// ```
/// use aigis_plugin_api::{Stream, StreamSender};
///
/// async fn countdown(mut sender: StreamSender<u8>) {
///     for n in (0..3).rev() {
///         sender.send(n).await;
///     }
/// }
///
/// assert_eq!(Stream::produce(countdown).count(), 3);
/// ```
#[derive(Debug)]
pub struct StreamSender<T> {
    slot: Arc<Mutex<Option<T>>>,
}

impl<T> StreamSender<T> {
    /// Hands an item over, and is back when the next one is asked for.
    ///
    /// ```
    /// use aigis_plugin_api::Stream;
    ///
    /// let stream = Stream::produce(|mut sender| async move { sender.send("item").await });
    /// assert_eq!(stream.count(), 1);
    /// ```
    pub async fn send(&mut self, item: T) {
        let mut item = Some(item);
        std::future::poll_fn(|_| match item.take() {
            Some(item) => {
                *lock(&self.slot) = Some(item);
                // It is polled again when the consumer asks again.
                Poll::Pending
            }
            None if lock(&self.slot).is_some() => Poll::Pending,
            None => Poll::Ready(()),
        })
        .await;
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under this lock.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Async code that puts items into its slot.
pub(super) struct Produced<T> {
    slot: Arc<Mutex<Option<T>>>,
    /// None once it is over.
    body: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> Produced<T> {
    pub(super) fn new<F>(body: impl FnOnce(StreamSender<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = Arc::new(Mutex::new(None));
        let sender = StreamSender {
            slot: Arc::clone(&slot),
        };
        Self {
            slot,
            body: Some(Box::pin(body(sender))),
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let over = body.as_mut().poll(context).is_ready();
        if over {
            self.body = None;
        }
        match lock(&self.slot).take() {
            Some(item) => Poll::Ready(Some(item)),
            None if over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
