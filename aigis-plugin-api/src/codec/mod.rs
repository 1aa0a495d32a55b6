//! The wire format of arguments and results, and values without a type.
//!
//! Start at [`to_vec`] and [`from_slice`]; [`Value`] holds anything that the format can say and reads and writes JSON.
//!
//! # The format
//!
//! [MessagePack](https://msgpack.org), self-describing, with these conventions:
//!
//! | data | encoded as |
//! |---|---|
//! | integer | the shortest form; a reader takes every width whose value fits |
//! | `f32`, `f64` | float32, float64, every bit kept; a reader also takes an integer that the float can hold exactly |
//! | string, `char` | str |
//! | bytes; a non-empty sequence or tuple of nothing but `u8` | bin |
//! | 32 or more numbers of one type, of 16 to 64 bits, that are no tuple | extension 4 |
//! | other sequences, tuples, tuple structs | array |
//! | map | map; keys may be anything |
//! | struct | map by field name; read from an array by position too |
//! | unit, unit struct | nil |
//! | newtype struct | what it holds |
//! | enum | a unit variant is its name, any other a map with one entry, `{name: content}` |
//! | `None` | nil |
//! | `Some(x)` | `x`; in extension 1 if `x` itself is nil or extension 1 |
//! | integer beyond 64 bits | extension 2 (signed) or 3 (unsigned), 16 bytes, little-endian |
//!
//! A type is written in its human-readable form (an IP address is text), so that callers without types can give it.
//!
//! Extension types 1 to 31 belong to the format, all others are free for values without a type. Extension 4 is a
//! numeric array: one byte that names the kind (1 `i16`, 2 `u16`, 3 `i32`, 4 `u32`, 5 `i64`, 6 `u64`, 7 `f32`,
//! 8 `f64`), then the elements, little-endian. A sequence of 32 or more elements, all of one of these types, is written
//! so; it is read wherever a sequence is expected, also into elements of another type that can hold them.
//!
//! # Limits
//!
//! At most [`MAX_DEPTH`] arrays, maps and extensions inside one another, in both directions. Every length is compared
//! with what is left of the input before anything is allocated, so a short input cannot claim much memory.
//!
//! # What serde itself limits
//!
//! Inside an untagged or internally tagged enum, or a flattened field, serde keeps content in a form of its own: there
//! integers beyond 64 bits are refused, bytes cannot be borrowed, and a [`Value`] sees bytes as a list of integers.

mod base64;
mod bits;
mod compound;
mod de;
mod error;
mod json;
mod json_read;
mod packed;
mod read;
mod scalar;
mod ser;
mod value;
mod value_serde;
mod wire;

#[cfg(test)]
mod tests;

pub use compound::{MapEncoder, SeqEncoder};
pub use error::{Error, ErrorKind};
pub use json::JsonError;
pub(crate) use packed::{Announced, large_bytes};
#[doc(hidden)]
pub use packed::{Items, Whole};
pub use read::Decoder;
pub use ser::Encoder;
pub use value::{Integer, Value};
pub use wire::MAX_DEPTH;

use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;

/// How many bytes are allocated for a value before its length is known. Most arguments and results
/// are no longer; a vector that starts with nothing is moved five times until it has room for as many.
const FIRST_BYTES: usize = 256;

/// Encodes a value.
///
/// # Errors
/// The value cannot be encoded: its `Serialize` refuses, it is nested too deeply, or a part is too long.
///
/// ```
/// # use aigis_plugin_api::codec;
/// let bytes = codec::to_vec(&("zaltu", Some(7)))?;
/// assert_eq!(bytes, b"\x92\xa5zaltu\x07");
/// # Ok::<(), codec::Error>(())
/// ```
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(FIRST_BYTES);
    to_writer(&mut bytes, value)?;
    Ok(bytes)
}

/// Encodes a value that is of no further use: large bytes stay in their memory.
pub(crate) fn into_vec<T: Serialize + 'static>(value: T) -> Result<Vec<u8>, Error> {
    match packed::bytes_of(value) {
        Ok(bytes) => packed::into_bin(bytes),
        Err(value) => to_vec(&value),
    }
}

/// Decodes a value that fills `bytes` exactly: large bytes stay in their memory.
pub(crate) fn from_vec<T: DeserializeOwned + 'static>(bytes: Vec<u8>) -> Result<T, Error> {
    match packed::out_of_bin(bytes) {
        Ok(value) => Ok(value),
        Err(bytes) => from_slice(&bytes).map(|Whole(value)| value),
    }
}

/// Encodes a value behind what `bytes` already holds.
///
/// # Errors
/// As [`to_vec`]; `bytes` is then as it was.
pub fn to_writer<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    let start = bytes.len();
    let result = value.serialize(&mut Encoder::new(bytes));
    if result.is_err() {
        bytes.truncate(start);
    }
    result
}

/// Decodes a value that fills `bytes` exactly; strings and bytes can be borrowed from there.
///
/// # Errors
/// The bytes are not one well-formed value, or not one of type `T`. The error says where.
///
/// ```
/// # use aigis_plugin_api::codec;
/// let (name, count): (&str, Option<u8>) = codec::from_slice(b"\x92\xa5zaltu\x07")?;
/// assert_eq!((name, count), ("zaltu", Some(7)));
/// # Ok::<(), codec::Error>(())
/// ```
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// Turns a typed value into one without a type.
///
/// # Errors
/// As [`to_vec`].
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Error> {
    from_slice(&to_vec(value)?)
}

/// Turns a value without a type into a typed one.
///
/// # Errors
/// The value has not the form of a `T`.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    from_slice(&to_vec(&value)?)
}
