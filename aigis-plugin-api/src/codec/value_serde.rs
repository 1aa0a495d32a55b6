//! [`Value`] in any serde format; in this crate's own, exactly.
//!
//! Three names of newtype structs, which other formats see through, carry what the serde model has no words for:
//! the decoder shows extensions to who asks for `wire::VALUE`, as enums whose variant is the type's number, and the
//! encoder writes the content of the other two as extensions.

use std::fmt;

use serde::de::{
    self, Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::ser::{Serialize, Serializer};

use super::value::{Integer, Value};
use super::wire;

/// How many elements are allocated before one is seen: a nested input could claim its length at every level.
const FIRST_ELEMENTS: usize = 256;

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not as `u8`, even when it fits: a list of these would become bytes.
        match (self.as_i64(), self.as_u64(), self.as_u128(), self.as_i128()) {
            (Some(value), ..) => serializer.serialize_i64(value),
            (_, Some(value), ..) => serializer.serialize_u64(value),
            (_, _, Some(value), _) => serializer.serialize_u128(value),
            (.., value) => serializer.serialize_i128(value.unwrap_or_default()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => value.serialize(serializer),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
            Self::Some(inner) => serializer.serialize_newtype_struct(wire::VALUE_SOME, inner),
            Self::Ext(kind, payload) => {
                serializer.serialize_newtype_struct(wire::VALUE_EXTENSION, &(*kind, Bytes(payload)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(wire::VALUE, ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer).map(Value::some)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(FIRST_ELEMENTS));
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(FIRST_ELEMENTS));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        match data.variant::<Value>()? {
            // An extension, from our own decoder.
            (Value::Int(kind), content) => {
                match kind.as_i64().and_then(|kind| i8::try_from(kind).ok()) {
                    Some(wire::SOME) => Ok(Value::Some(content.newtype_variant()?)),
                    Some(kind) => match content.newtype_variant()? {
                        Value::Bytes(payload) => Ok(Value::Ext(kind, payload)),
                        _ => Err(de::Error::custom("expected the bytes of an extension")),
                    },
                    None => Err(de::Error::custom("expected the type of an extension")),
                }
            }
            // An enum, from a format that has such.
            (name, content) => Ok(Value::Map(vec![(name, content.newtype_variant()?)])),
        }
    }
}
