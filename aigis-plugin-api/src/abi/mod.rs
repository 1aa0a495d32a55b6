//! Everything that crosses the boundary between the core and a plugin's library.
//!
//! Only `repr(C)` types stand here, each listed with its fields in the descriptor's layout, and
//! nothing outside this module and the core's loader touches a raw pointer that came from the other side. The contract in short:
//!
//! 1. A library exports one symbol, [`SYMBOL`], a [`Descriptor`].
//! 2. The host reads its [`Header`] first and compares magic, version and size; only then the rest.
//! 3. A panic is caught in the library where it starts and crosses as an encoded error.
//! 4. Whoever made a [`List`] frees it: the receiver copies and calls the maker's `free`. Only where
//!    both sides' allocators have been found to be `malloc` is the memory the receiver's to keep.
//! 5. Nothing that points into a library is kept once the call that brought it has returned; a
//!    [`Task`], a [`Job`] or a [`Completion`] is held until it is over, and its library stays for it.

mod allocator;
mod descriptor;
mod direct;
mod export;
mod host;
mod instance;
mod layout;
mod link;
mod list;
mod producer;
#[cfg(any(feature = "host", feature = "portable", test))]
pub mod reader;
mod seat;
mod span;
mod sync;
mod task;

pub use descriptor::{ABI_MAJOR, ABI_MINOR, Descriptor, Header, MAGIC, SYMBOL};
pub use direct::{
    Both, Choice, Crossing, Deepest, Direct, DirectArg, DirectIn, DirectOut, Either, Form, Nested,
    Run, Scalar,
};
#[doc(hidden)]
pub use export::descriptor;
pub use host::{Completion, Entered, HostApi, LogRecord, Request};
pub(crate) use host::{HostCell, OnOutcome};

pub use instance::Instance;
pub use layout::{Field, Fields};
pub use link::Link;
pub use list::{Buffer, Bytes, List, Slice, Text};
pub use producer::{Produced, Producer};
pub use seat::{SEAT_FRAMES, Seat};
pub use span::{CURRENT_SPAN, CurrentSpan, NO_SPAN, SpanRecord};
pub use task::{Job, Task, TaskPoll, TaskWaker};

/// What a call across the boundary came to; the number is the ABI.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The result is in the output.
    Ok,
    /// An encoded [`crate::error::Failure`] is in the error buffer.
    Failed,
    /// There is no such thing here; ask another way. Nothing was written.
    Absent,
}
