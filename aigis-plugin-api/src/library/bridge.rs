//! Events and spans of the crates `tracing` and `log` inside a library reach the host.
//!
//! Each library has its own copy of both crates, so each has a dispatcher of its own: this one. It
//! keeps no spans: they are the host's, and which one a thread is in is the host's to know.
//!
//! The host is asked for its level once for each callsite: it is the same for as long as a host
//! lives. So what the host does not keep is never formatted, and costs what a comparison costs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::num::NonZeroU64;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::field::{Field, FieldSet, Visit};
use tracing_core::metadata::Kind;
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, LevelFilter, Metadata, Subscriber};

use crate::abi::{CURRENT_SPAN, HostApi, LogRecord, NO_SPAN, SpanRecord};
use crate::codec::{self, Value};
use crate::logger::LogLevel;

/// Installs the bridge for both crates.
pub(super) fn install(host: &'static HostApi) {
    // A plugin that set a dispatcher or logger of its own before this keeps it.
    let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(Bridge { host }));
    static LOGGER: LogBridge = LogBridge;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(
            least(host).map_or(log::LevelFilter::Off, |level| match level {
                LogLevel::Trace => log::LevelFilter::Trace,
                LogLevel::Debug => log::LevelFilter::Debug,
                LogLevel::Info => log::LevelFilter::Info,
                LogLevel::Warn => log::LevelFilter::Warn,
                LogLevel::Error => log::LevelFilter::Error,
            }),
        );
    }
}

/// Returns the least level that the host keeps, if it keeps any.
fn least(host: &HostApi) -> Option<LogLevel> {
    let levels = [
        LogLevel::Trace,
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
    ];
    levels
        .into_iter()
        .find(|level| host.is_enabled(*level as u8))
}

fn encode(fields: Vec<(Value, Value)>) -> Vec<u8> {
    if fields.is_empty() {
        return Vec::new();
    }
    codec::to_vec(&Value::Map(fields)).unwrap_or_default()
}

struct Bridge {
    host: &'static HostApi,
}

/// The callsites of this library's spans, by their addresses, which are the marks of their spans.
static CALLSITES: Mutex<BTreeMap<usize, &'static Metadata<'static>>> = Mutex::new(BTreeMap::new());

fn callsites() -> MutexGuard<'static, BTreeMap<usize, &'static Metadata<'static>>> {
    CALLSITES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mark_of(metadata: &Metadata<'_>) -> usize {
    ptr::from_ref(metadata).addr()
}

/// Stands for a span that another library, or a program around the core, has opened: this one has
/// no description of it.
struct Elsewhere;

static ELSEWHERE: Elsewhere = Elsewhere;
static ELSEWHERE_METADATA: Metadata<'static> = Metadata::new(
    "elsewhere",
    "aigis",
    Level::ERROR,
    None,
    None,
    None,
    FieldSet::new(&[], Identifier(&ELSEWHERE)),
    Kind::SPAN,
);

impl Callsite for Elsewhere {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &ELSEWHERE_METADATA
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

/// Returns the number of what an event or span has around it.
fn around(parent: Option<&Id>, is_root: bool) -> u64 {
    match parent {
        Some(parent) => parent.into_u64(),
        None if is_root => NO_SPAN,
        None => CURRENT_SPAN,
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() {
            callsites().insert(mark_of(metadata), metadata);
        }
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.host.is_enabled(level_of(*metadata.level()) as u8)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match least(self.host) {
            Some(LogLevel::Trace) => LevelFilter::TRACE,
            Some(LogLevel::Debug) => LevelFilter::DEBUG,
            Some(LogLevel::Info) => LevelFilter::INFO,
            Some(LogLevel::Warn) => LevelFilter::WARN,
            Some(LogLevel::Error) => LevelFilter::ERROR,
            None => LevelFilter::OFF,
        })
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let fields = encode(fields.into_all());
        let id = self.host.open_span(SpanRecord {
            level: level_of(*metadata.level()) as u8,
            target: metadata.target().into(),
            name: metadata.name().into(),
            parent: around(attributes.parent(), attributes.is_root()),
            fields: fields.as_slice().into(),
            mark: mark_of(metadata),
        });
        Id::from_non_zero_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.host
            .record_span(span.into_u64(), &encode(fields.into_all()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let values = encode(fields.values);
        self.host.write_log(LogRecord {
            level: level_of(*metadata.level()) as u8,
            target: metadata.target().into(),
            message: fields.message.as_str().into(),
            fields: values.as_slice().into(),
            span: around(event.parent(), event.is_root()),
            file: metadata.file().unwrap_or_default().into(),
            line: metadata.line().unwrap_or_default(),
        });
    }

    fn enter(&self, span: &Id) {
        self.host.enter_span(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        self.host.exit_span(span.into_u64());
    }

    fn clone_span(&self, span: &Id) -> Id {
        let cloned = self.host.clone_span(span.into_u64());
        cloned.map_or_else(|| span.clone(), Id::from_non_zero_u64)
    }

    fn try_close(&self, span: Id) -> bool {
        self.host.close_span(span.into_u64())
    }

    fn current_span(&self) -> Current {
        let current = self.host.current_span();
        let Some(id) = NonZeroU64::new(current.id) else {
            return Current::none();
        };
        let own = callsites().get(&current.mark).copied();
        Current::new(
            Id::from_non_zero_u64(id),
            own.unwrap_or(&ELSEWHERE_METADATA),
        )
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
            // Text that needs no formatting is not copied either.
            let arguments = record.args();
            let message = arguments
                .as_str()
                .map_or_else(|| Cow::Owned(arguments.to_string()), Cow::Borrowed);
            host.write_log(LogRecord {
                level: level_of_log(record.level()) as u8,
                target: record.target().into(),
                message: (&*message).into(),
                fields: [].as_slice().into(),
                span: CURRENT_SPAN,
                file: record.file().unwrap_or_default().into(),
                line: record.line().unwrap_or_default(),
            });
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
