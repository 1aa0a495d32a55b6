//! Events of the crates `tracing` and `log` inside a library reach the plugin's log.
//!
//! Each library has its own copy of both crates, so each has a dispatcher of its own: this one.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, Metadata, Subscriber};

use crate::abi::{HostApi, LogRecord};
use crate::codec::{self, Value};
use crate::logger::LogLevel;

/// Installs the bridge for both crates.
pub(super) fn install(host: &'static HostApi) {
    // A plugin that set a dispatcher or logger of its own before this keeps it.
    let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(Bridge {
        host,
        spans: Mutex::default(),
        next: AtomicU64::new(1),
    }));
    static LOGGER: LogBridge = LogBridge;
    if log::set_logger(&LOGGER).is_ok() {
        let most = [
            (LogLevel::Trace, log::LevelFilter::Trace),
            (LogLevel::Debug, log::LevelFilter::Debug),
            (LogLevel::Info, log::LevelFilter::Info),
            (LogLevel::Warn, log::LevelFilter::Warn),
        ];
        let kept = most
            .into_iter()
            .find(|(level, _)| host.is_enabled(*level as u8));
        log::set_max_level(kept.map_or(log::LevelFilter::Error, |(_, filter)| filter));
    }
}

fn write(
    host: &HostApi,
    level: LogLevel,
    target: &str,
    message: &str,
    fields: Vec<(Value, Value)>,
) {
    let fields = if fields.is_empty() {
        Vec::new()
    } else {
        codec::to_vec(&Value::Map(fields)).unwrap_or_default()
    };
    host.write_log(LogRecord {
        level: level as u8,
        target: target.into(),
        message: message.into(),
        fields: fields.as_slice().into(),
    });
}

thread_local! {
    /// The innermost span that this thread is in; 0 for none. Without a destructor, see `panic`.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

struct Bridge {
    host: &'static HostApi,
    spans: Mutex<HashMap<u64, Span>>,
    next: AtomicU64,
}

struct Span {
    metadata: &'static Metadata<'static>,
    parent: u64,
    /// What was current when the span was entered last.
    before: u64,
    handles: usize,
    fields: Vec<(Value, Value)>,
}

impl Bridge {
    fn spans(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn level_of(level: Level) -> LogLevel {
    match level {
        Level::TRACE => LogLevel::Trace,
        Level::DEBUG => LogLevel::Debug,
        Level::INFO => LogLevel::Info,
        Level::WARN => LogLevel::Warn,
        Level::ERROR => LogLevel::Error,
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.host.is_enabled(level_of(*metadata.level()) as u8)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let parent = match attributes.parent() {
            Some(parent) => parent.into_u64(),
            None if attributes.is_root() => 0,
            None => CURRENT.get(),
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = Span {
            metadata: attributes.metadata(),
            parent,
            before: 0,
            handles: 1,
            fields: fields.into_all(),
        };
        self.spans().insert(number, span);
        Id::from_u64(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = self.spans().get_mut(&span.into_u64()) {
            for (key, value) in fields.into_all() {
                span.fields.retain(|(known, _)| *known != key);
                span.fields.push((key, value));
            }
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut innermost = match event.parent() {
            Some(parent) => parent.into_u64(),
            None if event.is_root() => 0,
            None => CURRENT.get(),
        };
        let mut path = Vec::new();
        let mut all = fields.values;
        {
            let spans = self.spans();
            while let Some(span) = spans.get(&innermost) {
                path.push(span.metadata.name());
                for (key, value) in &span.fields {
                    // An inner value hides an outer one of the same name.
                    if all.iter().all(|(known, _)| known != key) {
                        all.push((key.clone(), value.clone()));
                    }
                }
                innermost = span.parent;
            }
        }
        if !path.is_empty() {
            path.reverse();
            all.push((Value::from("span"), Value::from(path.join(":").as_str())));
        }
        let level = level_of(*metadata.level());
        write(self.host, level, metadata.target(), &fields.message, all);
    }

    fn enter(&self, span: &Id) {
        let number = span.into_u64();
        let before = CURRENT.replace(number);
        if let Some(span) = self.spans().get_mut(&number) {
            span.before = before;
        }
    }

    fn exit(&self, span: &Id) {
        if let Some(span) = self.spans().get(&span.into_u64()) {
            CURRENT.set(span.before);
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(span) = self.spans().get_mut(&span.into_u64()) {
            span.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let number = span.into_u64();
        let Some(span) = spans.get_mut(&number) else {
            return false;
        };
        span.handles -= 1;
        if span.handles > 0 {
            return false;
        }
        spans.remove(&number);
        true
    }

    fn current_span(&self) -> Current {
        let number = CURRENT.get();
        match self.spans().get(&number) {
            Some(span) => Current::new(Id::from_u64(number), span.metadata),
            None => Current::none(),
        }
    }
}

/// Collects the fields of an event or span; the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(Value, Value)>,
}

impl Fields {
    /// Returns the fields of a span, for which a message is a field like any other.
    fn into_all(mut self) -> Vec<(Value, Value)> {
        if !self.message.is_empty() {
            let message = Value::from(self.message.as_str());
            self.values.push((Value::from("message"), message));
        }
        self.values
    }

    fn push(&mut self, field: &Field, value: Value) {
        self.values.push((Value::from(field.name()), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing into a `String` cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.push(field, Value::from(format!("{value:?}").as_str()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.push(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::from(value));
    }
}

struct LogBridge;

impl log::Log for LogBridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        super::host().is_some_and(|host| host.is_enabled(level_of_log(metadata.level()) as u8))
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(host) = super::host()
            && self.enabled(record.metadata())
        {
            let level = level_of_log(record.level());
            write(
                host,
                level,
                record.target(),
                &record.args().to_string(),
                Vec::new(),
            );
        }
    }

    fn flush(&self) {}
}

fn level_of_log(level: log::Level) -> LogLevel {
    match level {
        log::Level::Trace => LogLevel::Trace,
        log::Level::Debug => LogLevel::Debug,
        log::Level::Info => LogLevel::Info,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Error => LogLevel::Error,
    }
}
