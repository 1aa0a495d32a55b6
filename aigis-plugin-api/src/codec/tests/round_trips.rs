use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

use super::{Random, check};
use crate::codec::{Value, from_slice, from_value, to_value, to_vec};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Everything {
    flag: bool,
    small: i8,
    large: u64,
    huge: u128,
    tiny: i128,
    single: f32,
    double: f64,
    letter: char,
    name: String,
    bytes: Vec<u8>,
    fixed: [u8; 3],
    list: Vec<i32>,
    pair: (u8, u8),
    triple: (u8, String, Option<u8>),
    maybe: Option<Box<Everything>>,
    nested: Option<Option<Option<u8>>>,
    nothing: Option<()>,
    unit: (),
    unit_struct: Unit,
    newtype: Newtype,
    colour: Rgb,
    shapes: Vec<Shape>,
    by_name: HashMap<String, Vec<u8>>,
    by_place: BTreeMap<(i32, i32), String>,
    by_letter: BTreeMap<char, Option<bool>>,
    set: BTreeSet<u16>,
    #[serde(rename = "type")]
    kind: Tagged,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Newtype(Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Rgb(u8, u8, u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Level(u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line((i32, i32), (i32, i32)),
    Pixel(u8, u8),
    Named {
        name: String,
        inner: Option<Box<Shape>>,
    },
    Wrapped(()),
    Maybe(Option<u8>),
    Raw(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Empty,
    Point { x: i64, y: f64 },
    Data { bytes: Vec<u8>, address: [u8; 4] },
    Other(Inner),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    pair: (u8, u8),
    deep: Option<Option<u8>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Empty,
    One(Vec<u8>),
    Two(u8, u8),
    Many { a: u128, b: Option<()> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f64),
    Text(String),
    Fixed([u8; 2]),
    Data { data: Vec<u8> },
    List(Vec<Untagged>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    rest: BTreeMap<String, Vec<u8>>,
}

/// A sequence that says how long it is, or not, or wrongly.
#[derive(Clone)]
struct Items(Option<usize>, Vec<u16>);
impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(self.0)?;
        for item in &self.1 {
            match u8::try_from(*item) {
                Ok(byte) => seq.serialize_element(&byte)?,
                Err(_) => seq.serialize_element(item)?,
            }
        }
        seq.end()
    }
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::Empty,
        Shape::Circle(0.1),
        Shape::Line((0, -1), (1 << 20, i32::MIN)),
        Shape::Pixel(1, 255),
        Shape::Named {
            name: "é".into(),
            inner: Some(Box::new(Shape::Named {
                name: String::new(),
                inner: None,
            })),
        },
        Shape::Wrapped(()),
        Shape::Maybe(None),
        Shape::Maybe(Some(7)),
        Shape::Raw(vec![0, 1, 2]),
        Shape::Raw(vec![]),
    ]
}

pub(super) fn everything() -> Everything {
    let mut value = Everything {
        flag: true,
        small: -128,
        large: u64::MAX,
        huge: u128::MAX,
        tiny: i128::MIN,
        single: 0.1,
        double: -1e300,
        letter: '𝄞',
        name: "zaltu".into(),
        bytes: (0..=255).collect(),
        fixed: [1, 2, 255],
        list: vec![-1, 0, 127, 128, 65536],
        pair: (200, 1),
        triple: (1, "x".into(), Some(0)),
        maybe: None,
        nested: Some(Some(None)),
        nothing: Some(()),
        unit: (),
        unit_struct: Unit,
        newtype: Newtype(vec![String::new()]),
        colour: Rgb(1, 2, 3),
        shapes: shapes(),
        by_name: HashMap::from([("a".into(), vec![1]), ("b".into(), vec![])]),
        by_place: BTreeMap::from([((0, -1), "here".into())]),
        by_letter: BTreeMap::from([('x', None), ('y', Some(true))]),
        set: BTreeSet::from([1, 300]),
        kind: Tagged::Data {
            bytes: vec![9; 300],
            address: [127, 0, 0, 1],
        },
        absent: None,
    };
    value.maybe = Some(Box::new(value.clone()));
    value
}

/// Encoded samples of typed values.
pub(super) fn zoo() -> Vec<Vec<u8>> {
    let mut zoo: Vec<_> = shapes()
        .iter()
        .map(|shape| to_vec(shape).expect("encodes"))
        .collect();
    zoo.push(to_vec(&everything()).expect("encodes"));
    zoo.push(
        to_vec(&Adjacent::Many {
            a: u128::MAX,
            b: Some(()),
        })
        .expect("encodes"),
    );
    zoo
}

#[test]
fn scalars() {
    check(true);
    check(());
    check('\u{10ffff}');
    check(String::from("ä€𝄞\0"));
    check("x".repeat(70_000));
    check(NonZeroU16::MAX);
    check(Unit);
    check(Newtype(vec!["a".into()]));
    for value in [
        0,
        1,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        u32::MAX.into(),
        1 << 32,
        u64::MAX,
    ] {
        check(value);
        check(u128::from(value));
    }
    for value in [
        -1,
        -32,
        -33,
        -128,
        -129,
        -32_768,
        -32_769,
        i64::from(i32::MIN) - 1,
        i64::MIN,
    ] {
        check(value);
        check(i128::from(value));
    }
    check(i128::MIN);
    check(i128::MAX);
    check(u128::MAX);
    check(i128::from(u64::MAX) + 1);
    check(i128::from(i64::MIN) - 1);
    let mut random = Random(1);
    for _ in 0..2000 {
        let wide = random.wide();
        check(wide);
        check(wide as i128);
        check(wide as i64);
        check(wide as u32);
        check(wide as i16);
        check(wide as u8);
    }
}

#[test]
fn floats_keep_every_bit() {
    let mut random = Random(2);
    let special = [
        0,
        1 << 63,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7ff8_0000_0000_0001,
        u64::MAX,
    ];
    for bits in special.into_iter().chain((0..1000).map(|_| random.next())) {
        let float = f64::from_bits(bits);
        let bytes = to_vec(&float).expect("encodes");
        assert_eq!(from_slice::<f64>(&bytes).expect("decodes").to_bits(), bits);
        let value: Value = from_slice(&bytes).expect("decodes");
        let value = Value::from_json(&value.to_json()).expect("is JSON");
        assert_eq!(value.as_f64().map(f64::to_bits), Some(bits));

        let single = f32::from_bits(bits as u32);
        let bytes = to_vec(&single).expect("encodes");
        assert_eq!(
            from_slice::<f32>(&bytes).expect("decodes").to_bits(),
            bits as u32
        );
    }
}

#[test]
fn options_inside_options() {
    type Deep = Option<Option<Option<()>>>;
    for value in [None, Some(None), Some(Some(None)), Some(Some(Some(())))] as [Deep; 4] {
        check(value);
        check(vec![value, value]);
        check((value, 1));
        check(Shape::Maybe(None));
        check(Some(Some(value)));
    }
    check(Some(Some(5)));
    check(vec![Some(1_u8), Some(2)]);
    check(vec![Some(1_u8), None]);
    check(Some(Unit));
    check(Some(Value::Nil));
    check(Some(Value::Some(Box::new(Value::from("x")))));
}

#[test]
fn sequences_of_bytes() {
    check(Vec::<u8>::new());
    check(vec![0_u8, 127, 128, 255]);
    check((0..100_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    check([1_u8, 2]);
    check([255_u8; 32]);
    check((1_u8, 2_u8));
    check((255_u8, 2_u16, 255_u8));
    check((1_u8, 200_u8, "x".to_owned(), vec![1_u8]));
    check((1_u8, (2_u8, (3_u8, "deep".to_owned()))));
    check(vec![Level(1), Level(255)]);
    check(vec![Rgb(1, 2, 3)]);
    check(vec![vec![1_u8], vec![], vec![2, 3]]);
    check(BTreeSet::from([1_u8, 2]));
    check(vec![(1_u8, 2_u8), (3, 4)]);
    check(HashMap::from([(vec![1_u8], "x".to_owned())]));
}

#[test]
fn bytes_beside_what_only_looks_like_them() {
    check((1_u8, Some(200_u8)));
    check((1_u8, Some(Some(200_u8)), 200_u8));
    check((1_u8, vec![200_u8], 200_u8));
    check((1_u8, BTreeMap::from([(200_u8, 201_u8)])));
    check((1_u8, 200_i16, 200_u16));
    check((200_u8, Level(201), Value::from(202)));
    check((200_u8, Some(Value::from(Some(())))));
    // The header of the inner sequence gets shorter, which moves the end of the output back.
    let inner = vec![Items(Some(70_000), vec![1]); 9];
    let bytes = to_vec(&(inner, 200_u8, 0_u16)).expect("encodes");
    let again: (Vec<Vec<u8>>, u8, u16) = from_slice(&bytes).expect("decodes");
    assert_eq!(again, (vec![vec![1]; 9], 200, 0));
    for filler in 0..12 {
        let bytes = to_vec(&(
            Items(Some(70_000), vec![1; 3]),
            vec![0_u16; filler],
            Shape::Circle(1.0),
            200_u8,
        ))
        .expect("encodes");
        let again: (Vec<u8>, Vec<u16>, Shape, u8) = from_slice(&bytes).expect("decodes");
        assert_eq!(
            again,
            (vec![1; 3], vec![0; filler], Shape::Circle(1.0), 200)
        );
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Fields<T> {
        a: T,
        b: u8,
    }
    let bytes = to_vec(&Fields {
        a: Items(Some(70_000), vec![1, 2]),
        b: 200,
    })
    .expect("encodes");
    assert_eq!(
        from_slice::<Fields<Vec<u8>>>(&bytes).expect("decodes"),
        Fields {
            a: vec![1, 2],
            b: 200
        }
    );
}

#[test]
fn maps_with_any_keys() {
    check(BTreeMap::from([
        ((1, "a".to_owned()), vec![1_u8]),
        ((2, String::new()), vec![]),
    ]));
    check(BTreeMap::from([(None, 1), (Some(1), 2)]));
    check(BTreeMap::from([(true, ()), (false, ())]));
    check(BTreeMap::from([(Newtype(vec!["$bytes".into()]), 1.5)]));
    check(BTreeMap::from([("$bytes".to_owned(), "x".to_owned())]));
    check(
        (0..66_000)
            .map(|n| (n, n * 2))
            .collect::<HashMap<u32, u32>>(),
    );
}

#[test]
fn structs_and_enums() {
    check(everything());
    for shape in shapes() {
        check(shape.clone());
        check(BTreeMap::from([("shape".to_owned(), Some(shape))]));
    }
    for tagged in [
        Tagged::Empty,
        Tagged::Point { x: -1, y: 1.0 },
        Tagged::Data {
            bytes: vec![1, 2],
            address: [127, 0, 0, 1],
        },
        Tagged::Data {
            bytes: vec![],
            address: [0; 4],
        },
        Tagged::Other(Inner {
            pair: (1, 2),
            deep: Some(None),
        }),
    ] {
        check(tagged);
    }
    for adjacent in [
        Adjacent::Empty,
        Adjacent::One(vec![1, 2]),
        Adjacent::Two(1, 2),
        Adjacent::Many {
            a: u128::MAX,
            b: Some(()),
        },
        Adjacent::Many { a: 1, b: None },
    ] {
        check(adjacent);
    }
    for untagged in [
        Untagged::Number(-7),
        Untagged::Float(0.5),
        Untagged::Text("x".into()),
        Untagged::Fixed([1, 2]),
        Untagged::Data {
            data: vec![0, 255, 7],
        },
        Untagged::List(vec![Untagged::Number(1), Untagged::Text("y".into())]),
    ] {
        check(untagged);
    }
    check(Flat {
        id: 1,
        inner: Inner {
            pair: (3, 4),
            deep: Some(Some(1)),
        },
        rest: BTreeMap::from([("x".into(), vec![1, 2, 3]), ("y".into(), vec![])]),
    });
}

#[test]
fn types_of_std() {
    check("127.0.0.1".parse::<IpAddr>().expect("an address"));
    check(SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
    check(Duration::new(1, 999_999_999));
    check(SystemTime::UNIX_EPOCH + Duration::from_nanos(1));
    check(PathBuf::from("/tmp/x"));
    check(Ok::<u8, String>(1));
    check(Err::<u8, String>("no".into()));
    check(0..10);
    check(std::num::Wrapping(3_i16));
    check(std::ops::Bound::Included(3));
}

#[test]
fn borrowed_data() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Borrowed<'a> {
        name: &'a str,
        #[serde(borrow)]
        text: Cow<'a, str>,
        data: &'a [u8],
        more: Option<&'a [u8]>,
    }
    for data in [&b"\0\xff"[..], b""] {
        let value = Borrowed {
            name: "n",
            text: Cow::Borrowed("t"),
            data,
            more: Some(data),
        };
        let bytes = to_vec(&value).expect("encodes");
        let again: Borrowed<'_> = from_slice(&bytes).expect("decodes");
        assert_eq!(again, value);
        assert!(
            bytes.as_ptr_range().contains(&again.name.as_ptr()),
            "the name is a copy"
        );
        assert!(matches!(again.text, Cow::Borrowed(_)), "the text is a copy");
        assert!(
            data.is_empty() || bytes.as_ptr_range().contains(&again.data.as_ptr()),
            "the data is a copy"
        );
    }
}

#[test]
fn lengths_that_were_not_known_or_not_true() {
    struct Entries(Option<usize>, Vec<u16>);
    impl Serialize for Entries {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(self.0)?;
            for item in &self.1 {
                map.serialize_entry(item, item)?;
            }
            map.end()
        }
    }
    for len in [0, 1, 15, 16, 255, 256, 65_535] {
        let low: Vec<u16> = (0..len).map(|n| (n % 256) as u16).collect();
        let mut high = low.clone();
        high.push(1000);
        for items in [low, high] {
            for declared in [None, Some(0), Some(1), Some(items.len()), Some(70_000)] {
                let bytes = to_vec(&Items(declared, items.clone())).expect("encodes");
                assert!(
                    from_slice::<Vec<u16>>(&bytes).expect("decodes") == items,
                    "{declared:?}, {}",
                    items.len()
                );
                let bytes = to_vec(&Entries(declared, items.clone())).expect("encodes");
                let entries = from_slice::<Value>(&bytes).expect("decodes");
                assert_eq!(
                    entries.as_map().map(<[_]>::len),
                    Some(items.len()),
                    "{declared:?}"
                );
            }
        }
    }
}

#[test]
fn every_element_is_serialised_once() {
    struct Once(RefCell<Option<Vec<u8>>>);
    impl Serialize for Once {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0
                .take()
                .expect("serialised once")
                .serialize(serializer)
        }
    }
    let once = || Once(RefCell::new(Some(vec![1])));
    assert_eq!(
        to_vec(&(1_u8, once(), once())).expect("encodes"),
        b"\x93\x01\xc4\x01\x01\xc4\x01\x01"
    );
}

#[test]
fn values_and_types() {
    let value = to_value(&everything()).expect("encodes");
    assert_eq!(
        value
            .get("bytes")
            .and_then(Value::as_bytes)
            .map(<[u8]>::len),
        Some(256)
    );
    assert_eq!(from_value::<Everything>(value).expect("fits"), everything());
}
