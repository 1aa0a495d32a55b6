//! Sequences of bytes and numbers in one piece: written and read with one pass over memory.
//!
//! serde shows a `Vec<u8>` as a sequence like any other, one element after the other. A writer learns from the name of
//! the elements' type that all of them are bytes or numbers of one kind. A reader cannot know what serde puts the
//! elements into; so whoever knows the type asks for it with [`Whole`] and [`Items`], which say so to the decoder by the
//! names `wire::BYTES` and `wire::NUMBERS_OF`.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::bits::bits;
use super::error::Error;
use super::ser::Encoder;
use super::wire;

/// From so many elements on a sequence of numbers is written as a numeric array. Few small integers take less space as a
/// list.
const NUMBERS_FROM: usize = 32;

/// How many bytes are allocated for a sequence that says how long it is, but may be wrong.
const FIRST_BYTES: usize = 1 << 30;

/// A sort of number that a numeric array can hold, or a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Byte,
    /// The kind that stands in front of the elements, and the size of each.
    Number(u8, usize),
}

impl Of {
    /// Returns what the elements of a sequence are, where its iterator gives `T`.
    #[inline]
    fn items<T>() -> Option<Self> {
        let name = type_name::<T>();
        Some(match name.strip_prefix('&').unwrap_or(name) {
            "u8" => Self::Byte,
            "i16" => Self::Number(1, 2),
            "u16" => Self::Number(2, 2),
            "i32" => Self::Number(3, 4),
            "u32" => Self::Number(4, 4),
            "i64" => Self::Number(5, 8),
            "u64" => Self::Number(6, 8),
            "f32" => Self::Number(7, 4),
            "f64" => Self::Number(8, 8),
            _ => return None,
        })
    }
}

/// Writes a sequence in one piece if it is one of bytes or numbers; else gives it back.
#[inline]
pub(super) fn write<I>(encoder: &mut Encoder<'_>, items: I) -> Result<Option<I>, Error>
where
    I: Iterator<Item: Serialize>,
{
    let Some(of) = Of::items::<I::Item>() else {
        return Ok(Some(items));
    };
    let (len, Some(most)) = items.size_hint() else {
        return Ok(Some(items));
    };
    let few = matches!(of, Of::Number(..)) && len < NUMBERS_FROM;
    if len != most || len == 0 || few {
        return Ok(Some(items));
    }
    encoder.enter()?;
    let start = encoder.out.len();
    header(encoder.out, of, len)?;
    let body = encoder.out.len();
    match of {
        Of::Byte => {
            encoder.out.reserve(len.min(FIRST_BYTES));
            encoder.out.extend(items.map(|item| bits(&item) as u8));
        }
        Of::Number(_, 2) => put(encoder.out, len, items, |bits| (bits as u16).to_le_bytes()),
        Of::Number(_, 4) => put(encoder.out, len, items, |bits| (bits as u32).to_le_bytes()),
        Of::Number(..) => put(encoder.out, len, items, u64::to_le_bytes),
    }
    let width = match of {
        Of::Byte => 1,
        Of::Number(_, width) => width,
    };
    let count = (encoder.out.len() - body) / width;
    if count != len {
        // The iterator has said something wrong.
        let mut right = Vec::with_capacity(8);
        header(&mut right, of, count)?;
        encoder.out.splice(start..body, right);
    }
    encoder.depth -= 1;
    Ok(None)
}

fn header(out: &mut Vec<u8>, of: Of, len: usize) -> Result<(), Error> {
    match of {
        Of::Byte => wire::write_bin_header(out, len),
        Of::Number(kind, width) => {
            let size = len.saturating_mul(width).saturating_add(1);
            wire::write_ext_header(out, wire::NUMBERS, size)?;
            out.push(kind);
            Ok(())
        }
    }
}

/// Puts numbers behind one another; `len` is how many there should be.
#[inline]
fn put<const N: usize>(
    out: &mut Vec<u8>,
    len: usize,
    mut items: impl Iterator<Item: Serialize>,
    bytes: impl Fn(u64) -> [u8; N],
) {
    let start = out.len();
    out.resize(start + len * N, 0);
    let (places, _) = out[start..].as_chunks_mut::<N>();
    let mut count = 0;
    // No `zip` with `items` by value: what comes after them has to be seen.
    for (place, item) in places.iter_mut().zip(items.by_ref()) {
        *place = bytes(bits(&item));
        count += 1;
    }
    out.truncate(start + count * N);
    for item in items {
        out.extend_from_slice(&bytes(bits(&item)));
    }
}

/// A type of elements that a decoder can copy in one piece.
trait Item: Copy + for<'de> Deserialize<'de> + 'static {
    /// What a numeric array of them starts with; none for bytes.
    const KIND: Option<u8>;

    /// Reads all elements; `bytes` has whole ones only.
    fn all(bytes: &[u8]) -> Vec<Self>;
}

impl Item for u8 {
    const KIND: Option<u8> = None;

    fn all(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }
}

macro_rules! items {
    ($($type:ident $kind:literal)*) => {$(
        impl Item for $type {
            const KIND: Option<u8> = Some($kind);

            fn all(bytes: &[u8]) -> Vec<Self> {
                let (chunks, _) = bytes.as_chunks();
                chunks.iter().map(|chunk| Self::from_le_bytes(*chunk)).collect()
            }
        }
    )*};
}

items! { i16 1 u16 2 i32 3 u32 4 i64 5 u64 6 f32 7 f64 8 }

/// Reads a vector in one piece if it is written so, else element by element.
struct Pieces<T>(PhantomData<T>);

impl<'de, T: Item> Visitor<'de> for Pieces<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
        Ok(T::all(bytes))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, other: D) -> Result<Vec<T>, D::Error> {
        Vec::deserialize(other)
    }
}

fn read<'de, T: Item, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let name = wire::pieces(T::KIND);
    deserializer.deserialize_newtype_struct(name, Pieces(PhantomData))
}

/// A value of any type, which is read in one piece where it is a vector of bytes or numbers.
#[doc(hidden)]
pub struct Whole<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + 'static> Deserialize<'de> for Whole<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        macro_rules! vectors {
            ($($item:ident)*) => {$(
                if is::<T, Vec<$item>>() {
                    return made(read::<$item, D>(deserializer)?);
                }
                if is::<T, Option<Vec<$item>>>() {
                    let read = Option::<Whole<Vec<$item>>>::deserialize(deserializer)?;
                    return made(read.map(|Whole(value)| value));
                }
                if is::<T, Box<[$item]>>() {
                    return made(read::<$item, D>(deserializer)?.into_boxed_slice());
                }
            )*};
        }
        vectors! { u8 i16 u16 i32 u32 i64 u64 f32 f64 }
        T::deserialize(deserializer).map(Self)
    }
}

fn is<T: 'static, U: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// Returns a value as what it is known to be.
fn made<T: 'static, U: 'static, E: de::Error>(value: U) -> Result<Whole<T>, E> {
    let mut value = Some(value);
    let place = (&mut value as &mut dyn Any).downcast_mut::<Option<T>>();
    let value = place.and_then(Option::take);
    value
        .map(Whole)
        .ok_or_else(|| E::custom("a vector is of another type than it is"))
}

/// From this size on bytes are moved within their memory to make room for what stands before them. To make new memory of
/// such a size takes longer.
const IN_PLACE: usize = 64 << 10;

/// Returns a value as the large bytes that it is, or as it is.
pub(super) fn bytes_of<T: 'static>(value: T) -> Result<Vec<u8>, T> {
    let mut value = Some(value);
    let place = (&mut value as &mut dyn Any).downcast_mut::<Option<Vec<u8>>>();
    let large = place.and_then(|place| place.take_if(|bytes| bytes.len() >= IN_PLACE));
    match (large, value) {
        (_, Some(value)) => Err(value),
        (bytes, None) => Ok(bytes.unwrap_or_default()),
    }
}

/// Puts the header of a byte sequence before one that is not empty.
pub(super) fn into_bin(mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut header = Vec::with_capacity(5);
    wire::write_bin_header(&mut header, bytes.len())?;
    bytes.reserve_exact(header.len());
    bytes.splice(..0, header);
    Ok(bytes)
}

/// Returns the bytes that an encoded byte sequence holds, if it is a large one and this is what `T` is.
pub(super) fn out_of_bin<T: 'static>(mut bytes: Vec<u8>) -> Result<T, Vec<u8>> {
    if !is::<T, Vec<u8>>() || bytes.len() < IN_PLACE {
        return Err(bytes);
    }
    let [wire::BIN_32, a, b, c, d, ..] = bytes[..] else {
        return Err(bytes);
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != bytes.len() - 5 {
        return Err(bytes);
    }
    bytes.drain(..5);
    let mut bytes = Some(bytes);
    let value = (&mut bytes as &mut dyn Any)
        .downcast_mut::<Option<T>>()
        .and_then(Option::take);
    value.ok_or_else(|| bytes.unwrap_or_default())
}

/// Makes bytes of a `T` that is bytes.
type AsBytes<T> = for<'a> fn(&'a T) -> &'a [u8];

/// Returns the large bytes that a value is.
pub(crate) fn large_bytes<T: ?Sized + 'static>(value: &T) -> Option<&[u8]> {
    let slice: AsBytes<[u8]> = |bytes| bytes;
    let vector: AsBytes<Vec<u8>> = |bytes| bytes;
    let boxed: AsBytes<Box<[u8]>> = |bytes| bytes;
    let all: [&dyn Any; 3] = [&slice, &vector, &boxed];
    let as_bytes = all
        .iter()
        .find_map(|one| one.downcast_ref::<AsBytes<T>>())?;
    Some(as_bytes(value)).filter(|bytes| bytes.len() >= IN_PLACE)
}

/// Stands for a byte sequence of this length that follows what is encoded: its header alone is written.
pub(crate) struct Announced(pub(crate) usize);

impl Serialize for Announced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(wire::ANNOUNCED, &(self.0 as u64))
    }
}

/// Writes the header of what is announced.
pub(super) fn announce(out: &mut Vec<u8>, len: &(impl Serialize + ?Sized)) -> Result<(), Error> {
    let len = bits(len);
    wire::write_bin_header(out, usize::try_from(len).unwrap_or(usize::MAX))
}

/// Makes a slice of `T` of bytes, where `T` is `u8`.
type AsItems<T> = for<'a> fn(&'a [u8]) -> &'a [T];

fn as_items<T: 'static>() -> Option<AsItems<T>> {
    // The types of these two functions are the same one exactly if `T` is `u8`.
    let same: AsItems<u8> = |bytes| bytes;
    (&same as &dyn Any).downcast_ref::<AsItems<T>>().copied()
}

/// What a parameter that is a slice is lent: bytes where they lie, everything else in a vector.
#[doc(hidden)]
pub struct Items<'de, T> {
    lent: Option<(&'de [u8], AsItems<T>)>,
    own: Vec<T>,
}

impl<T> Items<'_, T> {
    /// Returns all of them.
    pub fn as_slice(&self) -> &[T] {
        match self.lent {
            Some((bytes, as_items)) => as_items(bytes),
            None => &self.own,
        }
    }
}

impl<'de, T: Deserialize<'de> + 'static> Deserialize<'de> for Items<'de, T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match as_items::<T>() {
            Some(as_items) => deserializer
                .deserialize_newtype_struct(wire::pieces(<u8 as Item>::KIND), Lent(as_items)),
            None => Whole::<Vec<T>>::deserialize(deserializer).map(Self::from),
        }
    }
}

impl<T> From<Whole<Vec<T>>> for Items<'_, T> {
    fn from(Whole(own): Whole<Vec<T>>) -> Self {
        Self { lent: None, own }
    }
}

/// Borrows bytes where they lie in one piece.
struct Lent<T>(AsItems<T>);

impl<'de, T: Deserialize<'de> + 'static> Visitor<'de> for Lent<T> {
    type Value = Items<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        let lent = Some((bytes, self.0));
        Ok(Items {
            lent,
            own: Vec::new(),
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, other: D) -> Result<Self::Value, D::Error> {
        Vec::deserialize(other).map(|own| Items::from(Whole(own)))
    }
}
