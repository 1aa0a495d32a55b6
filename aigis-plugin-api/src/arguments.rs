//! Arguments: from the caller's values to bytes or registers, and back to the skill's parameters.
//!
//! The macros turn each parameter type into a *mode* without lifetimes, [`Own`] or [`Ref`], and a
//! parameter list into a tuple of modes. What can be done with a list follows from its modes:
//! [`Encode`] for a caller, [`Decode`] for a skill, and the direct forms in [`crate::abi`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple};
use serde::{Deserialize, Deserializer};

use crate::codec::{self, Items, Whole};
use crate::error::{Failure, FailureKind};
use crate::stream::{BoxItems, Stream, Streams};

/// A parameter taken by value.
pub struct Own<T>(PhantomData<T>);

/// A parameter taken by reference.
pub struct Ref<T: ?Sized>(PhantomData<T>);

/// A parameter that is a stream: a nil stands in its place, and the items come apart from it.
pub struct Streamed<T>(PhantomData<T>);

/// How one parameter is passed.
pub trait Mode {
    /// What the skill's function receives and the caller gives.
    type Value<'a>;
}

impl<T> Mode for Own<T> {
    type Value<'a> = T;
}

impl<T: ?Sized + 'static> Mode for Ref<T> {
    type Value<'a> = &'a T;
}

impl<T> Mode for Streamed<T> {
    type Value<'a> = Stream<T>;
}

/// A parameter that a caller can encode.
pub trait EncodeMode: Mode {
    /// What is encoded.
    type Wire: Serialize + ?Sized + 'static;

    /// Borrows what is encoded.
    fn wire<'v>(value: &'v Self::Value<'_>) -> &'v Self::Wire;

    /// Takes what comes apart from it.
    fn stream(value: Self::Value<'_>) -> Option<BoxItems> {
        drop(value);
        None
    }
}

impl<T: Serialize + 'static> EncodeMode for Streamed<T> {
    type Wire = ();

    fn wire(_: &Stream<T>) -> &() {
        &()
    }

    fn stream(value: Stream<T>) -> Option<BoxItems> {
        Some(value.into_items())
    }
}

impl<T: Serialize + 'static> EncodeMode for Own<T> {
    type Wire = T;

    fn wire<'v>(value: &'v Self::Value<'_>) -> &'v T {
        value
    }
}

impl<T: Serialize + ?Sized + 'static> EncodeMode for Ref<T> {
    type Wire = T;

    fn wire<'v>(value: &'v Self::Value<'_>) -> &'v T {
        value
    }
}

/// A parameter that a skill can decode.
pub trait DecodeMode: Mode {
    /// What is kept while the skill runs.
    type Stored<'de>: Deserialize<'de>;

    /// Turns what was stored, or the next of the streams, into the parameter's value. Called once.
    fn value<'s>(
        stored: &'s mut Option<Self::Stored<'_>>,
        streams: &Streams,
    ) -> Option<Self::Value<'s>>;
}

impl<T: DeserializeOwned + 'static> DecodeMode for Own<T> {
    type Stored<'de> = Whole<T>;

    fn value(stored: &mut Option<Whole<T>>, _: &Streams) -> Option<T> {
        stored.take().map(|Whole(value)| value)
    }
}

impl<T: DeserializeOwned + Send + 'static> DecodeMode for Streamed<T> {
    /// Who calls without types may give a list of items in place of a stream.
    type Stored<'de> = Whole<Option<Vec<T>>>;

    fn value(stored: &mut Option<Self::Stored<'_>>, streams: &Streams) -> Option<Stream<T>> {
        match stored.take()? {
            Whole(Some(items)) => Some(Stream::of(items)),
            Whole(None) => streams.take().map(Stream::from_items),
        }
    }
}

/// An unsized type and how a reference to it is decoded.
pub trait Referent: 'static {
    /// What is kept while the skill runs.
    type Stored<'de>: Deserialize<'de>;

    /// Borrows the value.
    fn borrow<'s>(stored: &'s Self::Stored<'_>) -> &'s Self;
}

impl Referent for str {
    type Stored<'de> = &'de str;

    fn borrow<'s>(stored: &'s &str) -> &'s str {
        stored
    }
}

impl<T: DeserializeOwned + 'static> Referent for [T] {
    type Stored<'de> = Items<'de, T>;

    fn borrow<'s>(stored: &'s Items<'_, T>) -> &'s [T] {
        stored.as_slice()
    }
}

impl<T: DeserializeOwned + 'static> Referent for T {
    type Stored<'de> = Whole<T>;

    fn borrow(Whole(stored): &Whole<T>) -> &T {
        stored
    }
}

impl<T: Referent + ?Sized> DecodeMode for Ref<T> {
    type Stored<'de> = T::Stored<'de>;

    fn value<'s>(stored: &'s mut Option<Self::Stored<'_>>, _: &Streams) -> Option<&'s T> {
        stored.as_ref().map(T::borrow)
    }
}

/// A list of parameters.
pub trait Modes {
    /// The values, in their order.
    type Values<'a>;
}

/// A list of parameters that a caller can encode.
pub trait Encode: Modes {
    /// Encodes the values as an array.
    ///
    /// # Errors
    /// [`FailureKind::Unserializable`] naming the argument.
    fn encode(values: &Self::Values<'_>) -> Result<Vec<u8>, Failure>;

    /// Encodes the values as an array, but leaves the last one where it is if it is large bytes: what is
    /// encoded ends with its header.
    ///
    /// # Errors
    /// [`FailureKind::Unserializable`] naming the argument.
    fn encode_apart<'v>(values: &'v Self::Values<'_>) -> Result<(Vec<u8>, &'v [u8]), Failure>;

    /// Takes the streams among the values, in their order.
    fn streams(values: Self::Values<'_>) -> Vec<BoxItems>;
}

/// Encodes a list of parameters.
trait EncodeBut: Modes {
    /// Of the last one, if `announced` says how long it is, writes the header alone.
    fn encode_but(values: &Self::Values<'_>, announced: Option<usize>) -> Result<Vec<u8>, Failure>;
}

/// A list of parameters that a skill can decode.
pub trait Decode: Modes {
    /// What is kept while the skill runs; it borrows from the encoded arguments.
    type Stored<'de>;

    /// Decodes an array by position or a map by name.
    ///
    /// # Errors
    /// [`FailureKind::Arguments`] naming the parameter.
    fn read<'de>(names: &[&str], bytes: &'de [u8]) -> Result<Self::Stored<'de>, Failure>;

    /// Turns what was stored, and the streams, into the parameters' values. Called once.
    ///
    /// # Errors
    /// It was called before, or a stream is missing.
    fn values<'s>(
        stored: &'s mut Self::Stored<'_>,
        streams: &Streams,
    ) -> Result<Self::Values<'s>, Failure>;

    /// Does both, and runs `body` with the values.
    ///
    /// # Errors
    /// [`FailureKind::Arguments`] naming the parameter, or what `body` returns.
    fn decode<R>(
        names: &[&str],
        bytes: &[u8],
        body: impl FnOnce(Self::Values<'_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut stored = Self::read(names, bytes)?;
        body(Self::values(&mut stored, &Streams::default())?)
    }
}

fn unserializable(error: impl fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Unserializable,
        format!("an argument cannot be encoded: {error}"),
    )
}

fn misfit(error: impl fmt::Display) -> Failure {
    Failure::new(FailureKind::Arguments, error.to_string())
}

/// What is wrong when there is no value for a parameter that was decoded.
const UNFILLED: &str = "a stream is missing: each parameter that is a stream needs one of its own, or a \
                        list of items";

/// Decodes one argument, or says which one does not fit.
struct Argument<'n, S> {
    name: &'n str,
    stored: PhantomData<S>,
}

impl<'de, S: Deserialize<'de>> DeserializeSeed<'de> for Argument<'_, S> {
    type Value = S;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S, D::Error> {
        S::deserialize(deserializer)
            .map_err(|error| de::Error::custom(format!("argument `{}`: {error}", self.name)))
    }
}

/// Stands for an argument that was not given: an `Option` is `None`, everything else is missed.
fn missing<'de, S: Deserialize<'de>, E: de::Error>(name: &str) -> Result<S, E> {
    const NIL: &[u8] = &[0xc0];
    codec::from_slice(NIL).map_err(|_| E::custom(format!("argument `{name}` is missing")))
}

macro_rules! parameter_lists {
    ($(($($mode:ident $stored:ident $index:tt),*))*) => {$(
        impl<$($mode: Mode),*> Modes for ($($mode,)*) {
            type Values<'a> = ($($mode::Value<'a>,)*);
        }

        impl<$($mode: EncodeMode),*> Encode for ($($mode,)*) {
            fn encode(values: &Self::Values<'_>) -> Result<Vec<u8>, Failure> {
                Self::encode_but(values, None)
            }

            #[allow(unused_assignments, unused_mut, unused_variables, reason = "the last one counts")]
            fn encode_apart<'v>(values: &'v Self::Values<'_>) -> Result<(Vec<u8>, &'v [u8]), Failure> {
                let mut last = None;
                $(last = codec::large_bytes($mode::wire(&values.$index));)*
                let encoded = Self::encode_but(values, last.map(<[u8]>::len))?;
                Ok((encoded, last.unwrap_or_default()))
            }

            #[allow(unused_mut, unused_variables, reason = "a list without parameters has none")]
            fn streams(values: Self::Values<'_>) -> Vec<BoxItems> {
                let mut streams = Vec::new();
                $(streams.extend($mode::stream(values.$index));)*
                streams
            }
        }

        impl<$($mode: EncodeMode),*> EncodeBut for ($($mode,)*) {
            fn encode_but(values: &Self::Values<'_>, announced: Option<usize>) -> Result<Vec<u8>, Failure> {
                #[allow(dead_code, reason = "a list without parameters reads nothing")]
                struct Tuple<'v, 'a, $($mode: EncodeMode),*>(
                    &'v ($($mode::Value<'a>,)*),
                    PhantomData<&'a ()>,
                    Option<usize>,
                );

                impl<$($mode: EncodeMode),*> Serialize for Tuple<'_, '_, $($mode),*> {
                    fn serialize<Ser: serde::Serializer>(&self, s: Ser) -> Result<Ser::Ok, Ser::Error> {
                        let count = <[&str]>::len(&[$(stringify!($mode)),*]);
                        #[allow(unused_mut, reason = "a list without parameters adds nothing")]
                        let mut tuple = s.serialize_tuple(count)?;
                        $(match self.2 {
                            Some(len) if $index + 1 == count => {
                                tuple.serialize_element(&codec::Announced(len))?;
                            }
                            _ => tuple.serialize_element($mode::wire(&self.0.$index))?,
                        })*
                        tuple.end()
                    }
                }

                codec::to_vec(&Tuple::<$($mode),*>(values, PhantomData, announced)).map_err(unserializable)
            }
        }

        impl<$($mode: DecodeMode),*> Decode for ($($mode,)*) {
            type Stored<'de> = ($(Option<$mode::Stored<'de>>,)*);

            fn read<'de>(names: &[&str], bytes: &'de [u8]) -> Result<Self::Stored<'de>, Failure> {
                struct List<'n, $($mode),*>(&'n [&'n str], PhantomData<($($mode,)*)>);

                impl<'de, $($mode: DecodeMode),*> Visitor<'de> for List<'_, $($mode),*> {
                    type Value = ($(Option<$mode::Stored<'de>>,)*);

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a list of arguments, or a map of them by name")
                    }

                    fn visit_seq<Seq: SeqAccess<'de>>(self, mut seq: Seq) -> Result<Self::Value, Seq::Error> {
                        let names = self.0;
                        #[allow(unused_mut, reason = "a list without parameters counts nothing")]
                        let mut given = 0_usize;
                        $(
                            let name = names.get($index).copied().unwrap_or("?");
                            let $stored = match seq.next_element_seed(Argument { name, stored: PhantomData })? {
                                Some(value) => { given += 1; value }
                                None => missing(name)?,
                            };
                        )*
                        let mut extra = 0_usize;
                        while seq.next_element::<de::IgnoredAny>()?.is_some() {
                            extra += 1;
                        }
                        if extra > 0 {
                            return Err(de::Error::custom(format!(
                                "too many arguments: {} expected, {} found",
                                names.len(),
                                given + extra
                            )));
                        }
                        Ok(($(Some($stored),)*))
                    }

                    fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<Self::Value, Map::Error> {
                        let names = self.0;
                        $(let mut $stored = None;)*
                        while let Some(key) = map.next_key::<String>()? {
                            match names.iter().position(|name| *name == key) {
                                $(Some($index) => {
                                    $stored = Some(map.next_value_seed(Argument {
                                        name: &key,
                                        stored: PhantomData,
                                    })?);
                                })*
                                _ => return Err(de::Error::custom(format!(
                                    "there is no parameter `{key}`, only: {}",
                                    names.join(", ")
                                ))),
                            }
                        }
                        Ok(($(Some(match $stored {
                            Some(value) => value,
                            None => missing(names.get($index).copied().unwrap_or("?"))?,
                        }),)*))
                    }
                }

                let mut decoder = codec::Decoder::new(bytes);
                // A struct is read from a map by name or from an array by position, also from
                // one whose elements are all bytes, which is encoded as such.
                #[allow(clippy::let_unit_value, reason = "a list without parameters stores nothing")]
                let stored = Deserializer::deserialize_struct(
                    &mut decoder,
                    "arguments",
                    &[],
                    List::<$($mode),*>(names, PhantomData),
                )
                .map_err(misfit)?;
                decoder.finish().map_err(misfit)?;
                Ok(stored)
            }

            #[allow(unused_variables, reason = "a list without parameters stores nothing")]
            fn values<'s>(
                stored: &'s mut Self::Stored<'_>,
                streams: &Streams,
            ) -> Result<Self::Values<'s>, Failure> {
                Ok(($(
                    $mode::value(&mut stored.$index, streams)
                        .ok_or_else(|| misfit(UNFILLED))?,
                )*))
            }
        }
    )*};
}

parameter_lists! {
    ()
    (A a 0)
    (A a 0, B b 1)
    (A a 0, B b 1, C c 2)
    (A a 0, B b 1, C c 2, D d 3)
    (A a 0, B b 1, C c 2, D d 3, E e 4)
    (A a 0, B b 1, C c 2, D d 3, E e 4, F f 5)
    (A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6)
    (A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (Ref<str>, Own<Option<u8>>);

    fn decode(bytes: &[u8]) -> Result<(String, Option<u8>), String> {
        Pair::decode(&["name", "count"], bytes, |(name, count)| {
            Ok((name.to_owned(), count))
        })
        .map_err(|failure| failure.message)
    }

    #[test]
    fn by_position_and_by_name_are_the_same() {
        let position = Pair::encode(&("zaltu", Some(3))).expect("encodes");
        let name = codec::to_vec(&std::collections::BTreeMap::from([
            ("count", codec::Value::from(3)),
            ("name", codec::Value::from("zaltu")),
        ]))
        .expect("encodes");
        assert_eq!(decode(&position), Ok(("zaltu".into(), Some(3))));
        assert_eq!(decode(&name), decode(&position));
    }

    #[test]
    fn a_missing_option_is_none_and_anything_else_is_missed() {
        let one = codec::to_vec(&("zaltu",)).expect("encodes");
        assert_eq!(decode(&one), Ok(("zaltu".into(), None)));
        let none: &[u8] = &[0x90];
        assert!(
            decode(none)
                .unwrap_err()
                .contains("argument `name` is missing")
        );
    }

    #[test]
    fn mistakes_name_the_argument() {
        let wrong = codec::to_vec(&(7, 1)).expect("encodes");
        assert!(decode(&wrong).unwrap_err().contains("argument `name`"));
        let many = codec::to_vec(&("a", 1, 2)).expect("encodes");
        assert!(
            decode(&many)
                .unwrap_err()
                .contains("too many arguments: 2 expected, 3 found")
        );
        let unknown =
            codec::to_vec(&std::collections::BTreeMap::from([("nmae", "x")])).expect("encodes");
        assert!(
            decode(&unknown)
                .unwrap_err()
                .contains("there is no parameter `nmae`, only: name, count")
        );
    }
}
