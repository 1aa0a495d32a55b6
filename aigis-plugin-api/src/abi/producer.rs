//! Streams that cross: a library makes the items, the host asks for them.
//!
//! Since 1.2. As with a [`Task`](super::Task), the host gets two functions over a pointer. The other way
//! round, streams are numbers that the library hands back to the host.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::task::{Context, Poll, Waker};

use super::layout::{Fields, fields};
use super::task::{TaskWaker, raw};
use super::{Buffer, Status};
use crate::stream::{Flow, Items as _};

/// What asking for an item came to; the number is the ABI.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// It waits for something; the waker is used when it can go on.
    Pending,
    /// An encoded item is in the output. An empty one says that the call has begun.
    Item,
    /// There are no more.
    End,
    /// It is over: an encoded [`crate::error::Failure`] is in the output.
    Failed,
}

/// A stream that a library makes: what an opened skill brings, or an argument of a call.
///
/// Whoever holds it calls `drop` once, at the end, and nothing afterwards; neither function is called
/// while the other, or another `next`, is running. Any thread may call.
#[repr(C)]
#[derive(Debug)]
pub struct Producer {
    /// The library's own; first argument of both functions.
    pub data: *mut c_void,
    /// Makes the next item; it may block. Not called again once it is over. `waker` is borrowed for the
    /// call.
    pub next: unsafe extern "C" fn(
        data: *mut c_void,
        waker: *const TaskWaker,
        out: &mut Buffer,
    ) -> Produced,
    /// Drops what is left. Fails if the author's code panicked meanwhile: then an encoded
    /// [`crate::error::Failure`] is in `error`.
    pub drop: unsafe extern "C" fn(data: *mut c_void, error: &mut Buffer) -> Status,
}

// SAFETY: what is behind it is `Send` (`Flow` is made of such items only), and whoever holds the
// producer calls one function at a time.
unsafe impl Send for Producer {}

pub(super) const PRODUCER: Fields = fields!("Producer", Producer { data, next, drop });

impl Producer {
    /// Hands a stream over.
    pub(crate) fn new(flow: Flow) -> Self {
        Self {
            data: Box::into_raw(Box::new(flow)).cast(),
            next: next_of_flow,
            drop: drop_flow,
        }
    }
}

/// # Safety
/// `data` came from [`Producer::new`], and no other call uses it now; `waker` is the host's, and good
/// for the call.
unsafe extern "C" fn next_of_flow(
    data: *mut c_void,
    waker: *const TaskWaker,
    out: &mut Buffer,
) -> Produced {
    // SAFETY: `Producer::new` made the pointer from a box that is not dropped yet, and the host calls
    // one function at a time.
    let flow = unsafe { &mut *data.cast::<Flow>() };
    // SAFETY: the pointer is good for the call, and what is made of it is not dropped, so the host's
    // reference is not given back; a clone of it retains one of its own.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw(waker)) });
    match flow.poll_next(&mut Context::from_waker(&waker)) {
        Poll::Pending => Produced::Pending,
        Poll::Ready(Ok(Some(item))) => {
            *out = item.into();
            Produced::Item
        }
        Poll::Ready(Ok(None)) => Produced::End,
        Poll::Ready(Err(failure)) => {
            *out = failure.encode().into();
            Produced::Failed
        }
    }
}

/// # Safety
/// `data` came from [`Producer::new`], and this is the last call with it.
unsafe extern "C" fn drop_flow(data: *mut c_void, error: &mut Buffer) -> Status {
    // SAFETY: `Producer::new` made the pointer from a box, and the host drops a producer once.
    let mut flow = unsafe { Box::from_raw(data.cast::<Flow>()) };
    match flow.end() {
        Ok(()) => Status::Ok,
        Err(failure) => {
            *error = failure.encode().into();
            Status::Failed
        }
    }
}
