//! Typed values to bytes.

use serde::ser::{self, Serialize};

use super::compound::{Form, MapEncoder, SeqEncoder};
use super::error::{Error, ErrorKind};
use super::packed;
use super::read::{Decoder, Token};
use super::value::Integer;
use super::wire;

/// How many `Some` may be entered. They leave no trace in the bytes, so the depth of those does not bound them.
const MAX_SOMES: usize = 2 * wire::MAX_DEPTH;

/// Where no value starts.
pub(super) const NOWHERE: usize = usize::MAX;

/// Writes values one behind the other at the end of a vector.
///
/// ```
/// # use aigis_plugin_api::codec::Encoder;
/// use serde::Serialize;
///
/// let mut bytes = Vec::new();
/// let mut encoder = Encoder::new(&mut bytes);
/// 1.serialize(&mut encoder)?;
/// "a".serialize(&mut encoder)?;
/// assert_eq!(bytes, b"\x01\xa1a");
/// # Ok::<(), aigis_plugin_api::codec::Error>(())
/// ```
#[derive(Debug)]
pub struct Encoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) depth: usize,
    somes: usize,
    /// How many extensions 1 inside one another the value that was written last consists of.
    wrappers: usize,
    /// Where the `u8` that was written last starts: how a sequence learns that its element was one.
    pub(super) byte_start: usize,
    /// Where a `u8` would be an item of a byte sequence, which is written without a marker.
    pub(super) item_start: usize,
}

impl<'a> Encoder<'a> {
    /// Returns an encoder that appends to `out`. After an error, what it appended is of no use.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            depth: 0,
            somes: 0,
            wrappers: 0,
            byte_start: NOWHERE,
            item_start: NOWHERE,
        }
    }

    pub(super) fn enter(&mut self) -> Result<(), Error> {
        if self.depth >= wire::MAX_DEPTH {
            return Err(Error::new(ErrorKind::Depth));
        }
        self.depth += 1;
        Ok(())
    }

    /// Wraps what was written since `start` into extension 1.
    fn wrap(&mut self, start: usize) -> Result<(), Error> {
        let mut header = Vec::with_capacity(6);
        wire::write_ext_header(&mut header, wire::SOME, self.out.len() - start)?;
        self.out.splice(start..start, header);
        Ok(())
    }

    /// Turns the pair of type and payload that was written since `start` into an extension.
    fn make_extension(&mut self, start: usize) -> Result<(), Error> {
        let mut pair = Decoder::new(&self.out[start..]);
        let (Token::Array(2), kind, Token::Bin(payload)) =
            (pair.token()?, pair.token()?, pair.token()?)
        else {
            return Ok(());
        };
        let kind = match kind {
            Token::Number(kind) => kind
                .integer()
                .and_then(Integer::as_i64)
                .and_then(|kind| i8::try_from(kind).ok()),
            _ => None,
        };
        let Some(kind) = kind else { return Ok(()) };
        if wire::INTERPRETED.contains(&kind) {
            return Err(Error::new(ErrorKind::Unserializable {
                message: format!(
                    "extension type {kind} is written by the codec alone, use the value it stands for"
                ),
            }));
        }
        let mut header = Vec::with_capacity(6);
        wire::write_ext_header(&mut header, kind, payload.len())?;
        let payload_start = self.out.len() - payload.len();
        self.out.splice(start..payload_start, header);
        Ok(())
    }

    fn start_array(
        &mut self,
        len: usize,
        levels: usize,
        form: Form,
    ) -> Result<SeqEncoder<'_, 'a>, Error> {
        let start = self.out.len();
        wire::write_array_header(self.out, len)?;
        let body = self.out.len();
        Ok(SeqEncoder {
            encoder: self,
            start,
            body,
            declared: len,
            count: 0,
            levels,
            form,
        })
    }

    fn start_map(&mut self, len: usize, levels: usize) -> Result<MapEncoder<'_, 'a>, Error> {
        let start = self.out.len();
        wire::write_map_header(self.out, len)?;
        let body = self.out.len();
        Ok(MapEncoder {
            encoder: self,
            start,
            body,
            declared: len,
            count: 0,
            key: body,
            levels,
        })
    }

    /// Starts the map of a variant with content.
    fn start_variant(&mut self, variant: &str) -> Result<(), Error> {
        self.enter()?;
        wire::write_map_header(self.out, 1)?;
        wire::write_str(self.out, variant)
    }
}

impl<'e, 'a> ser::Serializer for &'e mut Encoder<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = SeqEncoder<'e, 'a>;
    type SerializeTuple = SeqEncoder<'e, 'a>;
    type SerializeTupleStruct = SeqEncoder<'e, 'a>;
    type SerializeTupleVariant = SeqEncoder<'e, 'a>;
    type SerializeMap = MapEncoder<'e, 'a>;
    type SerializeStruct = MapEncoder<'e, 'a>;
    type SerializeStructVariant = MapEncoder<'e, 'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.push(if value { wire::TRUE } else { wire::FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        wire::write_signed(self.out, value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        if let Ok(value) = i64::try_from(value) {
            wire::write_signed(self.out, value);
        } else if let Ok(value) = u64::try_from(value) {
            wire::write_unsigned(self.out, value);
        } else {
            wire::write_ext_header(self.out, wire::SIGNED, 16)?;
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.byte_start = self.out.len();
        if value >= 0x80 && self.byte_start != self.item_start {
            self.out.push(wire::UINT_8);
        }
        self.out.push(value);
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        wire::write_unsigned(self.out, value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        if let Ok(value) = u64::try_from(value) {
            wire::write_unsigned(self.out, value);
        } else {
            wire::write_ext_header(self.out, wire::UNSIGNED, 16)?;
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        wire::write_f32(self.out, value);
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        wire::write_f64(self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        wire::write_str(self.out, value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        wire::write_bin_header(self.out, value.len())?;
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        if self.somes >= MAX_SOMES {
            return Err(Error::new(ErrorKind::Depth));
        }
        let start = self.out.len();
        self.somes += 1;
        self.item_start = NOWHERE;
        value.serialize(&mut *self)?;
        self.somes -= 1;
        // A `Some` is not a byte, so `[Some(1), None]` and `[Some(1)]` have the same form.
        self.byte_start = NOWHERE;
        let written = &self.out[start..];
        self.wrappers = if written.first() == Some(&wire::NIL) {
            1
        } else if wire::is_some(written) {
            self.wrappers + 1
        } else {
            return Ok(());
        };
        if self.depth + self.wrappers > wire::MAX_DEPTH {
            return Err(Error::new(ErrorKind::Depth));
        }
        self.wrap(start)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.push(wire::NIL);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let start = self.out.len();
        match name {
            wire::VALUE_SOME => {
                self.enter()?;
                self.item_start = NOWHERE;
                value.serialize(&mut *self)?;
                self.byte_start = NOWHERE;
                self.depth -= 1;
                self.wrappers += 1;
                self.wrap(start)
            }
            wire::VALUE_EXTENSION => {
                value.serialize(&mut *self)?;
                self.make_extension(start)
            }
            wire::ANNOUNCED => packed::announce(self.out, value),
            _ => value.serialize(self),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.start_variant(variant)?;
        value
            .serialize(&mut *self)
            .map_err(|error| error.inside_field(variant))?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<SeqEncoder<'e, 'a>, Error> {
        self.enter()?;
        self.start_array(len.unwrap_or(0), 1, Form::Undecided)
    }

    /// What serde calls for vectors, slices and sets.
    fn collect_seq<I: IntoIterator<Item: Serialize>>(self, items: I) -> Result<(), Error> {
        let Some(items) = packed::write(self, items.into_iter())? else {
            return Ok(());
        };
        let (least, most) = items.size_hint();
        let mut elements = self.serialize_seq(most.filter(|most| *most == least))?;
        for item in items {
            ser::SerializeSeq::serialize_element(&mut elements, &item)?;
        }
        ser::SerializeSeq::end(elements)
    }

    fn serialize_tuple(self, len: usize) -> Result<SeqEncoder<'e, 'a>, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<SeqEncoder<'e, 'a>, Error> {
        self.enter()?;
        self.start_array(len, 1, Form::Array)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<SeqEncoder<'e, 'a>, Error> {
        self.start_variant(variant)?;
        self.enter()?;
        self.start_array(len, 2, Form::Array)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<MapEncoder<'e, 'a>, Error> {
        self.enter()?;
        self.start_map(len.unwrap_or(0), 1)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<MapEncoder<'e, 'a>, Error> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<MapEncoder<'e, 'a>, Error> {
        self.start_variant(variant)?;
        self.enter()?;
        self.start_map(len, 2)
    }
}
