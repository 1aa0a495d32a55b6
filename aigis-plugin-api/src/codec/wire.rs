//! The bytes of MessagePack: markers, headers and the extension types of this format.

use super::error::{Error, ErrorKind};

/// How many arrays, maps and extensions may be inside one another.
pub const MAX_DEPTH: usize = 128;

/// The name of the newtype struct that [`super::Value`] asks for, to be shown extensions as they are.
pub(super) const VALUE: &str = "$aigis::Value";
/// The name of the newtype struct whose content is written inside extension 1 in any case.
pub(super) const VALUE_SOME: &str = "$aigis::Some";
/// The name of the newtype struct of a pair (type, payload) that is written as an extension.
pub(super) const VALUE_EXTENSION: &str = "$aigis::Ext";

/// The name of the newtype struct whose content is the length of bytes that follow.
pub(super) const ANNOUNCED: &str = "$aigis::Announced";
/// The names of the newtype structs that whoever wants bytes, or a numeric array of one kind, in one piece asks for.
const PIECES: [&str; 9] = [
    "$aigis::u8",
    "$aigis::i16",
    "$aigis::u16",
    "$aigis::i32",
    "$aigis::u32",
    "$aigis::i64",
    "$aigis::u64",
    "$aigis::f32",
    "$aigis::f64",
];

/// Returns the name for numeric arrays of a kind, or for bytes.
pub(super) fn pieces(kind: Option<u8>) -> &'static str {
    PIECES[usize::from(kind.unwrap_or(0))]
}

/// Returns what is asked for by a name: 0 is bytes, the others are the kinds of numeric arrays.
#[inline]
pub(super) fn asked_pieces(name: &'static str) -> Option<u8> {
    if !name.starts_with("$aigis::") {
        return None;
    }
    let place = PIECES.iter().position(|known| *known == name);
    place.and_then(|place| u8::try_from(place).ok())
}

/// `Some` of something that is nil or extension 1 itself.
pub(super) const SOME: i8 = 1;
/// A signed integer, 16 bytes.
pub(super) const SIGNED: i8 = 2;
/// An unsigned integer, 16 bytes.
pub(super) const UNSIGNED: i8 = 3;
/// A numeric array.
pub(super) const NUMBERS: i8 = 4;
/// The extension types that [`super::Value::Ext`] cannot be written with, since they are read as something else.
pub(super) const INTERPRETED: std::ops::RangeInclusive<i8> = SOME..=NUMBERS;

pub(super) const NIL: u8 = 0xc0;
pub(super) const FALSE: u8 = 0xc2;
pub(super) const TRUE: u8 = 0xc3;
pub(super) const BIN_8: u8 = 0xc4;
pub(super) const BIN_16: u8 = 0xc5;
pub(super) const BIN_32: u8 = 0xc6;
pub(super) const EXT_8: u8 = 0xc7;
pub(super) const EXT_16: u8 = 0xc8;
pub(super) const EXT_32: u8 = 0xc9;
pub(super) const FLOAT_32: u8 = 0xca;
pub(super) const FLOAT_64: u8 = 0xcb;
pub(super) const UINT_8: u8 = 0xcc;
pub(super) const UINT_16: u8 = 0xcd;
pub(super) const UINT_32: u8 = 0xce;
pub(super) const UINT_64: u8 = 0xcf;
pub(super) const INT_8: u8 = 0xd0;
pub(super) const INT_16: u8 = 0xd1;
pub(super) const INT_32: u8 = 0xd2;
pub(super) const INT_64: u8 = 0xd3;
pub(super) const FIXEXT_1: u8 = 0xd4;
pub(super) const FIXEXT_2: u8 = 0xd5;
pub(super) const FIXEXT_4: u8 = 0xd6;
pub(super) const FIXEXT_8: u8 = 0xd7;
pub(super) const FIXEXT_16: u8 = 0xd8;
pub(super) const STR_8: u8 = 0xd9;
pub(super) const STR_16: u8 = 0xda;
pub(super) const STR_32: u8 = 0xdb;
pub(super) const ARRAY_16: u8 = 0xdc;
pub(super) const ARRAY_32: u8 = 0xdd;
pub(super) const MAP_16: u8 = 0xde;
pub(super) const MAP_32: u8 = 0xdf;

fn marked<const N: usize>(out: &mut Vec<u8>, marker: u8, bytes: [u8; N]) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}

/// Returns a length in the widest form that a header has.
fn length(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| {
        Error::new(ErrorKind::OutOfRange {
            expected: "at most 4294967295 bytes or elements".into(),
            found: len.to_string(),
        })
    })
}

pub(super) fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if let Ok(value) = u8::try_from(value) {
        marked(out, UINT_8, [value]);
    } else if let Ok(value) = u16::try_from(value) {
        marked(out, UINT_16, value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        marked(out, UINT_32, value.to_be_bytes());
    } else {
        marked(out, UINT_64, value.to_be_bytes());
    }
}

pub(super) fn write_signed(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        write_unsigned(out, value);
    } else if value >= -32 {
        out.push(value as u8);
    } else if let Ok(value) = i8::try_from(value) {
        marked(out, INT_8, value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        marked(out, INT_16, value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        marked(out, INT_32, value.to_be_bytes());
    } else {
        marked(out, INT_64, value.to_be_bytes());
    }
}

pub(super) fn write_f32(out: &mut Vec<u8>, value: f32) {
    marked(out, FLOAT_32, value.to_bits().to_be_bytes());
}

pub(super) fn write_f64(out: &mut Vec<u8>, value: f64) {
    marked(out, FLOAT_64, value.to_bits().to_be_bytes());
}

pub(super) fn write_str(out: &mut Vec<u8>, value: &str) -> Result<(), Error> {
    match value.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => marked(out, STR_8, [len as u8]),
        len @ 0x100..=0xffff => marked(out, STR_16, (len as u16).to_be_bytes()),
        len => marked(out, STR_32, length(len)?.to_be_bytes()),
    }
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

pub(super) fn write_bin_header(out: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    match len {
        0..=0xff => marked(out, BIN_8, [len as u8]),
        0x100..=0xffff => marked(out, BIN_16, (len as u16).to_be_bytes()),
        _ => marked(out, BIN_32, length(len)?.to_be_bytes()),
    }
    Ok(())
}

pub(super) fn write_array_header(out: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        16..=0xffff => marked(out, ARRAY_16, (len as u16).to_be_bytes()),
        _ => marked(out, ARRAY_32, length(len)?.to_be_bytes()),
    }
    Ok(())
}

pub(super) fn write_map_header(out: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    match len {
        0..=15 => out.push(0x80 | len as u8),
        16..=0xffff => marked(out, MAP_16, (len as u16).to_be_bytes()),
        _ => marked(out, MAP_32, length(len)?.to_be_bytes()),
    }
    Ok(())
}

pub(super) fn write_ext_header(out: &mut Vec<u8>, kind: i8, len: usize) -> Result<(), Error> {
    match len {
        1 => out.push(FIXEXT_1),
        2 => out.push(FIXEXT_2),
        4 => out.push(FIXEXT_4),
        8 => out.push(FIXEXT_8),
        16 => out.push(FIXEXT_16),
        0..=0xff => marked(out, EXT_8, [len as u8]),
        0x100..=0xffff => marked(out, EXT_16, (len as u16).to_be_bytes()),
        _ => marked(out, EXT_32, length(len)?.to_be_bytes()),
    }
    out.push(kind as u8);
    Ok(())
}

/// Says whether an extension 1 begins here.
pub(super) fn is_some(bytes: &[u8]) -> bool {
    let kind = match bytes.first() {
        Some(&(FIXEXT_1 | FIXEXT_2 | FIXEXT_4 | FIXEXT_8 | FIXEXT_16)) => bytes.get(1),
        Some(&EXT_8) => bytes.get(2),
        Some(&EXT_16) => bytes.get(3),
        Some(&EXT_32) => bytes.get(5),
        _ => None,
    };
    kind == Some(&(SOME as u8))
}
