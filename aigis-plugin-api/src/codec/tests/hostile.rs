use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::round_trips::Everything;
use super::{Random, hex, samples};
use crate::codec::{Error, ErrorKind, MAX_DEPTH, Value, from_slice, to_value, to_vec};

/// Reads the bytes as many types; what matters is that each attempt ends with a value or an error.
fn read_as_anything(bytes: &[u8]) {
    let _ = from_slice::<Value>(bytes);
    let _ = from_slice::<IgnoredAny>(bytes);
    let _ = from_slice::<Everything>(bytes);
    let _ = from_slice::<(Vec<i16>, &str)>(bytes);
    let _ = from_slice::<BTreeMap<Option<i8>, (f32, u8)>>(bytes);
    let _ = from_slice::<Option<Option<i128>>>(bytes);
    let _ = from_slice::<Loop>(bytes);
    let _ = from_slice::<Buffered>(bytes);
}

/// A type of which serde buffers the content.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only whether it can be read matters")]
enum Buffered {
    Bytes { data: Vec<u8> },
    List(Vec<Buffered>),
    Other(Value),
}

/// A type that contains itself through nothing that takes input.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Loop(Option<Box<Loop>>);

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Node>>,
}

fn node(depth: usize) -> Node {
    (1..depth).fold(Node::default(), |node, _| Node {
        next: Some(Box::new(node)),
    })
}

#[track_caller]
fn fails<'de, T: Deserialize<'de> + Debug>(bytes: &'de [u8]) -> ErrorKind {
    from_slice::<T>(bytes)
        .expect_err("is refused")
        .kind()
        .clone()
}

#[test]
fn every_truncation_is_an_error() {
    for sample in samples() {
        let ends = (0..sample.len().min(400)).chain((400..sample.len()).step_by(97));
        for end in ends {
            for error in [
                from_slice::<Value>(&sample[..end]).expect_err("is cut off"),
                from_slice::<IgnoredAny>(&sample[..end]).expect_err("is cut off"),
            ] {
                assert!(
                    matches!(error.kind(), ErrorKind::Truncated { offset, .. } if *offset <= end),
                    "{error} at {end} of {sample:02x?}"
                );
            }
            read_as_anything(&sample[..end]);
        }
        let mut longer = sample.clone();
        longer.push(0xc0);
        let offset = sample.len();
        assert_eq!(
            fails::<Value>(&longer),
            ErrorKind::Trailing { offset, count: 1 }
        );
    }
}

#[test]
fn random_mutations_never_panic() {
    let mut random = Random(3);
    let samples = samples();
    for round in 0..2000 {
        let mut bytes = samples[round % samples.len()].clone();
        bytes.truncate(600);
        for _ in 0..=random.below(4) {
            let place = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[place] = random.next() as u8,
                1 => bytes.insert(place, random.next() as u8),
                _ => bytes[place] ^= 1 << random.below(8),
            }
        }
        read_as_anything(&bytes);
    }
    for _ in 0..2000 {
        let bytes = random.bytes();
        read_as_anything(&bytes);
    }
}

#[test]
fn what_is_read_is_written_and_read_again() {
    let mut random = Random(4);
    let samples = samples();
    for round in 0..2000 {
        let mut bytes = samples[round % samples.len()].clone();
        let place = random.below(bytes.len());
        bytes[place] = random.next() as u8;
        if let Ok(value) = from_slice::<Value>(&bytes) {
            let first = to_vec(&value).expect("encodes");
            let again: Value = from_slice(&first).expect("decodes");
            assert_eq!(to_vec(&again).expect("encodes"), first);
        }
    }
}

/// A visitor that would allocate whatever the input claims.
#[derive(Debug)]
struct Trusting;

impl<'de> Deserialize<'de> for Trusting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Trusting)
    }
}

impl<'de> Visitor<'de> for Trusting {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self, A::Error> {
        panic!("a list of {:?} elements was believed", seq.size_hint())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self, A::Error> {
        panic!("a map of {:?} entries was believed", map.size_hint())
    }
}

#[test]
fn giant_lengths_are_not_believed() {
    for claim in [
        "c6ffffffff",
        "c9ffffffff05",
        "dbffffffff",
        "ddffffffff",
        "dfffffffff",
        "dcffff",
        "deffff",
        "c5ffff",
        "daffff",
        "c4ff",
        "c7ff05",
        "d9ff",
        "9f",
        "8f",
        "87c0c0c0c0",
        "bf",
        "d805",
        "c8ffff01",
    ] {
        let bytes = hex(claim);
        assert!(
            matches!(fails::<Trusting>(&bytes), ErrorKind::Truncated { .. }),
            "{claim}"
        );
        assert!(
            matches!(fails::<Value>(&bytes), ErrorKind::Truncated { .. }),
            "{claim}"
        );
        assert!(
            matches!(fails::<IgnoredAny>(&bytes), ErrorKind::Truncated { .. }),
            "{claim}"
        );
    }
    let error = from_slice::<Vec<u64>>(&hex("ddffffffff")).expect_err("claims too much");
    assert_eq!(
        error.to_string(),
        "the input is cut off at byte 5, expected 4294967295 list elements, found 0 bytes"
    );
}

#[test]
fn depth_has_a_limit() {
    /// Builds an input of so many levels, from the inside out.
    fn nested(levels: usize, wrap: fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        (0..levels).fold(vec![0xc0], |inner, _| wrap(inner))
    }
    let list: fn(Vec<u8>) -> Vec<u8> = |inner| [&[0x91][..], &inner].concat();
    let map: fn(Vec<u8>) -> Vec<u8> = |inner| [&[0x81, 0x01][..], &inner].concat();
    let key: fn(Vec<u8>) -> Vec<u8> = |inner| [&[0x81][..], &inner, &[0x01]].concat();
    let some: fn(Vec<u8>) -> Vec<u8> = |inner| {
        let len = u32::try_from(inner.len()).expect("is short").to_be_bytes();
        [&[0xc9][..], &len, &[0x01], &inner].concat()
    };
    for wrap in [list, map, key, some] {
        let value: Value = from_slice(&nested(MAX_DEPTH, wrap)).expect("is just not too deep");
        let json = value.to_json();
        assert_eq!(
            Value::from_json(&json).expect("is not too deep for JSON either"),
            value
        );
        assert_eq!(
            to_value(&value).expect("is not too deep to be encoded"),
            value
        );
        from_slice::<IgnoredAny>(&nested(MAX_DEPTH, wrap)).expect("is just not too deep");
        assert_eq!(
            fails::<Value>(&nested(MAX_DEPTH + 1, wrap)),
            ErrorKind::Depth
        );
        read_as_anything(&nested(MAX_DEPTH + 1, wrap));
        read_as_anything(&nested(2000, wrap));
    }
    for wrap in [list, map, key] {
        assert_eq!(
            fails::<IgnoredAny>(&nested(MAX_DEPTH + 1, wrap)),
            ErrorKind::Depth
        );
        assert_eq!(fails::<IgnoredAny>(&nested(2000, wrap)), ErrorKind::Depth);
    }
    // The lengths are right, but nothing closes.
    assert_eq!(fails::<Value>(&[0x91; 1_000_000]), ErrorKind::Depth);
    assert_eq!(fails::<IgnoredAny>(&[0x91; 1_000_000]), ErrorKind::Depth);
}

#[test]
fn depth_has_a_limit_when_encoding() {
    let deepest = to_vec(&node(MAX_DEPTH)).expect("is just not too deep");
    from_slice::<Node>(&deepest).expect("can be read back");
    let error = to_vec(&node(MAX_DEPTH + 1)).expect_err("is too deep");
    assert_eq!(*error.kind(), ErrorKind::Depth);

    let lists = |depth| (0..depth).fold(Value::Nil, |value, _| Value::List(vec![value]));
    to_value(&lists(MAX_DEPTH)).expect("is just not too deep");
    assert_eq!(
        *to_vec(&lists(MAX_DEPTH + 1))
            .expect_err("is too deep")
            .kind(),
        ErrorKind::Depth
    );
}

#[test]
fn types_that_contain_themselves_end() {
    let chain = |len| (0..len).fold(Loop(None), |inner, _| Loop(Some(Box::new(inner))));
    let bytes = to_vec(&chain(MAX_DEPTH)).expect("is just not too deep");
    from_slice::<Loop>(&bytes).expect("can be read back");
    assert_eq!(
        *to_vec(&chain(MAX_DEPTH + 1))
            .expect_err("is too deep")
            .kind(),
        ErrorKind::Depth
    );
    assert_eq!(
        *to_vec(&chain(2000)).expect_err("is too deep").kind(),
        ErrorKind::Depth
    );
    assert_eq!(fails::<Loop>(b"\xa1x"), ErrorKind::Depth);
}

#[test]
fn malformed_input_is_refused() {
    let malformed = |bytes: &[u8]| matches!(fails::<Value>(bytes), ErrorKind::Malformed { .. });
    assert!(malformed(&hex("c1")));
    assert!(malformed(&hex("9201c1")));
    assert!(malformed(&hex("d40205")), "a wide integer of one byte");
    assert!(malformed(&hex("d501c0c0")), "two values in extension 1");
    assert!(
        matches!(fails::<Value>(&hex("c70001")), ErrorKind::Truncated { .. }),
        "no value in extension 1"
    );
    assert!(
        matches!(
            fails::<Value>(&hex("92d401a1c0")),
            ErrorKind::Truncated { .. }
        ),
        "a string that reaches out of extension 1"
    );
    assert_eq!(
        fails::<Value>(&hex("92 c0 a361ff62")),
        ErrorKind::Utf8 { offset: 4 }
    );
    assert_eq!(fails::<&str>(&hex("a2c328")), ErrorKind::Utf8 { offset: 1 });
}

#[test]
fn errors_are_small() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Value>(), 32);
}
