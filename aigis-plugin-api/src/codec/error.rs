//! What can go wrong, and where in the data.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::read::{Decoder, Token};
use super::wire::MAX_DEPTH;

/// How many characters of a name from the input are shown.
const NAME_LIMIT: usize = 64;

/// How many steps of a path are shown.
const PATH_LIMIT: usize = 24;

/// Why a value could not be encoded or decoded.
///
/// Its text begins with the place of the mistake, as in `items[3].name: expected a string, found integer 7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Located>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Located {
    kind: ErrorKind,
    /// From the mistake outwards.
    path: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The value's own `Serialize`, or this format, refuses it.
    Unserializable {
        /// The reason.
        message: String,
    },
    /// The type's own `Deserialize` refuses the data.
    Invalid {
        /// The reason.
        message: String,
    },
    /// A field is not there.
    Missing {
        /// The field's name.
        field: String,
    },
    /// The data is of another kind than the type.
    Unexpected {
        /// What the type can take.
        expected: String,
        /// What the data is.
        found: String,
    },
    /// A number or a length does not fit.
    OutOfRange {
        /// What would fit.
        expected: String,
        /// The number.
        found: String,
    },
    /// The input ends in the middle of a value.
    Truncated {
        /// Where in the input the missing part begins.
        offset: usize,
        /// What should be there.
        expected: String,
    },
    /// The input goes on behind the value.
    Trailing {
        /// Where in the input the value ends.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// Too many arrays, maps and extensions are inside one another.
    Depth,
    /// A string is not UTF-8.
    Utf8 {
        /// Where in the input the first wrong byte is.
        offset: usize,
    },
    /// The input is not MessagePack, or an extension does not hold what its type says.
    Malformed {
        /// Where in the input the mistake is.
        offset: usize,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    #[cold]
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Located {
            kind,
            path: Vec::new(),
        }))
    }

    /// The data is another kind of thing than what `expected` says.
    #[cold]
    pub(super) fn mismatch(expected: &dyn Expected, found: String) -> Self {
        Self::new(ErrorKind::Unexpected {
            expected: expected.to_string(),
            found,
        })
    }

    /// The data is a number that does not fit.
    #[cold]
    pub(super) fn out_of_range(expected: &dyn Expected, found: String) -> Self {
        Self::new(ErrorKind::OutOfRange {
            expected: expected.to_string(),
            found,
        })
    }

    /// Says that the mistake is inside an element of a sequence.
    #[cold]
    pub(super) fn inside_element(mut self, index: usize) -> Self {
        self.0.path.push(Step::Index(index));
        self
    }

    /// Says that the mistake is inside a field.
    #[cold]
    pub(super) fn inside_field(mut self, name: &str) -> Self {
        self.0.path.push(Step::Name(shortened(name)));
        self
    }

    /// Says that the mistake is inside the value of a map whose encoded key is at the start of `key`.
    #[cold]
    pub(super) fn inside_value(self, key: &[u8]) -> Self {
        match Decoder::new(key).token() {
            Ok(Token::Str(name)) => self.inside_field(name),
            Ok(Token::Number(number)) => match number.integer() {
                Some(key) => self.inside_field(&key.to_string()),
                None => self.inside_field(&number.to_string()),
            },
            Ok(other) => self.inside_field(&other.to_string()),
            Err(_) => self.inside_field("?"),
        }
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns where in the data it went wrong, as in `items[3].name`; empty for the value as a whole.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for (depth, step) in self.0.path.iter().rev().enumerate() {
            match step {
                _ if depth == PATH_LIMIT => {
                    path.push('…');
                    break;
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Name(name) if is_plain(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Name(name) => path.push_str(&format!("[{name:?}]")),
            }
        }
        path
    }
}

/// Says whether a name can stand in a path without quotes.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'))
}

/// Returns a name from the input, which can be of any length, in a length that can be shown.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_LIMIT) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        self.0.kind.fmt(f)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unserializable { message } | Self::Invalid { message } => f.write_str(message),
            Self::Missing { field } => write!(f, "missing field `{field}`"),
            Self::Unexpected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::OutOfRange { expected, found } => {
                write!(f, "{found} is out of range, expected {expected}")
            }
            Self::Truncated { offset, expected } => {
                write!(
                    f,
                    "the input is cut off at byte {offset}, expected {expected}"
                )
            }
            Self::Trailing { offset, count: 1 } => {
                write!(
                    f,
                    "the value ends at byte {offset}, but 1 more byte follows"
                )
            }
            Self::Trailing { offset, count } => {
                write!(
                    f,
                    "the value ends at byte {offset}, but {count} more bytes follow"
                )
            }
            Self::Depth => write!(
                f,
                "more than {MAX_DEPTH} lists, maps and extensions are inside one another"
            ),
            Self::Utf8 { offset } => write!(
                f,
                "expected a string in UTF-8, found other bytes at byte {offset}"
            ),
            Self::Malformed { offset, message } => {
                write!(f, "malformed input at byte {offset}: {message}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(ErrorKind::Unserializable {
            message: message.to_string(),
        })
    }
}

impl serde::de::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(ErrorKind::Invalid {
            message: message.to_string(),
        })
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(expected, describe(&found))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => {
                Self::out_of_range(expected, describe(&found))
            }
            _ => Self::mismatch(expected, describe(&found)),
        }
    }

    #[cold]
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::mismatch(expected, elements(length))
    }

    #[cold]
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(ErrorKind::Unexpected {
            expected: one_of("variant", expected),
            found: format!("`{}`", shortened(variant)),
        })
    }

    #[cold]
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(ErrorKind::Unexpected {
            expected: one_of("field", expected),
            found: format!("`{}`", shortened(field)),
        })
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Self::new(ErrorKind::Missing {
            field: field.to_owned(),
        })
    }
}

/// Returns a number of elements in words.
pub(super) fn elements(count: usize) -> String {
    match count {
        1 => "1 element".to_owned(),
        _ => format!("{count} elements"),
    }
}

fn one_of(what: &str, names: &[&str]) -> String {
    match names {
        [] => format!("no {what}"),
        [only] => format!("{what} `{only}`"),
        _ => format!("one of `{}`", names.join("`, `")),
    }
}

/// Says what the data is. Text and bytes are not shown: errors are logged, and these may be secrets.
fn describe(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("boolean {value}"),
        Unexpected::Unsigned(value) => format!("integer {value}"),
        Unexpected::Signed(value) => format!("integer {value}"),
        Unexpected::Float(value) => format!("float {value:?}"),
        Unexpected::Char(_) => "character".to_owned(),
        Unexpected::Str(_) => "string".to_owned(),
        Unexpected::Bytes(_) => "bytes".to_owned(),
        Unexpected::Unit => "nil".to_owned(),
        Unexpected::Option => "optional value".to_owned(),
        Unexpected::Seq => "list".to_owned(),
        Unexpected::Map => "map".to_owned(),
        other => other.to_string(),
    }
}
