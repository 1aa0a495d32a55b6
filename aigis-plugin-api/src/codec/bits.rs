//! Numbers as their bits, whatever their type.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, Serializer};

/// Returns the bits of a number, whatever its type.
#[inline]
pub(super) fn bits(number: &(impl Serialize + ?Sized)) -> u64 {
    // Every type that `Of` names shows itself as a number.
    number.serialize(Bits).unwrap_or_default()
}

/// Takes one number and refuses everything else.
struct Bits;

/// What is no number.
#[derive(Debug)]
struct NoNumber;

impl fmt::Display for NoNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a number")
    }
}

impl std::error::Error for NoNumber {}

impl ser::Error for NoNumber {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! take {
    ($($method:ident($value:ident: $type:ty) $bits:expr;)*) => {$(
        #[inline]
        fn $method(self, $value: $type) -> Result<u64, NoNumber> {
            Ok($bits)
        }
    )*};
}

macro_rules! refuse {
    ($($method:ident $(<$generic:ident>)? ($($type:ty),*) -> $result:ty;)*) => {$(
        #[inline]
        fn $method $(<$generic: Serialize + ?Sized>)? (self, $(_: $type),*) -> Result<$result, NoNumber> {
            Err(NoNumber)
        }
    )*};
}

impl Serializer for Bits {
    type Ok = u64;
    type Error = NoNumber;
    type SerializeSeq = Impossible<u64, NoNumber>;
    type SerializeTuple = Impossible<u64, NoNumber>;
    type SerializeTupleStruct = Impossible<u64, NoNumber>;
    type SerializeTupleVariant = Impossible<u64, NoNumber>;
    type SerializeMap = Impossible<u64, NoNumber>;
    type SerializeStruct = Impossible<u64, NoNumber>;
    type SerializeStructVariant = Impossible<u64, NoNumber>;

    take! {
        serialize_u8(value: u8) value.into();
        serialize_u16(value: u16) value.into();
        serialize_u32(value: u32) value.into();
        serialize_u64(value: u64) value;
        serialize_i16(value: i16) value as u64;
        serialize_i32(value: i32) value as u64;
        serialize_i64(value: i64) value as u64;
        serialize_f32(value: f32) value.to_bits().into();
        serialize_f64(value: f64) value.to_bits();
    }

    refuse! {
        serialize_bool(bool) -> u64;
        serialize_i8(i8) -> u64;
        serialize_char(char) -> u64;
        serialize_str(&str) -> u64;
        serialize_bytes(&[u8]) -> u64;
        serialize_none() -> u64;
        serialize_some<T>(&T) -> u64;
        serialize_unit() -> u64;
        serialize_unit_struct(&'static str) -> u64;
        serialize_unit_variant(&'static str, u32, &'static str) -> u64;
        serialize_newtype_struct<T>(&'static str, &T) -> u64;
        serialize_newtype_variant<T>(&'static str, u32, &'static str, &T) -> u64;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<u64, NoNumber> {
        Err(NoNumber)
    }
}
