//! What a library or a program makes of an opened skill: its code, contained.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::items::{BEGUN, BoxItems, Items, Next, Streams, over};
use crate::error::Failure;
use crate::library::{contain, inside};

/// What begins an opened skill.
pub enum Opening {
    /// A plain function, which may block.
    Call(Box<dyn FnOnce() -> Result<BoxItems, Failure> + Send>),
    /// An async one.
    Future(Pin<Box<dyn Future<Output = Result<BoxItems, Failure>> + Send>>),
}

/// Opens a skill: the names of its parameters, the encoded arguments and the streams among them.
pub(crate) type Openings = fn(&'static [&'static str], Vec<u8>, Streams) -> Opening;

enum State {
    Opening(Opening),
    Open(BoxItems),
    Over,
}

/// Items that an author's code makes. What it runs, its drop included, is contained.
pub(crate) struct Flow {
    name: &'static str,
    state: State,
}

impl Flow {
    /// Makes the items of an opened skill; the first one is [`BEGUN`].
    pub(crate) fn opening(name: &'static str, opening: Opening) -> Self {
        Self {
            name,
            state: State::Opening(opening),
        }
    }

    /// Contains items that are made here for somebody else.
    pub(crate) fn of(name: &'static str, items: BoxItems) -> Self {
        Self {
            name,
            state: State::Open(items),
        }
    }

    /// Drops what is left.
    ///
    /// # Errors
    /// A drop of the author's panicked.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => Ok(()),
            state => contain(self.name, || {
                inside(move || drop(state));
                Ok(())
            }),
        }
    }
}

impl State {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let opened = match self {
            Self::Open(items) => return items.poll_next(context),
            Self::Over => return Poll::Ready(Err(over())),
            Self::Opening(Opening::Future(future)) => match future.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(opened) => opened,
            },
            Self::Opening(Opening::Call(_)) => {
                let Self::Opening(Opening::Call(call)) = std::mem::replace(self, Self::Over) else {
                    return Poll::Ready(Err(over()));
                };
                call()
            }
        };
        Poll::Ready(opened.map(|items| {
            *self = Self::Open(items);
            Some(BEGUN.to_vec())
        }))
    }
}

impl Items for Flow {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let state = &mut self.state;
        let polled = contain(self.name, || match inside(|| state.poll(context)) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(next) => next.map(Poll::Ready),
        });
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Some(item))) => Poll::Ready(Ok(Some(item))),
            Ok(Poll::Ready(None)) => Poll::Ready(self.end().map(|()| None)),
            Err(failure) => {
                // A second failure is in the log; the first one is the consumer's.
                let _ = self.end();
                Poll::Ready(Err(failure))
            }
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // A panic is in the log by then.
        let _ = self.end();
    }
}
