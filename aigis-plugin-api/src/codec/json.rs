//! [`Value`] as JSON text, without loss.
//!
//! What JSON has no form for is an object with one key that starts with `$`:
//!
//! | JSON | value |
//! |---|---|
//! | `{"$bytes": "<base64>"}` | bytes |
//! | `{"$map": [[key, value], …]}` | a map with keys that are not strings, or are one of these five |
//! | `{"$float": "nan"}`, `"inf"`, `"-inf"` | these floats; `"nan:<16 hex digits>"` is a NaN with just these bits |
//! | `{"$some": value}` | [`Value::Some`] |
//! | `{"$ext": [type, "<base64>"]}` | an extension |
//!
//! Numbers without fraction and exponent are integers as long as 128 bits hold them, all others are floats. An object
//! with a key of these beside others is an ordinary map.

use std::fmt::{self, Write};

use super::value::Value;
use super::{base64, json_read};

pub(super) const BYTES: &str = "$bytes";
pub(super) const MAP: &str = "$map";
pub(super) const FLOAT: &str = "$float";
const SOME: &str = "$some";
pub(super) const EXT: &str = "$ext";

/// Why a text is not JSON, or not the JSON of a value.
///
/// ```
/// use aigis_plugin_api::Value;
///
/// let error = Value::from_json("[1, 2").unwrap_err();
/// assert_eq!((error.line, error.column), (1, 6));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonError {
    /// The line of the mistake; the first is 1.
    pub line: usize,
    /// The character of the mistake in its line; the first is 1.
    pub column: usize,
    /// What would be right there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            expected,
            found,
        } = self;
        write!(
            f,
            "line {line}, column {column}: expected {expected}, found {found}"
        )
    }
}

impl std::error::Error for JsonError {}

impl Value {
    /// Returns compact JSON, from which [`Value::from_json`] makes the same value again.
    ///
    /// What JSON has no form for becomes an object with one key: `{"$bytes": "<base64>"}`,
    /// `{"$map": [[key, value], …]}`, `{"$float": "nan"}`, `{"$some": value}`, `{"$ext": [type, "<base64>"]}`.
    pub fn to_json(&self) -> String {
        let mut writer = Writer {
            out: String::new(),
            indent: None,
        };
        writer.value(self);
        writer.out
    }

    /// Returns JSON as [`Value::to_json`] does, on several lines, for people.
    pub fn to_json_pretty(&self) -> String {
        let mut writer = Writer {
            out: String::new(),
            indent: Some(0),
        };
        writer.value(self);
        writer.out
    }

    /// Reads JSON (RFC 8259), with the forms that [`Value::to_json`] writes.
    ///
    /// # Errors
    /// The text is not JSON, is nested too deeply, or holds an ill-formed `$` object. The error says where.
    ///
    /// ```
    /// # use aigis_plugin_api::codec::Value;
    /// let value = Value::from_json(r#"{"id": 7, "data": {"$bytes": "AAEC"}}"#)?;
    /// assert_eq!(value.get("data").and_then(Value::as_bytes), Some(&[0, 1, 2][..]));
    /// # Ok::<(), aigis_plugin_api::codec::JsonError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        json_read::parse(text)
    }
}

/// Says whether an object with this key can be one of the `$` objects.
pub(super) fn is_convention(key: &str) -> bool {
    matches!(key, BYTES | MAP | FLOAT | SOME | EXT)
}

struct Writer {
    out: String,
    /// How many levels the line is indented; none: everything is on one line.
    indent: Option<usize>,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Nil => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Int(value) => self.show(format_args!("{value}")),
            // `Debug` is the shortest text that is read as the same float, and always has a fraction or an exponent.
            Value::Float(value) if value.is_finite() => self.show(format_args!("{value:?}")),
            Value::Float(value) => self.wrapped(FLOAT, |writer| writer.special_float(*value)),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.wrapped(BYTES, |writer| writer.base64(bytes)),
            Value::List(items) => self.items('[', ']', items, Self::value),
            Value::Map(entries)
                if entries
                    .iter()
                    .all(|(key, _)| key.as_str().is_some_and(|key| !is_convention(key))) =>
            {
                self.items('{', '}', entries, |writer, (key, value)| {
                    writer.value(key);
                    writer.colon();
                    writer.value(value);
                });
            }
            Value::Map(entries) => self.wrapped(MAP, |writer| {
                writer.items('[', ']', entries, |writer, (key, value)| {
                    writer.items('[', ']', &[key, value], |writer, value| writer.value(value));
                });
            }),
            Value::Some(inner) => self.wrapped(SOME, |writer| writer.value(inner)),
            Value::Ext(kind, payload) => self.wrapped(EXT, |writer| {
                writer.show(format_args!("[{kind},"));
                if writer.indent.is_some() {
                    writer.out.push(' ');
                }
                writer.base64(payload);
                writer.out.push(']');
            }),
        }
    }

    fn show(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }

    fn colon(&mut self) {
        self.out
            .push_str(if self.indent.is_some() { ": " } else { ":" });
    }

    /// Writes an object with one of the conventional keys, on one line if what it holds is.
    fn wrapped(&mut self, key: &str, content: impl FnOnce(&mut Self)) {
        self.out.push('{');
        self.text(key);
        self.colon();
        content(self);
        self.out.push('}');
    }

    fn items<T>(
        &mut self,
        open: char,
        close: char,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T),
    ) {
        self.out.push(open);
        if items.is_empty() {
            self.out.push(close);
            return;
        }
        self.indent = self.indent.map(|indent| indent + 1);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.line();
            write(self, item);
        }
        self.indent = self.indent.map(|indent| indent - 1);
        self.line();
        self.out.push(close);
    }

    fn line(&mut self) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", indent));
        }
    }

    fn special_float(&mut self, value: f64) {
        if value.is_infinite() {
            self.text(if value > 0.0 { "inf" } else { "-inf" });
        } else if value.to_bits() == f64::NAN.to_bits() {
            self.text("nan");
        } else {
            self.show(format_args!("\"nan:{:016x}\"", value.to_bits()));
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push('"');
        base64::encode(bytes, &mut self.out);
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        let mut plain = 0;
        for (index, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.push_str(&text[plain..index]);
            plain = index + 1;
            match byte {
                b'"' => self.out.push_str("\\\""),
                b'\\' => self.out.push_str("\\\\"),
                b'\n' => self.out.push_str("\\n"),
                b'\r' => self.out.push_str("\\r"),
                b'\t' => self.out.push_str("\\t"),
                _ => self.show(format_args!("\\u{byte:04x}")),
            }
        }
        self.out.push_str(&text[plain..]);
        self.out.push('"');
    }
}
