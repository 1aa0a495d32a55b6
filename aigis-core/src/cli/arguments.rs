//! Arguments as people type them, read by the types of a skill's parameters.
//!
//! A text parameter takes the text as it is, numbers, booleans and characters are read strictly, bytes are the text's
//! UTF-8 bytes or `{"$bytes": "<base64>"}`, an enum takes the bare name of a variant without fields, and anything else
//! is JSON with the conventions of [`Value::from_json`]. An `Option` of one of these takes `null`, or what is inside.
//! `name=value` gives the parameter `name`; where no parameter has that name, it is an ordinary text.

use aigis_plugin_api::Value;
use aigis_plugin_api::signature::{Parameter, Shape, Signature};

/// What was given for one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// Text that the parameter's type gives a meaning.
    Text(String),
    /// A value that has a form already.
    Json(Value),
}

/// One argument as it was typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    /// The next parameter's.
    Positional(Given),
    /// The named parameter's.
    Named { name: String, given: Given },
    /// The named parameter's if there is one of this name, otherwise the next one's with the whole text.
    Either {
        whole: String,
        name: String,
        given: Given,
    },
}

impl Argument {
    /// Takes one argument of the command line.
    pub(super) fn of_command_line(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) if is_identifier(name) => Self::Either {
                whole: text.to_owned(),
                name: name.to_owned(),
                given: Given::Text(value.to_owned()),
            },
            _ => Self::Positional(Given::Text(text.to_owned())),
        }
    }
}

/// Says whether `text` can be the name of a parameter.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first == '_' || first.is_alphabetic())
        && characters.all(|c| c == '_' || c.is_alphanumeric())
}

/// Why arguments do not fit a skill's parameters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ArgumentError {
    /// A text cannot be read as the parameter's type.
    #[error("`{parameter}` has the type `{shape}`: expected {expected}, found `{found}`")]
    Unreadable {
        parameter: String,
        shape: String,
        expected: String,
        found: String,
    },
    /// A text that has to be JSON is none.
    #[error("`{parameter}` has the type `{shape}` and is given as JSON: {error}")]
    NotJson {
        parameter: String,
        shape: String,
        error: String,
    },
    /// There are more arguments than parameters.
    #[error("it takes {expected}, found {found}", expected = count(*expected))]
    TooMany { expected: usize, found: usize },
    /// Parameters that need an argument have none.
    #[error("{} missing", missing(names))]
    Missing { names: Vec<String> },
    /// A parameter was given twice.
    #[error("`{name}` is given twice")]
    Twice { name: String },
    /// No parameter has the name.
    #[error("there is no parameter `{name}`")]
    UnknownName { name: String },
    /// An argument by position follows one by name.
    #[error("argument {position} must be given by name too, since one before it is")]
    NotByName { position: usize },
}

fn count(expected: usize) -> String {
    match expected {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

fn missing(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", quoted.join(", "))
}

/// Reads the arguments for a call, one value a parameter.
///
/// With `all_json`, texts are JSON whatever the parameter's type. An `Option` that is not given is `None`.
///
/// # Errors
/// The first argument that does not fit.
pub(super) fn read(
    signature: &Signature,
    arguments: &[Argument],
    all_json: bool,
) -> Result<Vec<Value>, ArgumentError> {
    let parameters = &signature.parameters;
    if arguments.len() > parameters.len() {
        return Err(ArgumentError::TooMany {
            expected: parameters.len(),
            found: arguments.len(),
        });
    }
    let find = |name: &str| parameters.iter().position(|known| known.name == name);
    let mut values: Vec<Option<Value>> = vec![None; parameters.len()];
    let mut by_name = false;
    for (index, argument) in arguments.iter().enumerate() {
        let whole;
        let (place, given) = match argument {
            Argument::Named { name, given } => match find(name) {
                Some(place) => (Some(place), given),
                None => return Err(ArgumentError::UnknownName { name: name.clone() }),
            },
            Argument::Either {
                whole: text,
                name,
                given,
            } => match find(name) {
                Some(place) => (Some(place), given),
                None if by_name => {
                    return Err(ArgumentError::UnknownName { name: name.clone() });
                }
                None => {
                    whole = Given::Text(text.clone());
                    (None, &whole)
                }
            },
            Argument::Positional(given) => (None, given),
        };
        if by_name && place.is_none() {
            return Err(ArgumentError::NotByName {
                position: index + 1,
            });
        }
        by_name |= place.is_some();
        let place = place.unwrap_or(index);
        let parameter = &parameters[place];
        let slot = &mut values[place];
        if slot.is_some() {
            return Err(ArgumentError::Twice {
                name: parameter.name.clone(),
            });
        }
        *slot = Some(read_one(parameter, given, all_json)?);
    }
    let absent: Vec<String> = parameters
        .iter()
        .zip(&values)
        .filter(|(parameter, value)| {
            value.is_none() && !matches!(parameter.shape, Shape::Option(_))
        })
        .map(|(parameter, _)| parameter.name.clone())
        .collect();
    if !absent.is_empty() {
        return Err(ArgumentError::Missing { names: absent });
    }
    Ok(values.into_iter().map(Option::unwrap_or_default).collect())
}

/// Reads the arguments for a skill whose signature is not known: JSON where it is JSON, and text otherwise.
///
/// They are given by name if each has one.
pub(super) fn guess(arguments: &[Argument]) -> Value {
    let value = |given: &Given| match given {
        Given::Text(text) => Value::from_json(text).unwrap_or_else(|_| Value::from(text.as_str())),
        Given::Json(value) => value.clone(),
    };
    let named: Option<Vec<(&str, Value)>> = arguments
        .iter()
        .map(|argument| match argument {
            Argument::Named { name, given } | Argument::Either { name, given, .. } => {
                Some((name.as_str(), value(given)))
            }
            Argument::Positional(_) => None,
        })
        .collect();
    match named {
        Some(named) if !named.is_empty() => named.into_iter().collect(),
        _ => arguments
            .iter()
            .map(|argument| match argument {
                Argument::Positional(given) | Argument::Named { given, .. } => value(given),
                Argument::Either { whole, .. } => Value::from(whole.as_str()),
            })
            .collect(),
    }
}

fn read_one(parameter: &Parameter, given: &Given, all_json: bool) -> Result<Value, ArgumentError> {
    match given {
        Given::Text(text) if all_json => json(parameter, text),
        Given::Text(text) => by_type(parameter, &parameter.shape, text),
        Given::Json(value) => Ok(match (innermost(&parameter.shape), value) {
            // JSON has no bytes of its own: a string stands for its UTF-8 bytes.
            (Shape::Bytes, Value::Text(text)) => Value::Bytes(text.clone().into_bytes()),
            (_, value) => value.clone(),
        }),
    }
}

fn innermost(shape: &Shape) -> &Shape {
    match shape {
        Shape::Option(inner) => inner,
        shape => shape,
    }
}

fn json(parameter: &Parameter, text: &str) -> Result<Value, ArgumentError> {
    Value::from_json(text).map_err(|error| ArgumentError::NotJson {
        parameter: parameter.name.clone(),
        shape: parameter.shape.to_string(),
        error: error.to_string(),
    })
}

fn by_type(parameter: &Parameter, shape: &Shape, text: &str) -> Result<Value, ArgumentError> {
    let unreadable = |expected: &str| ArgumentError::Unreadable {
        parameter: parameter.name.clone(),
        shape: parameter.shape.to_string(),
        expected: expected.to_owned(),
        found: shown(text),
    };
    macro_rules! integer {
        ($type:ty) => {
            text.parse::<$type>().map(Value::from).map_err(|_| {
                unreadable(&format!(
                    "a whole number from {} to {}",
                    <$type>::MIN,
                    <$type>::MAX
                ))
            })
        };
    }
    macro_rules! float {
        ($type:ty) => {
            match text.parse::<$type>() {
                // A number too large becomes infinite; only who writes "inf" means that.
                Ok(value) if value.is_finite() || !text.contains(|c: char| c.is_ascii_digit()) => {
                    Ok(Value::from(value))
                }
                _ => Err(unreadable(concat!(
                    "a number that fits into ",
                    stringify!($type)
                ))),
            }
        };
    }
    match shape {
        Shape::Text => Ok(Value::from(text)),
        Shape::Unit => match text {
            "()" | "null" => Ok(Value::Nil),
            _ => Err(unreadable("`()`")),
        },
        Shape::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(unreadable("`true` or `false`")),
        },
        Shape::Char => {
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) => Ok(Value::from(character)),
                _ => Err(unreadable("one character")),
            }
        }
        Shape::I8 => integer!(i8),
        Shape::I16 => integer!(i16),
        Shape::I32 => integer!(i32),
        Shape::I64 => integer!(i64),
        Shape::I128 => integer!(i128),
        Shape::U8 => integer!(u8),
        Shape::U16 => integer!(u16),
        Shape::U32 => integer!(u32),
        Shape::U64 => integer!(u64),
        Shape::U128 => integer!(u128),
        // The core decides how large these are; as 64 bits they travel in any case.
        Shape::Isize => integer!(i64),
        Shape::Usize => integer!(u64),
        Shape::F32 => float!(f32),
        Shape::F64 => float!(f64),
        Shape::Bytes if !text.trim_start().starts_with("{\"$bytes\"") => {
            Ok(Value::from(text.as_bytes()))
        }
        Shape::Option(inner) => match (&**inner, text) {
            // Which of the two is missing can be told in JSON alone.
            (Shape::Option(_) | Shape::Unit, _) => json(parameter, text),
            (_, "null") => Ok(Value::Nil),
            (inner, text) => by_type(parameter, inner, text),
        },
        Shape::Enum(shape)
            if shape
                .variants
                .iter()
                .any(|variant| variant.fields.is_empty() && variant.name == text) =>
        {
            Ok(Value::from(text))
        }
        _ => json(parameter, text),
    }
}

/// Returns what was typed, cut when it is long and harmless on a terminal.
fn shown(text: &str) -> String {
    const MAX: usize = 60;
    let mut shown: String = text.chars().take(MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
        .chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}
