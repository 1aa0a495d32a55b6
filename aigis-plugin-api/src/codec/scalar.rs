//! Single numbers, and sequences of them that are packed: bytes and numeric arrays.

use std::slice;

use serde::de::{DeserializeSeed, Deserializer, Expected, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::{Error, ErrorKind, elements};
use super::value::Integer;

/// A number that was read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar {
    /// An item of a byte sequence.
    Byte(u8),
    Unsigned(u64),
    Signed(i64),
    /// An integer that has more than 64 bits.
    Wide(Integer),
    F32(f32),
    F64(f64),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Byte(value) => write!(f, "integer {value}"),
            Self::Unsigned(value) => write!(f, "integer {value}"),
            Self::Signed(value) => write!(f, "integer {value}"),
            Self::Wide(value) => write!(f, "integer {value}"),
            Self::F32(value) => write!(f, "float {value:?}"),
            Self::F64(value) => write!(f, "float {value:?}"),
        }
    }
}

impl Scalar {
    pub(super) fn integer(self) -> Option<Integer> {
        match self {
            Self::Byte(value) => Some(value.into()),
            Self::Unsigned(value) => Some(value.into()),
            Self::Signed(value) => Some(value.into()),
            Self::Wide(value) => Some(value),
            Self::F32(_) | Self::F64(_) => None,
        }
    }

    /// Shows the visitor an integer of at most 64 bits.
    #[inline]
    fn narrow<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Byte(value) => visitor.visit_u8(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Wide(_) | Self::F32(_) | Self::F64(_) => Err(self.refused(&visitor)),
        }
    }

    #[cold]
    fn refused(self, expected: &dyn Expected) -> Error {
        match self {
            Self::F32(_) | Self::F64(_) => Error::mismatch(expected, self.to_string()),
            _ => Error::out_of_range(expected, self.to_string()),
        }
    }

    /// Returns an integer as a float whose mantissa has `digits` bits, if that holds it exactly.
    fn exact(self, digits: u32, expected: &dyn Expected) -> Result<f64, Error> {
        self.integer()
            .and_then(|value| value.to_float(digits))
            .ok_or_else(|| self.refused(expected))
    }
}

macro_rules! narrow {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.narrow(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Scalar {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Byte(value) => visitor.visit_u8(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Wide(value) => match value.as_i128() {
                Some(value) => visitor.visit_i128(value),
                None => self.deserialize_u128(visitor),
            },
            Self::F32(value) => visitor.visit_f32(value),
            Self::F64(value) => visitor.visit_f64(value),
        }
    }

    narrow! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Wide(value) => match value.as_i128() {
                Some(value) => visitor.visit_i128(value),
                None => self.narrow(visitor),
            },
            _ => self.narrow(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Wide(value) => match value.as_u128() {
                Some(value) => visitor.visit_u128(value),
                None => self.narrow(visitor),
            },
            _ => self.narrow(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::F32(value) => visitor.visit_f32(value),
            Self::F64(value) if value.is_finite() && (value as f32).is_infinite() => {
                Err(Error::out_of_range(&visitor, self.to_string()))
            }
            Self::F64(value) => visitor.visit_f64(value),
            _ => {
                let value = self.exact(f32::MANTISSA_DIGITS, &visitor)?;
                visitor.visit_f64(value)
            }
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::F64(value) => visitor.visit_f64(value),
            Self::F32(value) => visitor.visit_f32(value),
            _ => {
                let value = self.exact(f64::MANTISSA_DIGITS, &visitor)?;
                visitor.visit_f64(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// Shows a packed sequence to a visitor, and makes sure that it took all of it.
pub(super) fn visit_items<'de, V, I>(items: I, visitor: V) -> Result<V::Value, Error>
where
    V: Visitor<'de>,
    I: ExactSizeIterator<Item = Scalar>,
{
    let total = items.len();
    let mut access = Items { items, index: 0 };
    let value = visitor.visit_seq(&mut access)?;
    all_taken(access.index, total)?;
    Ok(value)
}

/// Makes sure that a visitor took all elements of a sequence.
pub(super) fn all_taken(taken: usize, total: usize) -> Result<(), Error> {
    if taken == total {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unexpected {
        expected: elements(taken),
        found: elements(total),
    }))
}

struct Items<I> {
    items: I,
    index: usize,
}

impl<'de, I: ExactSizeIterator<Item = Scalar>> SeqAccess<'de> for Items<I> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        match seed.deserialize(item) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.inside_element(index)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// Returns the items of a byte sequence.
pub(super) fn bytes(bytes: &[u8]) -> impl ExactSizeIterator<Item = Scalar> {
    bytes.iter().map(|byte| Scalar::Byte(*byte))
}

/// The elements of a numeric array (extension 4).
pub(super) struct Numbers<'de> {
    chunks: slice::ChunksExact<'de, u8>,
    read: fn(&[u8]) -> Scalar,
    elements: &'de [u8],
}

impl<'de> Numbers<'de> {
    /// Returns the elements that `payload` holds, which starts at byte `offset` of the input.
    pub(super) fn new(payload: &'de [u8], offset: usize) -> Result<Self, Error> {
        let malformed = |message: &str| {
            Error::new(ErrorKind::Malformed {
                offset,
                message: message.to_owned(),
            })
        };
        let Some((kind, elements)) = payload.split_first() else {
            return Err(malformed("a numeric array without its kind"));
        };
        let (width, read): (usize, fn(&[u8]) -> Scalar) = match kind {
            1 => (2, |bytes| {
                Scalar::Signed(i16::from_le_bytes(array(bytes)).into())
            }),
            2 => (2, |bytes| {
                Scalar::Unsigned(u16::from_le_bytes(array(bytes)).into())
            }),
            3 => (4, |bytes| {
                Scalar::Signed(i32::from_le_bytes(array(bytes)).into())
            }),
            4 => (4, |bytes| {
                Scalar::Unsigned(u32::from_le_bytes(array(bytes)).into())
            }),
            5 => (8, |bytes| Scalar::Signed(i64::from_le_bytes(array(bytes)))),
            6 => (8, |bytes| {
                Scalar::Unsigned(u64::from_le_bytes(array(bytes)))
            }),
            7 => (4, |bytes| Scalar::F32(f32::from_le_bytes(array(bytes)))),
            8 => (8, |bytes| Scalar::F64(f64::from_le_bytes(array(bytes)))),
            _ => return Err(malformed("a numeric array of an unknown kind")),
        };
        if !elements.len().is_multiple_of(width) {
            return Err(malformed("a numeric array whose last element is cut off"));
        }
        Ok(Self {
            chunks: elements.chunks_exact(width),
            read,
            elements,
        })
    }

    /// Returns the bytes of all elements.
    pub(super) fn as_bytes(&self) -> &'de [u8] {
        self.elements
    }
}

/// Returns the bytes of one element; the chunks have exactly its width.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

impl Iterator for Numbers<'_> {
    type Item = Scalar;

    fn next(&mut self) -> Option<Scalar> {
        self.chunks.next().map(self.read)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl ExactSizeIterator for Numbers<'_> {}
