//! Spans, as a library opens them in its host.
//!
//! A span belongs to the host: a library holds its number alone, so that a span entered in one
//! library is the parent of what another one writes below it, on whichever thread.

use std::num::NonZeroU64;

use super::{Bytes, HostApi, Text};

/// In the place of a span's number: there is none.
pub const NO_SPAN: u64 = 0;

/// In the place of a span's number: whichever the calling thread is in.
pub const CURRENT_SPAN: u64 = u64::MAX;

/// A span that a library opens. The host copies what it keeps.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SpanRecord<'a> {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error.
    pub level: u8,
    /// The module or name that the span belongs to.
    pub target: Text<'a>,
    /// The name.
    pub name: Text<'a>,
    /// The number of the span around it, [`NO_SPAN`] or [`CURRENT_SPAN`].
    pub parent: u64,
    /// The fields: an encoded map, or empty.
    pub fields: Bytes<'a>,
    /// The library's own, not 0; see [`CurrentSpan::mark`].
    pub mark: usize,
}

/// The span that a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CurrentSpan {
    /// Its number, or [`NO_SPAN`]; [`CURRENT_SPAN`] for one that has no number until it is cloned.
    pub id: u64,
    /// [`SpanRecord::mark`] of a span that the asking generation has opened, and 0 for any other.
    pub mark: usize,
}

impl HostApi {
    /// Opens a span, with one handle.
    pub(crate) fn open_span(&self, record: SpanRecord<'_>) -> NonZeroU64 {
        // SAFETY: `context` is the host's own; any thread may call; the host copies what it keeps.
        let id = unsafe { (self.span_open)(self.context, record) };
        // A host never answers 0. Should one do so, this is a span that it does not know.
        NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX)
    }

    /// Adds fields to a span, in the place of those of the same names.
    pub(crate) fn record_span(&self, span: u64, fields: &[u8]) {
        // SAFETY: as above; numbers that are not known are ignored, here and below.
        unsafe { (self.span_record)(self.context, span, fields.into()) }
    }

    /// Enters a span on this thread.
    pub(crate) fn enter_span(&self, span: u64) {
        // SAFETY: as above.
        unsafe { (self.span_enter)(self.context, span) }
    }

    /// Leaves a span that this thread has entered.
    pub(crate) fn exit_span(&self, span: u64) {
        // SAFETY: as above.
        unsafe { (self.span_exit)(self.context, span) }
    }

    /// Makes another handle of a span, which may have another number.
    pub(crate) fn clone_span(&self, span: u64) -> Option<NonZeroU64> {
        // SAFETY: as above.
        NonZeroU64::new(unsafe { (self.span_clone)(self.context, span) })
    }

    /// Gives a handle back; true when it was the last.
    pub(crate) fn close_span(&self, span: u64) -> bool {
        // SAFETY: as above.
        unsafe { (self.span_close)(self.context, span) }
    }

    /// Returns the span that this thread is in.
    pub(crate) fn current_span(&self) -> CurrentSpan {
        // SAFETY: as above.
        unsafe { (self.current_span)(self.context) }
    }
}
