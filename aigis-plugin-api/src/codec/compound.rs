//! Sequences and maps whose elements are written one by one.

use serde::ser::{self, Serialize};

use super::error::Error;
use super::ser::{Encoder, NOWHERE};
use super::wire;

/// How many bytes are allocated for a sequence that says how long it is, but may be wrong.
const FIRST_BYTES: usize = 1 << 20;

/// What a sequence is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing but the header of an array so far; the first element decides.
    Undecided,
    /// Bytes, as long as every element is a `u8`.
    Bytes,
    Array,
}

/// Writes the elements of a sequence, tuple, tuple struct or tuple variant.
#[derive(Debug)]
pub struct SeqEncoder<'e, 'a> {
    pub(super) encoder: &'e mut Encoder<'a>,
    /// Where the header starts, and where it ends.
    pub(super) start: usize,
    pub(super) body: usize,
    /// How many elements the header says there are, and how many were written.
    pub(super) declared: usize,
    pub(super) count: usize,
    pub(super) levels: usize,
    pub(super) form: Form,
}

impl SeqEncoder<'_, '_> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let element = self.encoder.out.len();
        self.encoder.byte_start = NOWHERE;
        self.encoder.item_start = match self.form {
            Form::Bytes => element,
            Form::Array | Form::Undecided => NOWHERE,
        };
        if let Err(error) = value.serialize(&mut *self.encoder) {
            return Err(error.inside_element(self.count));
        }
        let is_byte = self.encoder.byte_start == element;
        match self.form {
            Form::Array => {}
            Form::Bytes if is_byte => {}
            Form::Bytes => self.expand(element)?,
            Form::Undecided if is_byte => self.become_bytes()?,
            Form::Undecided => self.form = Form::Array,
        }
        self.count += 1;
        Ok(())
    }

    /// Starts again as bytes, after the first element was a byte.
    fn become_bytes(&mut self) -> Result<(), Error> {
        let out = &mut *self.encoder.out;
        // Of the one or two bytes of a small integer, the last one is its value.
        let byte = out.pop().unwrap_or_default();
        out.truncate(self.start);
        self.form = Form::Bytes;
        self.declared = self.declared.max(1);
        wire::write_bin_header(out, self.declared)?;
        self.body = out.len();
        out.reserve(self.declared.min(FIRST_BYTES));
        out.push(byte);
        Ok(())
    }

    /// Rewrites the bytes before `element`, which is none, as an array.
    fn expand(&mut self, element: usize) -> Result<(), Error> {
        let out = &mut *self.encoder.out;
        let last = out.split_off(element);
        let bytes = out.split_off(self.body);
        out.truncate(self.start);
        self.form = Form::Array;
        wire::write_array_header(out, self.declared)?;
        self.body = out.len();
        for byte in bytes {
            wire::write_unsigned(out, byte.into());
        }
        out.extend_from_slice(&last);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        // A shorter header would move what follows to where the last item was.
        self.encoder.item_start = NOWHERE;
        if self.count != self.declared {
            let mut header = Vec::with_capacity(5);
            match self.form {
                Form::Bytes => wire::write_bin_header(&mut header, self.count)?,
                Form::Array | Form::Undecided => wire::write_array_header(&mut header, self.count)?,
            }
            self.encoder.out.splice(self.start..self.body, header);
        }
        self.encoder.depth -= self.levels;
        Ok(())
    }
}

impl ser::SerializeSeq for SeqEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTuple for SeqEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for SeqEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleVariant for SeqEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

/// Writes the entries of a map, struct or struct variant.
#[derive(Debug)]
pub struct MapEncoder<'e, 'a> {
    pub(super) encoder: &'e mut Encoder<'a>,
    pub(super) start: usize,
    pub(super) body: usize,
    pub(super) declared: usize,
    pub(super) count: usize,
    /// Where the key that was written last starts.
    pub(super) key: usize,
    pub(super) levels: usize,
}

impl MapEncoder<'_, '_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        wire::write_str(self.encoder.out, name)?;
        self.count += 1;
        value
            .serialize(&mut *self.encoder)
            .map_err(|error| error.inside_field(name))
    }

    fn finish(self) -> Result<(), Error> {
        if self.count != self.declared {
            let mut header = Vec::with_capacity(5);
            wire::write_map_header(&mut header, self.count)?;
            self.encoder.out.splice(self.start..self.body, header);
        }
        self.encoder.depth -= self.levels;
        Ok(())
    }
}

impl ser::SerializeMap for MapEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = self.encoder.out.len();
        self.count += 1;
        key.serialize(&mut *self.encoder)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match value.serialize(&mut *self.encoder) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.inside_value(&self.encoder.out[self.key..])),
        }
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStruct for MapEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for MapEncoder<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}
