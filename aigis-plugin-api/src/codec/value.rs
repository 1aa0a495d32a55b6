//! A value without a type.

use std::cmp::Ordering;
use std::fmt;

/// Anything that the wire format can say.
///
/// Its text form is compact JSON (see [`Value::to_json`]).
///
/// ```
/// # use aigis_plugin_api::codec::Value;
/// let value = Value::from_iter([("name", Value::from("zaltu")), ("count", Value::from(3))]);
/// assert_eq!(value.get("count").and_then(Value::as_i64), Some(3));
/// assert_eq!(value.to_string(), r#"{"name":"zaltu","count":3}"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// Nothing: `None`, `()`.
    #[default]
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer of up to 128 bits.
    Int(Integer),
    /// A floating point number.
    Float(f64),
    /// A string.
    Text(String),
    /// A byte sequence.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<Value>),
    /// Entries in the order of the data; keys may be anything, and nothing keeps them from occurring twice.
    Map(Vec<(Value, Value)>),
    /// `Some` of something that looks like `None` or `Some` itself; any other `Some(x)` is just `x`.
    Some(Box<Value>),
    /// An extension of the given type. Types 1 to 3 stand for other variants and cannot be encoded like this.
    Ext(i8, Vec<u8>),
}

impl Value {
    /// Says whether this is nil.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// Returns the boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the integer.
    pub fn as_integer(&self) -> Option<Integer> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the integer, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_integer()?.as_i64()
    }

    /// Returns the integer, if it fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_integer()?.as_u64()
    }

    /// Returns the number, if a float holds it exactly.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => value.to_float(f64::MANTISSA_DIGITS),
            _ => None,
        }
    }

    /// Returns the string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the byte sequence.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the elements of the list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the entries of the map.
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Map(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the value of the first entry with this key, if this is a map that has one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?
            .iter()
            .find_map(|(name, value)| (name.as_str() == Some(key)).then_some(value))
    }

    /// Returns an element, if this is a list that is long enough.
    pub fn at(&self, index: usize) -> Option<&Value> {
        self.as_list()?.get(index)
    }

    /// Returns `Some(inner)` in the form in which it is told apart from `None`.
    pub(super) fn some(inner: Value) -> Value {
        match inner {
            Self::Nil | Self::Some(_) => Self::Some(Box::new(inner)),
            other => other,
        }
    }
}

impl fmt::Display for Value {
    /// Writes compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Nil
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Integer> for Value {
    fn from(value: Integer) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<char> for Value {
    fn from(value: char) -> Self {
        Self::Text(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::List(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, |value| Self::some(value.into()))
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

impl<K: Into<Value>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

/// An integer from `i128::MIN` to `u128::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Integer {
    negative: bool,
    /// The high and low half of the two's complement; not a `u128`, whose alignment would make every value larger.
    halves: [u64; 2],
}

impl Integer {
    fn new(negative: bool, bits: u128) -> Self {
        Self {
            negative,
            halves: [(bits >> 64) as u64, bits as u64],
        }
    }

    fn bits(self) -> u128 {
        u128::from(self.halves[0]) << 64 | u128::from(self.halves[1])
    }

    /// Returns the value, if it fits.
    pub fn as_i128(self) -> Option<i128> {
        let bits = self.bits() as i128;
        ((bits < 0) == self.negative).then_some(bits)
    }

    /// Returns the value, if it fits.
    pub fn as_u128(self) -> Option<u128> {
        (!self.negative).then_some(self.bits())
    }

    /// Returns the value, if it fits.
    pub fn as_i64(self) -> Option<i64> {
        self.as_i128()?.try_into().ok()
    }

    /// Returns the value, if it fits.
    pub fn as_u64(self) -> Option<u64> {
        self.as_u128()?.try_into().ok()
    }

    /// Returns the value as a float, if a mantissa of `digits` bits holds it exactly.
    pub(super) fn to_float(self, digits: u32) -> Option<f64> {
        let magnitude = if self.negative {
            self.bits().wrapping_neg()
        } else {
            self.bits()
        };
        if magnitude == 0 {
            return Some(0.0);
        }
        let significant = u128::BITS - magnitude.leading_zeros() - magnitude.trailing_zeros();
        let float = magnitude as f64;
        (significant <= digits).then_some(if self.negative { -float } else { float })
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.negative {
            true => (self.bits() as i128).fmt(f),
            false => self.bits().fmt(f),
        }
    }
}

impl fmt::Debug for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        // Two's complement of one sign is in the order of the numbers.
        other
            .negative
            .cmp(&self.negative)
            .then(self.bits().cmp(&other.bits()))
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! from_integers {
    ($($unsigned:ident $signed:ident),*) => {$(
        impl From<$unsigned> for Integer {
            fn from(value: $unsigned) -> Self {
                Self::new(false, value as u128)
            }
        }

        impl From<$signed> for Integer {
            fn from(value: $signed) -> Self {
                Self::new(value < 0, value as i128 as u128)
            }
        }

        impl From<$unsigned> for Value {
            fn from(value: $unsigned) -> Self {
                Self::Int(value.into())
            }
        }

        impl From<$signed> for Value {
            fn from(value: $signed) -> Self {
                Self::Int(value.into())
            }
        }
    )*};
}

from_integers!(u8 i8, u16 i16, u32 i32, u64 i64, u128 i128, usize isize);
