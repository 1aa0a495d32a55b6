//! The spans of one generation: what its library knows by number.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use aigis_plugin_api::abi::{Bytes, CURRENT_SPAN, CurrentSpan, NO_SPAN, SpanRecord};
use aigis_plugin_api::codec::{self, Value};

use super::host_api::{context_of, guard, level_of};
use super::lock;
use crate::logging::spans::{self, Around, Fields, Opening, Owner, Span};

/// What is handed out when a span cannot be opened: the number of no span.
const UNKNOWN: u64 = u64::MAX - 1;

/// The handles that a generation holds, of spans of its own and of others'.
pub(super) struct Spans {
    owner: Arc<Owner>,
    held: Mutex<HashMap<u64, Held>>,
}

struct Held {
    span: Arc<Span>,
    handles: usize,
}

impl Spans {
    pub(super) fn new(plugin: &str) -> Self {
        Self {
            owner: Owner::new(plugin),
            held: Mutex::default(),
        }
    }

    /// Gives back every handle: the code that held them runs no more.
    pub(super) fn end(&self) {
        self.owner.end();
        let held = std::mem::take(&mut *lock(&self.held));
        // The last handle may close a span in the embedder's subscriber, which runs its code: not
        // under a lock, here and below.
        drop(held);
    }

    fn open(&self, around: &Around, opening: Opening<'_>) -> u64 {
        if self.owner.has_ended() {
            return UNKNOWN;
        }
        let span = Span::open(&self.owner, around, opening);
        let id = span.id();
        self.hold(span);
        id
    }

    fn hold(&self, span: Arc<Span>) {
        let mut held = lock(&self.held);
        // Under the lock that `end` takes: nothing is held any more after that.
        if !self.owner.has_ended() {
            let same = held.entry(span.id()).or_insert(Held { span, handles: 0 });
            same.handles += 1;
        }
    }

    /// Returns the span that the library means by a number.
    fn find(&self, id: u64) -> Option<Arc<Span>> {
        if id == CURRENT_SPAN {
            return spans::current();
        }
        let held = lock(&self.held).get(&id).map(|held| Arc::clone(&held.span));
        held.or_else(|| spans::entered(id))
    }

    pub(super) fn around(&self, id: u64) -> Around {
        match id {
            CURRENT_SPAN => Around::Current,
            NO_SPAN => Around::Nothing,
            id => self.find(id).map_or(Around::Nothing, Around::Chosen),
        }
    }

    fn clone(&self, id: u64) -> u64 {
        let Some(span) = self.find(id) else {
            return NO_SPAN;
        };
        let id = span.id();
        self.hold(span);
        id
    }

    fn close(&self, id: u64) -> bool {
        let mut all = lock(&self.held);
        let Some(held) = all.get_mut(&id) else {
            return false;
        };
        held.handles -= 1;
        if held.handles > 0 {
            return false;
        }
        let last = all.remove(&id);
        drop(all);
        drop(last);
        true
    }

    fn current(&self) -> CurrentSpan {
        let Some(span) = spans::current() else {
            return CurrentSpan {
                id: NO_SPAN,
                mark: 0,
            };
        };
        CurrentSpan {
            // It is made anew each time: there is nothing that a number of it could find again.
            id: match span.is_of_embedder() {
                true => CURRENT_SPAN,
                false => span.id(),
            },
            mark: span.mark_of(&self.owner).unwrap_or(0),
        }
    }
}

/// Reads fields as they cross.
pub(super) fn fields_of(encoded: &[u8]) -> Fields {
    match encoded {
        [] => Fields::new(),
        encoded => match codec::from_slice(encoded) {
            Ok(Value::Map(fields)) => fields,
            _ => Fields::new(),
        },
    }
}

pub(super) unsafe extern "C" fn span_open(context: *const c_void, record: SpanRecord<'_>) -> u64 {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    guard(
        |_| UNKNOWN,
        || {
            let opening = Opening {
                level: level_of(record.level),
                target: record.target.as_str(),
                name: record.name.as_str(),
                fields: fields_of(record.fields.as_slice()),
                mark: record.mark,
            };
            spans.open(&spans.around(record.parent), opening)
        },
    )
}

pub(super) unsafe extern "C" fn span_record(context: *const c_void, span: u64, fields: Bytes<'_>) {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    guard(drop, || {
        if let Some(span) = spans.find(span) {
            span.record(fields_of(fields.as_slice()));
        }
    });
}

pub(super) unsafe extern "C" fn span_enter(context: *const c_void, span: u64) {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    guard(drop, || {
        if let Some(span) = spans.find(span) {
            spans::enter(span);
        }
    });
}

pub(super) unsafe extern "C" fn span_exit(_: *const c_void, span: u64) {
    guard(drop, || spans::exit(span));
}

pub(super) unsafe extern "C" fn span_clone(context: *const c_void, span: u64) -> u64 {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    guard(|_| NO_SPAN, || spans.clone(span))
}

pub(super) unsafe extern "C" fn span_close(context: *const c_void, span: u64) -> bool {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    guard(|_| false, || spans.close(span))
}

pub(super) unsafe extern "C" fn current_span(context: *const c_void) -> CurrentSpan {
    // SAFETY: the library passes the context of its table.
    let spans = unsafe { context_of(context) }.spans();
    let none = |_| CurrentSpan {
        id: NO_SPAN,
        mark: 0,
    };
    guard(none, || spans.current())
}
