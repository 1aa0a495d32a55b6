//! The spans of a fake host.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use aigis_plugin_api::Value;
use aigis_plugin_api::abi::{Bytes, CURRENT_SPAN, CurrentSpan, NO_SPAN, SpanRecord};
use aigis_plugin_api::codec;

use super::{FakeHost, host};

/// A span that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub level: u8,
    pub target: String,
    pub name: String,
    pub fields: Value,
    parent: u64,
    mark: usize,
    handles: usize,
}

pub struct Spans {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Span>>,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: Mutex::default(),
        }
    }
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn current() -> u64 {
    ENTERED.with_borrow(|entered| entered.last().copied().unwrap_or(NO_SPAN))
}

fn resolve(id: u64) -> u64 {
    if id == CURRENT_SPAN { current() } else { id }
}

pub fn decode(fields: &[u8]) -> Value {
    match fields {
        [] => Value::Nil,
        fields => codec::from_slice(fields).expect("a map"),
    }
}

impl FakeHost {
    fn open_spans(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.open.lock().unwrap()
    }

    /// How many spans of this name are open.
    pub fn open_spans_named(&self, name: &str) -> usize {
        let open = self.open_spans();
        open.values().filter(|span| span.name == name).count()
    }

    /// The spans from the outermost to `id`.
    pub fn spans_around(&self, id: u64) -> Vec<Span> {
        let open = self.open_spans();
        let mut around = Vec::new();
        let mut next = resolve(id);
        while let Some(span) = open.get(&next) {
            around.insert(0, span.clone());
            next = span.parent;
        }
        around
    }
}

/// As if the program around this library were in a span: returns its number.
pub fn enter_elsewhere(host: &FakeHost, name: &str) -> u64 {
    let id = host.spans.next.fetch_add(1, Ordering::SeqCst);
    let span = Span {
        level: 2,
        target: "elsewhere".to_owned(),
        name: name.to_owned(),
        fields: Value::Nil,
        parent: current(),
        mark: 0,
        handles: 1,
    };
    host.open_spans().insert(id, span);
    ENTERED.with_borrow_mut(|entered| entered.push(id));
    id
}

pub fn exit_elsewhere(host: &FakeHost, id: u64) -> Option<Span> {
    ENTERED.with_borrow_mut(|entered| entered.retain(|other| *other != id));
    host.open_spans().remove(&id)
}

pub unsafe extern "C" fn span_open(context: *const c_void, record: SpanRecord<'_>) -> u64 {
    let host = host(context);
    let id = host.spans.next.fetch_add(1, Ordering::SeqCst);
    let span = Span {
        level: record.level,
        target: record.target.as_str().to_owned(),
        name: record.name.as_str().to_owned(),
        fields: decode(record.fields.as_slice()),
        parent: resolve(record.parent),
        mark: record.mark,
        handles: 1,
    };
    host.open_spans().insert(id, span);
    id
}

pub unsafe extern "C" fn span_record(context: *const c_void, id: u64, fields: Bytes<'_>) {
    let mut open = host(context).open_spans();
    let Some(span) = open.get_mut(&id) else {
        return;
    };
    let known = span.fields.as_map().unwrap_or_default();
    let new = decode(fields.as_slice());
    let added = new.as_map().unwrap_or_default();
    let kept = known
        .iter()
        .filter(|(key, _)| key.as_str().is_some_and(|key| new.get(key).is_none()));
    span.fields = Value::Map(kept.chain(added).cloned().collect());
}

pub unsafe extern "C" fn span_enter(_: *const c_void, id: u64) {
    ENTERED.with_borrow_mut(|entered| entered.push(id));
}

pub unsafe extern "C" fn span_exit(_: *const c_void, id: u64) {
    ENTERED.with_borrow_mut(|entered| {
        let place = entered.iter().rposition(|other| *other == id);
        entered.remove(place.expect("was entered"));
    });
}

pub unsafe extern "C" fn span_clone(context: *const c_void, id: u64) -> u64 {
    let mut open = host(context).open_spans();
    open.get_mut(&id).map_or(NO_SPAN, |span| {
        span.handles += 1;
        id
    })
}

pub unsafe extern "C" fn span_close(context: *const c_void, id: u64) -> bool {
    let mut open = host(context).open_spans();
    let Some(span) = open.get_mut(&id) else {
        return false;
    };
    span.handles -= 1;
    span.handles == 0 && open.remove(&id).is_some()
}

pub unsafe extern "C" fn current_span(context: *const c_void) -> CurrentSpan {
    let id = current();
    let mark = host(context)
        .open_spans()
        .get(&id)
        .map_or(0, |span| span.mark);
    CurrentSpan { id, mark }
}
