//! Calls with encoded arguments, and every kind of parameter and result.

use std::collections::{BTreeMap, HashMap};

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{Value, skill_type, skills};
use serde::{Deserialize, Serialize};

use crate::FakeHost;

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub label: Option<String>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    Empty,
    Dot(Point),
    Line { from: Point, to: Point },
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub value: u8,
    pub children: Vec<Tree>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Meters(pub f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    pub numbers: Vec<u16>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Tagged {
    First { value: u8 },
    Second,
}

pub struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no form"))
    }
}

#[skills]
pub mod kinds {
    use super::*;

    pub fn nothing() {}

    #[expect(clippy::too_many_arguments, reason = "as many as there can be")]
    pub fn scalars(a: bool, b: char, c: i8, d: i64, e: u8, f: u64, g: f32, h: f64) -> String {
        format!("{a} {b} {c} {d} {e} {f} {g} {h}")
    }

    pub fn wide(a: i128, b: u128) -> (i128, u128) {
        (a, b)
    }

    pub fn add(a: u8, b: u8) -> u8 {
        a + b
    }

    pub fn texts(lent: &str, owned: String, reference: &String) -> String {
        format!("{lent} {owned} {reference}")
    }

    pub fn bytes(lent: &[u8], mut owned: Vec<u8>) -> Vec<u8> {
        owned.extend(lent);
        owned
    }

    pub fn floats(lent: &[f64], owned: Vec<f64>) -> f64 {
        lent.iter().chain(&owned).sum()
    }

    pub fn options(a: Option<u8>, b: Option<String>, c: &Option<Vec<u8>>) -> String {
        format!("{a:?} {b:?} {c:?}")
    }

    pub fn tuples(a: (u8, String), b: &(bool,), c: [u16; 3]) -> String {
        format!("{a:?} {b:?} {c:?}")
    }

    pub fn map(lengths: HashMap<String, usize>) -> BTreeMap<String, usize> {
        lengths.into_iter().map(|(k, v)| (k, v + 1)).collect()
    }

    pub fn by_value(point: Point) -> Point {
        point
    }

    pub fn by_reference(point: &Point, figures: &[Figure]) -> Vec<Figure> {
        let mut figures = figures.to_vec();
        figures.push(Figure::Dot(point.clone()));
        figures
    }

    pub fn tree(tree: Tree) -> u8 {
        fn sum(tree: &Tree) -> u8 {
            tree.value + tree.children.iter().map(sum).sum::<u8>()
        }
        sum(&tree)
    }

    pub fn newtype(length: Meters) -> Meters {
        Meters(length.0 * 2.0)
    }

    pub fn plain(plain: &Plain, many: Vec<Plain>) -> usize {
        plain.numbers.len() + many.len()
    }

    pub fn tagged(tagged: Tagged) -> Tagged {
        match tagged {
            Tagged::First { .. } => Tagged::Second,
            Tagged::Second => Tagged::First { value: 1 },
        }
    }

    pub fn any(value: Value) -> Value {
        value
    }

    pub fn nested(level: u8) -> Option<Option<u8>> {
        match level {
            0 => None,
            1 => Some(None),
            n => Some(Some(n)),
        }
    }

    pub fn results_as_data(level: u8) -> Vec<Result<u8, String>> {
        vec![Ok(level), Err("no".to_owned())]
    }

    pub fn statics() -> &'static [&'static str] {
        &["a", "b"]
    }

    pub fn boxed(value: Box<Point>) -> Box<Point> {
        value
    }

    pub fn unwritable() -> Unwritable {
        Unwritable
    }

    pub fn mutable_binding(mut count: u8) -> u8 {
        count += 1;
        count
    }
}

fn point(x: f64) -> Point {
    Point {
        x,
        y: 0.5,
        label: None,
    }
}

#[test]
fn every_kind_of_value_crosses() {
    let host = FakeHost::shared();
    let none: [u8; 0] = [];
    assert_eq!(host.ask("kinds.nothing", none), Ok(()));
    assert_eq!(
        host.ask(
            "kinds.scalars",
            (true, 'ß', -8, i64::MIN, 255, u64::MAX, 1.5, -2.5)
        ),
        Ok("true ß -8 -9223372036854775808 255 18446744073709551615 1.5 -2.5".to_owned())
    );
    assert_eq!(
        host.ask("kinds.wide", (i128::MIN, u128::MAX)),
        Ok((i128::MIN, u128::MAX))
    );
    assert_eq!(
        host.ask("kinds.texts", ("a", "ä", "€")),
        Ok("a ä €".to_owned())
    );
    assert_eq!(
        host.ask("kinds.bytes", ([1_u8, 2].as_slice(), [3_u8])),
        Ok(vec![3_u8, 1, 2])
    );
    assert_eq!(
        host.ask("kinds.bytes", (Vec::<u8>::new(), Vec::<u8>::new())),
        Ok(Vec::<u8>::new())
    );
    assert_eq!(host.ask("kinds.floats", ([0.5, 1.0], [2.0])), Ok(3.5));
    assert_eq!(
        host.ask("kinds.options", (Some(1), None::<String>, Some(vec![2]))),
        Ok("Some(1) None Some([2])".to_owned())
    );
    assert_eq!(
        host.ask("kinds.tuples", ((1, "a"), (true,), [1, 2, 3])),
        Ok("(1, \"a\") (true,) [1, 2, 3]".to_owned())
    );
    assert_eq!(
        host.ask("kinds.map", (HashMap::from([("a", 1)]),)),
        Ok(BTreeMap::from([("a".to_owned(), 2_usize)]))
    );
    assert_eq!(host.ask("kinds.mutable_binding", (1,)), Ok(2));
}

#[test]
fn bytes_alone_are_a_list_of_arguments_too() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("kinds.add", (200_u8, 50_u8)), Ok(250_u8));
    assert_eq!(host.ask("kinds.add", (1_i64, 2_i64)), Ok(3_u8));
    assert_eq!(host.ask("kinds.nested", (1_u8,)), Ok(Some(None::<u8>)));
}

#[test]
fn types_of_the_author_cross() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("kinds.by_value", (point(1.0),)), Ok(point(1.0)));
    assert_eq!(host.ask("kinds.boxed", (point(1.0),)), Ok(point(1.0)));
    let line = Figure::Line {
        from: point(1.0),
        to: point(2.0),
    };
    assert_eq!(
        host.ask(
            "kinds.by_reference",
            (point(3.0), [Figure::Empty, line.clone()])
        ),
        Ok(vec![Figure::Empty, line, Figure::Dot(point(3.0))])
    );
    let tree = Tree {
        value: 1,
        children: vec![Tree {
            value: 2,
            children: Vec::new(),
        }],
    };
    assert_eq!(host.ask("kinds.tree", (tree,)), Ok(3_u8));
    assert_eq!(host.ask("kinds.newtype", (1.5,)), Ok(3.0));
    let plain = Plain {
        numbers: vec![1, 2],
    };
    assert_eq!(host.ask("kinds.plain", (&plain, vec![&plain])), Ok(3_usize));
    assert_eq!(
        host.ask("kinds.tagged", (Tagged::Second,)),
        Ok(Tagged::First { value: 1 })
    );
    let value = Value::from_iter([("a", Value::List(vec![Value::from(1), Value::Nil]))]);
    assert_eq!(host.ask("kinds.any", (&value,)), Ok(value));
}

#[test]
fn results_keep_their_structure() {
    let host = FakeHost::shared();
    for (level, expected) in [(0, None), (1, Some(None)), (2, Some(Some(2_u8)))] {
        assert_eq!(host.ask("kinds.nested", (level,)), Ok(expected));
    }
    assert_eq!(
        host.ask("kinds.results_as_data", (7,)),
        Ok(vec![Ok(7_u8), Err("no".to_owned())])
    );
    assert_eq!(
        host.ask("kinds.statics", ()),
        Ok(vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn arguments_are_given_by_position_or_by_name() {
    let host = FakeHost::shared();
    #[derive(Serialize)]
    struct ByName<'a> {
        owned: &'a str,
        reference: &'a str,
        lent: &'a str,
    }
    let by_name = ByName {
        owned: "b",
        reference: "c",
        lent: "a",
    };
    assert_eq!(host.ask("kinds.texts", by_name), Ok("a b c".to_owned()));
    // Options may be left out at the end, or anywhere by name.
    assert_eq!(
        host.ask("kinds.options", (Some(1),)),
        Ok("Some(1) None None".to_owned())
    );
    assert_eq!(
        host.ask("kinds.options", BTreeMap::from([("b", "x")])),
        Ok("None Some(\"x\") None".to_owned())
    );
}

fn refusal(name: &str, arguments: impl Serialize) -> String {
    let failure = FakeHost::shared()
        .ask::<Value>(name, arguments)
        .expect_err("the arguments do not fit");
    assert_eq!(failure.kind, FailureKind::Arguments, "{failure:?}");
    assert_eq!(failure.skill, name);
    failure.message
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    for (message, part) in [
        (refusal("kinds.add", (1_i32,)), "argument `b` is missing"),
        (refusal("kinds.add", ()), "argument `a` is missing"),
        (
            refusal("kinds.add", (1_i32, 2_i32, 3_i32)),
            "too many arguments: 2 expected, 3 found",
        ),
        (refusal("kinds.add", (1_i32, 256)), "argument `b`: "),
        (refusal("kinds.add", (1_i32, "two")), "argument `b`: "),
        (refusal("kinds.add", "one"), "a list of arguments"),
        (
            refusal("kinds.add", BTreeMap::from([("a", 1), ("c", 2)])),
            "there is no parameter `c`, only: a, b",
        ),
        (
            refusal("kinds.by_value", (BTreeMap::from([("x", 1.0)]),)),
            "argument `point`: missing field `y`",
        ),
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn bytes_that_are_not_encoded_arguments_are_refused() {
    let host = FakeHost::shared();
    for bytes in [
        &[][..],
        &[0xc0],
        &[0xc1],
        &[0x92, 1],
        &[0x92, 1, 2, 3],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
    ] {
        let failure = host.call("kinds.add", bytes).expect_err("is refused");
        assert_eq!(failure.kind, FailureKind::Arguments, "{bytes:?}: {failure}");
    }
}

#[test]
fn a_result_without_a_form_is_an_error() {
    let failure = FakeHost::shared()
        .call("kinds.unwritable", &[0x90])
        .expect_err("cannot be encoded");
    assert_eq!(failure.kind, FailureKind::Unserializable);
    assert_eq!(failure.skill, "kinds.unwritable");
    assert!(failure.message.contains("it has no form"), "{failure}");
}

#[test]
fn a_skill_that_is_not_there_is_an_error() {
    let mut out = aigis_plugin_api::abi::Buffer::default();
    let call = aigis_plugin_api::abi::descriptor().call;
    let status = call(u32::MAX, [0x90].as_slice().into(), &mut out);
    assert_eq!(status, aigis_plugin_api::abi::Status::Failed);
    let direct = aigis_plugin_api::abi::descriptor().direct;
    assert!(direct(u32::MAX).is_null());
}
