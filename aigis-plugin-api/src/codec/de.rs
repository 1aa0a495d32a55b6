//! Tokens to typed values.

use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer, I8Deserializer};
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Visitor};

use super::error::{Error, ErrorKind};
use super::read::{Decoder, Token};
use super::scalar::{self, Numbers, Scalar, all_taken, visit_items};
use super::wire;

impl<'de> Decoder<'de> {
    fn array<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.enter()?;
        let mut elements = Elements {
            decoder: self,
            index: 0,
            len,
        };
        let result = visitor.visit_seq(&mut elements);
        let taken = elements.index;
        self.depth -= 1;
        let value = result?;
        all_taken(taken, len)?;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.enter()?;
        let key = self.position;
        let mut entries = Entries {
            decoder: self,
            taken: 0,
            len,
            key,
        };
        let result = visitor.visit_map(&mut entries);
        let taken = entries.taken;
        self.depth -= 1;
        let value = result?;
        all_taken(taken, len)?;
        Ok(value)
    }

    /// Reads the payload, of length `len`, of the extension that was just read.
    fn within<T>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.enter()?;
        let (input, end) = (self.input, self.position);
        self.input = &input[..end];
        self.position = end - len;
        let result = read(self);
        self.input = input;
        self.depth -= 1;
        let value = result?;
        if self.position != end {
            return Err(Error::new(ErrorKind::Malformed {
                offset: self.position,
                message: "an optional value ends before its extension does".to_owned(),
            }));
        }
        Ok(value)
    }

    /// Shows the visitor a sequence of any form, or gives back what else there is.
    fn sequence<V: Visitor<'de>>(
        &mut self,
        token: Token<'de>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match token {
            Token::Array(len) => self.array(len, visitor),
            Token::Bin(bytes) => visit_items(scalar::bytes(bytes), visitor),
            Token::Ext(wire::NUMBERS, payload) => visit_items(
                Numbers::new(payload, self.position - payload.len())?,
                visitor,
            ),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    /// Shows the visitor bytes (`kind` 0), or the elements of a numeric array of this kind, in one piece; all else as
    /// a sequence of any form.
    fn pieces<V: Visitor<'de>>(&mut self, kind: u8, visitor: V) -> Result<V::Value, Error> {
        let start = self.position;
        match (kind, self.token()?) {
            (0, Token::Bin(bytes)) => return visitor.visit_borrowed_bytes(bytes),
            (1.., Token::Ext(wire::NUMBERS, payload)) if payload.first() == Some(&kind) => {
                let elements = Numbers::new(payload, self.position - payload.len())?;
                return visitor.visit_borrowed_bytes(elements.as_bytes());
            }
            _ => {}
        }
        self.position = start;
        visitor.visit_newtype_struct(self)
    }

    /// Reads a number, which the visitor expects.
    #[inline]
    fn number(&mut self, expected: &dyn Expected) -> Result<Scalar, Error> {
        // The two most frequent forms, short enough to become part of the caller.
        match &self.input[self.position..] {
            [small @ 0..=0x7f, ..] => {
                self.position += 1;
                Ok(Scalar::Unsigned((*small).into()))
            }
            [wire::FLOAT_64, a, b, c, d, e, f, g, h, ..] => {
                self.position += 9;
                Ok(Scalar::F64(f64::from_be_bytes([
                    *a, *b, *c, *d, *e, *f, *g, *h,
                ])))
            }
            _ => self.any_number(expected),
        }
    }

    fn any_number(&mut self, expected: &dyn Expected) -> Result<Scalar, Error> {
        match self.token()? {
            Token::Number(value) => Ok(value),
            other => Err(Error::mismatch(expected, other.to_string())),
        }
    }

    /// Reads a string, which the visitor expects.
    fn text(&mut self, expected: &dyn Expected) -> Result<&'de str, Error> {
        match self.token()? {
            Token::Str(text) => Ok(text),
            other => Err(Error::mismatch(expected, other.to_string())),
        }
    }

    /// Shows the visitor of a [`super::Value`] what is next; extensions appear as enums (see `value_serde`).
    fn value<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Ext(kind, payload) if kind != wire::NUMBERS => visitor.visit_enum(Extension {
                decoder: self,
                kind,
                payload,
            }),
            token => self.visit(token, visitor),
        }
    }

    fn visit<V: Visitor<'de>>(&mut self, token: Token<'de>, visitor: V) -> Result<V::Value, Error> {
        match token {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Number(value) => value.deserialize_any(visitor),
            Token::Str(text) => visitor.visit_borrowed_str(text),
            Token::Bin(bytes) if is_buffer::<V::Value>() => {
                visit_items(scalar::bytes(bytes), visitor)
            }
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(len) => self.array(len, visitor),
            Token::Map(len) => self.map(len, visitor),
            Token::Ext(wire::SOME, payload) => {
                self.within(payload.len(), |decoder| visitor.visit_some(decoder))
            }
            Token::Ext(wire::NUMBERS, _) => self.sequence(token, visitor),
            Token::Ext(..) => Err(Error::mismatch(&visitor, token.to_string())),
        }
    }
}

/// Says whether `T` is what serde keeps content in until it knows the type (untagged and internally tagged enums,
/// flattened fields). From there a `Vec<u8>` or an array of `u8` can be made of a sequence only, not of bytes, and
/// serde has no other way to tell. Should the type ever get another name, a test here fails and such fields refuse bin.
fn is_buffer<T>() -> bool {
    let name = std::any::type_name::<T>();
    name.starts_with("serde") && name.contains("::content::Content")
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number(&visitor)?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let token = self.token()?;
        self.visit(token, visitor)
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Bool(value) => visitor.visit_bool(value),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.text(&visitor)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            // An empty sequence of bytes is written like every other empty sequence.
            Token::Array(0) => visitor.visit_borrowed_bytes(&[]),
            Token::Array(len) => self.array(len, visitor),
            token @ Token::Ext(wire::NUMBERS, _) => self.sequence(token, visitor),
            Token::Str(text) => visitor.visit_borrowed_str(text),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let rest = &self.input[self.position..];
        if rest.first() == Some(&wire::NIL) {
            self.position += 1;
            return visitor.visit_none();
        }
        if wire::is_some(rest) {
            let token = self.token()?;
            return self.visit(token, visitor);
        }
        self.pass()?;
        let result = visitor.visit_some(&mut *self);
        self.passes -= 1;
        result
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Nil => visitor.visit_unit(),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == wire::VALUE {
            return self.value(visitor);
        }
        if let Some(kind) = wire::asked_pieces(name) {
            return self.pieces(kind, visitor);
        }
        self.pass()?;
        let result = visitor.visit_newtype_struct(&mut *self);
        self.passes -= 1;
        result
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let token = self.token()?;
        self.sequence(token, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Map(len) => self.map(len, visitor),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Map(len) => self.map(len, visitor),
            token => self.sequence(token, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Str(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(1) => {
                self.enter()?;
                let result = visitor.visit_enum(Variant {
                    key: self.position,
                    decoder: &mut *self,
                });
                self.depth -= 1;
                result
            }
            Token::Map(len) => Err(Error::mismatch(
                &visitor,
                format!("map with {len} entries instead of one"),
            )),
            other => Err(Error::mismatch(&visitor, other.to_string())),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The elements of an array.
struct Elements<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    index: usize,
    len: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.index == self.len {
            return Ok(None);
        }
        let index = self.index;
        self.index += 1;
        match seed.deserialize(&mut *self.decoder) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.inside_element(index)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.index)
    }
}

/// The entries of a map.
struct Entries<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    taken: usize,
    len: usize,
    /// Where the key that was read last starts.
    key: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if self.taken == self.len {
            return Ok(None);
        }
        self.taken += 1;
        self.key = self.decoder.position;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        match seed.deserialize(&mut *self.decoder) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.inside_value(&self.decoder.input[self.key..])),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.taken)
    }
}

/// A variant with content: the only entry of a map.
struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    key: usize,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> Variant<'_, 'de> {
    fn content<T>(
        self,
        read: impl FnOnce(&mut Decoder<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        read(self.decoder).map_err(|error| error.inside_value(&self.decoder.input[self.key..]))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.content(|decoder| de::Deserialize::deserialize(decoder))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.content(|decoder| seed.deserialize(decoder))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|decoder| decoder.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(|decoder| decoder.deserialize_struct("", fields, visitor))
    }
}

/// An extension as [`super::Value`] sees it: an enum whose variant is the type and whose content is the payload.
struct Extension<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    kind: i8,
    payload: &'de [u8],
}

impl<'de> de::EnumAccess<'de> for Extension<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let kind: I8Deserializer<Error> = self.kind.into_deserializer();
        Ok((seed.deserialize(kind)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Extension<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(de::Error::invalid_type(
            de::Unexpected::NewtypeVariant,
            &"unit variant",
        ))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self.kind {
            wire::SOME => self
                .decoder
                .within(self.payload.len(), |decoder| seed.deserialize(decoder)),
            _ => seed.deserialize(BorrowedBytesDeserializer::new(self.payload)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(
            de::Unexpected::NewtypeVariant,
            &"tuple variant",
        ))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(
            de::Unexpected::NewtypeVariant,
            &"struct variant",
        ))
    }
}
