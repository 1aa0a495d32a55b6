//! Bytes to tokens: every check of the input itself is here.

use std::fmt;

use super::error::{Error, ErrorKind};
use super::scalar::Scalar;
use super::value::Integer;
use super::wire;

/// How many `Some` and newtype structs may be entered. They take no input, so a type that contains itself through
/// nothing else would be entered for ever.
const MAX_PASSES: usize = 2 * wire::MAX_DEPTH;

/// Reads values that are one behind the other.
///
/// ```
/// # use aigis_plugin_api::codec::Decoder;
/// use serde::Deserialize;
///
/// let mut decoder = Decoder::new(b"\x01\xa1a");
/// let number = u8::deserialize(&mut decoder)?;
/// assert_eq!((number, decoder.position()), (1, 1));
/// let text = <&str>::deserialize(&mut decoder)?;
/// assert_eq!((text, decoder.position()), ("a", 3));
/// decoder.finish()?;
/// # Ok::<(), aigis_plugin_api::codec::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder<'de> {
    /// Inside an extension this ends where the extension ends.
    pub(super) input: &'de [u8],
    pub(super) position: usize,
    pub(super) depth: usize,
    pub(super) passes: usize,
}

/// What is next in the input: a whole value, or the start of an array or map.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token<'de> {
    Nil,
    Bool(bool),
    Number(Scalar),
    Str(&'de str),
    Bin(&'de [u8]),
    Array(usize),
    Map(usize),
    /// Any extension but those for wide integers.
    Ext(i8, &'de [u8]),
}

impl fmt::Display for Token<'_> {
    /// Says what was found. Text and bytes are not shown: errors are logged, and these may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "boolean {value}"),
            Self::Number(value) => value.fmt(f),
            Self::Str(_) => f.write_str("string"),
            Self::Bin(_) => f.write_str("bytes"),
            Self::Array(_) => f.write_str("list"),
            Self::Map(_) => f.write_str("map"),
            Self::Ext(wire::SOME, _) => f.write_str("optional value"),
            Self::Ext(wire::NUMBERS, _) => f.write_str("numeric array"),
            Self::Ext(kind, _) => write!(f, "extension of type {kind}"),
        }
    }
}

impl<'de> Decoder<'de> {
    /// Returns a decoder at the start of `input`.
    pub fn new(input: &'de [u8]) -> Self {
        Self {
            input,
            position: 0,
            depth: 0,
            passes: 0,
        }
    }

    /// Returns how many bytes were read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Makes sure that the whole input was read.
    ///
    /// # Errors
    /// [`ErrorKind::Trailing`] if bytes are left.
    pub fn finish(&self) -> Result<(), Error> {
        match self.left() {
            0 => Ok(()),
            count => Err(Error::new(ErrorKind::Trailing {
                offset: self.position,
                count,
            })),
        }
    }

    fn left(&self) -> usize {
        self.input.len() - self.position
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'de [u8], Error> {
        match self.input[self.position..].split_at_checked(len) {
            Some((taken, _)) => {
                self.position += len;
                Ok(taken)
            }
            None => Err(self.truncated(len, what)),
        }
    }

    #[cold]
    fn truncated(&self, len: usize, what: &str) -> Error {
        let expected = match len {
            1 => what.to_owned(),
            _ => format!("{len} bytes of {what}, found {}", self.left()),
        };
        Error::new(ErrorKind::Truncated {
            offset: self.position,
            expected,
        })
    }

    fn take_array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        match self.input[self.position..].first_chunk() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N, what)),
        }
    }

    fn take_u16(&mut self, what: &str) -> Result<u16, Error> {
        self.take_array(what).map(u16::from_be_bytes)
    }

    fn take_u32(&mut self, what: &str) -> Result<u32, Error> {
        self.take_array(what).map(u32::from_be_bytes)
    }

    fn length_8(&mut self) -> Result<usize, Error> {
        self.take_array("a length")
            .map(|[length]: [u8; 1]| length.into())
    }

    fn length_16(&mut self) -> Result<usize, Error> {
        self.take_u16("a length").map(usize::from)
    }

    fn length_32(&mut self) -> Result<usize, Error> {
        // Where a `usize` is smaller, no input is that long either.
        self.take_u32("a length")
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Reads what is next.
    pub(super) fn token(&mut self) -> Result<Token<'de>, Error> {
        let start = self.position;
        let [marker] = self.take_array("a value")?;
        Ok(match marker {
            0x00..=0x7f => Token::Number(Scalar::Unsigned(marker.into())),
            0x80..=0x8f => self.map_start((marker & 0x0f).into())?,
            0x90..=0x9f => self.array_start((marker & 0x0f).into())?,
            0xa0..=0xbf => self.str((marker & 0x1f).into())?,
            wire::NIL => Token::Nil,
            wire::FALSE => Token::Bool(false),
            wire::TRUE => Token::Bool(true),
            wire::BIN_8 => self.length_8().and_then(|len| self.bin(len))?,
            wire::BIN_16 => self.length_16().and_then(|len| self.bin(len))?,
            wire::BIN_32 => self.length_32().and_then(|len| self.bin(len))?,
            wire::EXT_8 => self.length_8().and_then(|len| self.extension(len))?,
            wire::EXT_16 => self.length_16().and_then(|len| self.extension(len))?,
            wire::EXT_32 => self.length_32().and_then(|len| self.extension(len))?,
            wire::FLOAT_32 => Token::Number(Scalar::F32(f32::from_bits(self.take_u32("a float")?))),
            wire::FLOAT_64 => {
                let bits = self.take_array("a float").map(u64::from_be_bytes)?;
                Token::Number(Scalar::F64(f64::from_bits(bits)))
            }
            wire::UINT_8 => unsigned(
                self.take_array("an integer")
                    .map(|[value]: [u8; 1]| value)?,
            ),
            wire::UINT_16 => unsigned(self.take_u16("an integer")?),
            wire::UINT_32 => unsigned(self.take_u32("an integer")?),
            wire::UINT_64 => unsigned(self.take_array("an integer").map(u64::from_be_bytes)?),
            wire::INT_8 => signed(self.take_array("an integer").map(i8::from_be_bytes)?),
            wire::INT_16 => signed(self.take_array("an integer").map(i16::from_be_bytes)?),
            wire::INT_32 => signed(self.take_array("an integer").map(i32::from_be_bytes)?),
            wire::INT_64 => signed(self.take_array("an integer").map(i64::from_be_bytes)?),
            wire::FIXEXT_1 => self.extension(1)?,
            wire::FIXEXT_2 => self.extension(2)?,
            wire::FIXEXT_4 => self.extension(4)?,
            wire::FIXEXT_8 => self.extension(8)?,
            wire::FIXEXT_16 => self.extension(16)?,
            wire::STR_8 => self.length_8().and_then(|len| self.str(len))?,
            wire::STR_16 => self.length_16().and_then(|len| self.str(len))?,
            wire::STR_32 => self.length_32().and_then(|len| self.str(len))?,
            wire::ARRAY_16 => self.length_16().and_then(|len| self.array_start(len))?,
            wire::ARRAY_32 => self.length_32().and_then(|len| self.array_start(len))?,
            wire::MAP_16 => self.length_16().and_then(|len| self.map_start(len))?,
            wire::MAP_32 => self.length_32().and_then(|len| self.map_start(len))?,
            0xe0..=0xff => signed(marker as i8),
            0xc1 => {
                return Err(Error::new(ErrorKind::Malformed {
                    offset: start,
                    message: "byte 0xc1 starts no value".to_owned(),
                }));
            }
        })
    }

    fn str(&mut self, len: usize) -> Result<Token<'de>, Error> {
        let start = self.position;
        let bytes = self.take(len, "a string")?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Token::Str(text)),
            Err(error) => Err(Error::new(ErrorKind::Utf8 {
                offset: start + error.valid_up_to(),
            })),
        }
    }

    fn bin(&mut self, len: usize) -> Result<Token<'de>, Error> {
        self.take(len, "a byte sequence").map(Token::Bin)
    }

    fn extension(&mut self, len: usize) -> Result<Token<'de>, Error> {
        let kind = self
            .take_array("the type of an extension")
            .map(i8::from_be_bytes)?;
        let start = self.position;
        let payload = self.take(len, "an extension")?;
        let integer = match (kind, payload.as_array()) {
            (wire::SIGNED, Some(bytes)) => Integer::from(i128::from_le_bytes(*bytes)),
            (wire::UNSIGNED, Some(bytes)) => Integer::from(u128::from_le_bytes(*bytes)),
            (wire::SIGNED | wire::UNSIGNED, None) => {
                return Err(Error::new(ErrorKind::Malformed {
                    offset: start,
                    message: format!("a 128-bit integer of {len} bytes"),
                }));
            }
            _ => return Ok(Token::Ext(kind, payload)),
        };
        Ok(Token::Number(match (integer.as_u64(), integer.as_i64()) {
            (Some(value), _) => Scalar::Unsigned(value),
            (None, Some(value)) => Scalar::Signed(value),
            (None, None) => Scalar::Wide(integer),
        }))
    }

    /// Checks a number of elements against the rest of the input: each takes a byte or more.
    fn array_start(&mut self, len: usize) -> Result<Token<'de>, Error> {
        self.check_count(len, "list elements", len)?;
        Ok(Token::Array(len))
    }

    fn map_start(&mut self, len: usize) -> Result<Token<'de>, Error> {
        self.check_count(len.saturating_mul(2), "map entries", len)?;
        Ok(Token::Map(len))
    }

    fn check_count(&self, values: usize, what: &str, count: usize) -> Result<(), Error> {
        if values <= self.left() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Truncated {
            offset: self.position,
            expected: format!("{count} {what}, found {} bytes", self.left()),
        }))
    }

    pub(super) fn enter(&mut self) -> Result<(), Error> {
        if self.depth >= wire::MAX_DEPTH {
            return Err(Error::new(ErrorKind::Depth));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) fn pass(&mut self) -> Result<(), Error> {
        if self.passes >= MAX_PASSES {
            return Err(Error::new(ErrorKind::Depth));
        }
        self.passes += 1;
        Ok(())
    }

    /// Reads over a value.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        let values = match self.token()? {
            Token::Array(len) => len,
            Token::Map(len) => len.saturating_mul(2),
            _ => return Ok(()),
        };
        self.enter()?;
        for _ in 0..values {
            self.skip()?;
        }
        self.depth -= 1;
        Ok(())
    }
}

fn unsigned(value: impl Into<u64>) -> Token<'static> {
    Token::Number(Scalar::Unsigned(value.into()))
}

fn signed(value: impl Into<i64>) -> Token<'static> {
    let value = value.into();
    Token::Number(match u64::try_from(value) {
        Ok(value) => Scalar::Unsigned(value),
        Err(_) => Scalar::Signed(value),
    })
}
