use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize, Serializer};

use crate::codec::{ErrorKind, Value, from_value, to_vec};

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Order {
    items: Vec<Item>,
    #[serde(default)]
    extra: BTreeMap<Value1, u8>,
    #[serde(default)]
    shape: Option<Shape>,
}

/// A key of either kind.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
enum Value1 {
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Item {
    name: String,
    #[serde(default)]
    count: u8,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
enum Shape {
    Empty,
    Circle { radius: f64 },
    Line(i8, i8),
}

/// Checks what is said about JSON that is not a `T`.
#[track_caller]
fn check<T: for<'de> Deserialize<'de> + Debug>(json: &str, expected: &str) {
    let value = Value::from_json(json).expect("is JSON");
    assert_eq!(
        from_value::<T>(value)
            .expect_err("does not fit")
            .to_string(),
        expected
    );
}

#[test]
fn mistakes_have_a_place() {
    check::<Order>(
        r#"{"items": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": 7}]}"#,
        "items[3].name: expected a string, found integer 7",
    );
    check::<Order>(
        r#"{"items": [{"count": 1}]}"#,
        "items[0]: missing field `name`",
    );
    check::<Order>(r#"{}"#, "missing field `items`");
    check::<Order>(
        r#"{"items": [["a", 300]]}"#,
        "items[0][1]: integer 300 is out of range, expected u8",
    );
    check::<Vec<[u8; 2]>>(
        "[[1]]",
        "[0]: expected an array of length 2, found 1 element",
    );
    check::<Order>(
        r#"{"items": [["a", 1, 2]]}"#,
        "items[0]: expected 2 elements, found 3 elements",
    );
    check::<Order>(
        r#"{"items": {"a": 1}}"#,
        "items: expected a sequence, found map",
    );
    check::<Order>(
        r#"{"items": [null]}"#,
        "items[0]: expected struct Item, found nil",
    );
    check::<Order>(
        r#"{"items": [], "extra": {"odd key": -1}}"#,
        "extra[\"odd key\"]: integer -1 is out of range, expected u8",
    );
    check::<Order>(
        r#"{"items": [], "extra": {"$map": [[7, "x"]]}}"#,
        "extra.7: expected u8, found string",
    );
    check::<Order>(r#"{"items": [], "items": []}"#, "duplicate field `items`");
    check::<(u8, (u8, bool))>(
        r#"[1, [2, 3]]"#,
        "[1][1]: expected a boolean, found integer 3",
    );
    check::<u8>(r#"{"$bytes": ""}"#, "expected u8, found bytes");
    check::<[u16; 2]>(
        r#"{"$bytes": "AAEC"}"#,
        "expected 2 elements, found 3 elements",
    );
    check::<Vec<bool>>(
        r#"{"$bytes": "AA=="}"#,
        "[0]: expected a boolean, found integer 0",
    );
}

#[test]
fn mistakes_in_enums_have_a_place() {
    let shape = |shape: &str, expected: &str| {
        check::<Order>(&format!(r#"{{"items": [], "shape": {shape}}}"#), expected);
    };
    shape(
        r#"{"Circle": {"radius": "x"}}"#,
        "shape.Circle.radius: expected f64, found string",
    );
    shape(
        r#"{"Line": [1, 1000]}"#,
        "shape.Line[1]: integer 1000 is out of range, expected i8",
    );
    shape(
        r#""Square""#,
        "shape: expected one of `Empty`, `Circle`, `Line`, found `Square`",
    );
    shape(
        r#"{"Square": 1}"#,
        "shape: expected one of `Empty`, `Circle`, `Line`, found `Square`",
    );
    shape(
        r#"{"Empty": 1}"#,
        "shape.Empty: expected unit, found integer 1",
    );
    shape(r#"7"#, "shape: expected enum Shape, found integer 7");
    shape(
        r#"{"Empty": null, "Line": [1, 2]}"#,
        "shape: expected enum Shape, found map with 2 entries instead of one",
    );
    shape(
        r#"{"$some": null}"#,
        "shape: expected enum Shape, found nil",
    );
    shape(
        r#"{"$ext": [9, ""]}"#,
        "shape: expected enum Shape, found extension of type 9",
    );
}

#[test]
fn numbers_that_do_not_fit_are_shown() {
    check::<i32>(
        "2147483648",
        "integer 2147483648 is out of range, expected i32",
    );
    check::<u64>("-1", "integer -1 is out of range, expected u64");
    check::<u64>(
        "18446744073709551616",
        "integer 18446744073709551616 is out of range, expected u64",
    );
    check::<u128>(
        "-9223372036854775809",
        "integer -9223372036854775809 is out of range, expected u128",
    );
    check::<i128>(
        &u128::MAX.to_string(),
        &format!("integer {} is out of range, expected i128", u128::MAX),
    );
    check::<f64>(
        "9007199254740993",
        "integer 9007199254740993 is out of range, expected f64",
    );
    check::<f32>("1e39", "float 1e39 is out of range, expected f32");
    check::<i32>("1.0", "expected i32, found float 1.0");
    check::<char>("\"ab\"", "expected a character, found string");
}

#[test]
fn long_names_and_deep_paths_are_shortened() {
    let long = "x".repeat(1_000_000);
    let value = Value::from_iter([(long.as_str(), Value::from("y"))]);
    let error = from_value::<BTreeMap<String, u8>>(value).expect_err("does not fit");
    assert_eq!(
        error.path().chars().count(),
        r#"["…"]"#.len() - '…'.len_utf8() + 1 + 64
    );
    let error = from_value::<Shape>(Value::from(long)).expect_err("does not fit");
    assert!(error.to_string().len() < 300, "{error}");

    #[derive(Debug, Serialize, Deserialize)]
    struct Node(Vec<Node>);
    let deep = (0..200).fold(Node(vec![]), |node, _| Node(vec![node]));
    let error = to_vec(&deep).expect_err("is too deep");
    assert_eq!(
        error.to_string(),
        format!(
            "{}…: more than 128 lists, maps and extensions are inside one another",
            "[0]".repeat(24)
        )
    );
}

#[test]
fn what_refuses_to_be_encoded_has_a_place() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no clock is set"))
        }
    }
    #[derive(Serialize)]
    enum Part {
        Clock(Refuses),
    }
    #[derive(Serialize)]
    struct Device {
        parts: BTreeMap<u8, (u8, Part)>,
    }
    let device = Device {
        parts: BTreeMap::from([(3, (1, Part::Clock(Refuses)))]),
    };
    let error = to_vec(&device).expect_err("refuses");
    assert_eq!(error.to_string(), "parts.3[1].Clock: no clock is set");
    assert_eq!(error.path(), "parts.3[1].Clock");
    assert!(
        matches!(error.kind(), ErrorKind::Unserializable { message } if message == "no clock is set")
    );
}
