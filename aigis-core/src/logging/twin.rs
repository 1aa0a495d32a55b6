//! Records and spans in the `tracing` subscriber of the program around the core, if it has one.
//!
//! A callsite of `tracing` is static, and what plugins write is not. So there is one callsite for
//! each level, of the target `aigis`: spans are named `span` and have the fields `plugin`, `target`,
//! `span_name` and `fields`; records have `plugin`, `target`, `message`, `fields`, `file` and `line`.
//! `fields` is text, `key=value key=value`. A field without a value is left out. A level that
//! `tracing` does not have is `INFO`.

use std::fmt;

use aigis_plugin_api::codec::Value;
use tracing::field::{DisplayValue, display};
use tracing::{Span, dispatcher};

use super::Level;
use super::spans::{Around, Opening};

/// A record of a log, in its parts.
pub(crate) struct Record<'a> {
    pub(crate) level: Level,
    /// The module or name that it belongs to; empty when there is none.
    pub(crate) target: &'a str,
    pub(crate) message: &'a str,
    pub(crate) fields: &'a [(Value, Value)],
    /// Empty when it is not known.
    pub(crate) file: &'a str,
    /// 0 when it is not known.
    pub(crate) line: u32,
}

impl<'a> Record<'a> {
    pub(crate) fn plain(level: Level, message: &'a str) -> Self {
        Self {
            level,
            target: "",
            message,
            fields: &[],
            file: "",
            line: 0,
        }
    }
}

/// Fields as people read them.
pub(crate) struct AsText<'a>(pub(crate) &'a [(Value, Value)]);

impl fmt::Display for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, value)) in self.0.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            let key = key.as_str().unwrap_or("?");
            match value.as_str() {
                // Text without blanks reads better without its quotes.
                Some(plain) if !plain.contains(char::is_whitespace) => {
                    write!(f, "{gap}{key}={plain}")?;
                }
                _ => write!(f, "{gap}{key}={}", value.to_json())?,
            }
        }
        Ok(())
    }
}

fn unless_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn as_text(fields: &[(Value, Value)]) -> Option<DisplayValue<AsText<'_>>> {
    (!fields.is_empty()).then(|| display(AsText(fields)))
}

/// Expands `$make` for each level, since the level of a callsite is static.
macro_rules! by_level {
    ($level:expr, $make:ident) => {
        match $level {
            Level::Trace => $make!(tracing::Level::TRACE),
            Level::Debug => $make!(tracing::Level::DEBUG),
            Level::Warn => $make!(tracing::Level::WARN),
            Level::Error => $make!(tracing::Level::ERROR),
            Level::Info | Level::Stderr | Level::Boot | Level::Shutdown => {
                $make!(tracing::Level::INFO)
            }
        }
    };
}

/// Hands on a record; `plugin` is whose log it is in, none for the core's.
pub(crate) fn write(plugin: Option<&str>, around: &Around, record: &Record<'_>) {
    // Almost always there is none.
    if !dispatcher::has_been_set() {
        return;
    }
    around.in_subscriber(|parent| {
        macro_rules! event {
            ($level:expr) => {
                tracing::event!(
                    target: "aigis",
                    parent: parent.clone(),
                    $level,
                    plugin,
                    target = unless_empty(record.target),
                    fields = as_text(record.fields),
                    file = unless_empty(record.file),
                    line = (record.line > 0).then_some(record.line),
                    "{}",
                    record.message
                )
            };
        }
        by_level!(record.level, event);
    });
}

/// Opens the twin of a span of `plugin`.
pub(super) fn open(plugin: &str, around: &Around, opening: &Opening<'_>) -> Span {
    if !dispatcher::has_been_set() {
        return Span::none();
    }
    around.in_subscriber(|parent| {
        macro_rules! span {
            ($level:expr) => {
                tracing::span!(
                    target: "aigis",
                    parent: parent.clone(),
                    $level,
                    "span",
                    plugin,
                    target = unless_empty(opening.target),
                    span_name = opening.name,
                    fields = as_text(&opening.fields)
                )
            };
        }
        by_level!(opening.level, span)
    })
}

/// Tells a twin that the span has these fields by now.
pub(super) fn record(twin: &Span, fields: &[(Value, Value)]) {
    twin.record("fields", display(AsText(fields)));
}
