//! Options as they were written, whichever syntax they were written in.

use std::fmt;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeInteger, DeValue};

use super::diagnostic::Diagnostic;

/// A value and its place in the text. Two of them are equal when the values are.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    pub(super) span: Range<usize>,
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// What the two syntaxes can express.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawValue {
    None,
    Boolean(bool),
    /// A number too large for the type is its largest or smallest one, which no option accepts either.
    Integer(i128),
    Float(f64),
    Date(String),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl RawValue {
    /// Returns what the value is, with its article, for messages.
    pub(super) fn described(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Date(_) => "a date",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
        }
    }
}

impl Raw {
    /// Gives everything that the value is made of to `add`, without the places.
    pub(super) fn each(&self, add: &mut dyn FnMut(&dyn fmt::Debug)) {
        match &self.value {
            RawValue::List(elements) => {
                add(&("list", elements.len()));
                elements.iter().for_each(|element| element.each(add));
            }
            RawValue::Map(pairs) => {
                add(&("map", pairs.len()));
                for (key, value) in pairs {
                    key.each(add);
                    value.each(add);
                }
            }
            plain => add(plain),
        }
    }

    /// Copies a value out of a TOML document.
    pub(super) fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let copied = match value.get_ref() {
            DeValue::String(text) => RawValue::Text(text.clone().into_owned()),
            DeValue::Integer(number) => RawValue::Integer(saturated(number)),
            DeValue::Float(number) => RawValue::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => RawValue::Boolean(*value),
            DeValue::Datetime(date) => RawValue::Date(date.to_string()),
            DeValue::Array(elements) => {
                RawValue::List(elements.iter().map(Self::from_toml).collect())
            }
            DeValue::Table(table) => {
                let pair =
                    |(key, value): (&Spanned<_>, &_)| (Self::text_at(key), Self::from_toml(value));
                RawValue::Map(table.iter().map(pair).collect())
            }
        };
        Self {
            value: copied,
            span: value.span(),
        }
    }

    fn text_at(key: &Spanned<toml::de::DeString<'_>>) -> Self {
        Self {
            value: RawValue::Text(key.get_ref().clone().into_owned()),
            span: key.span(),
        }
    }
}

fn saturated(number: &DeInteger<'_>) -> i128 {
    let digits = number.as_str();
    i128::from_str_radix(digits, number.radix()).unwrap_or(if digits.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    })
}

/// The name of an option, as it was written, and its value.
#[derive(Clone, Debug)]
pub(super) struct RawOption {
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    pub(super) value: Raw,
}

/// The options of one file and what is wrong with its syntax.
#[derive(Debug, Default)]
pub(super) struct RawFile {
    pub(super) options: Vec<RawOption>,
    pub(super) faults: SyntaxFaults,
    pub(super) warnings: Vec<Diagnostic>,
}

/// What is wrong with the syntax of a file.
#[derive(Debug, Default)]
pub(super) struct SyntaxFaults {
    pub(super) errors: Vec<Diagnostic>,
    /// How far the file could be read before the first error; `None` when it is all right, apart from names that are
    /// given twice.
    pub(super) reached: Option<usize>,
    /// The lines that could not be read.
    pub(super) broken_lines: Vec<usize>,
    /// From this line on one thing may have been taken for another, so that what is found there may not be real.
    pub(super) lost_at_line: Option<usize>,
    /// Whether something that stands in the file may not have been read.
    pub(super) incomplete: bool,
}

impl SyntaxFaults {
    /// Notes that nothing from `line` on can be trusted.
    pub(super) fn lose(&mut self, line: usize) {
        self.lost_at_line = Some(self.lost_at_line.map_or(line, |lost| lost.min(line)));
        self.incomplete = true;
    }

    /// Says whether what was found at `diagnostic`'s place is surely no consequence of these faults.
    pub(super) fn allow(&self, diagnostic: &Diagnostic) -> bool {
        diagnostic.line.map_or(!self.incomplete, |line| {
            self.lost_at_line.is_none_or(|lost| line < lost) && !self.broken_lines.contains(&line)
        })
    }
}
