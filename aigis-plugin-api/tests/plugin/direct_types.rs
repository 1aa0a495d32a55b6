//! Every type with a direct form crosses as a result and as a parameter, owned and borrowed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use aigis_plugin_api::{CallError, skill_type, skills};

use crate::FakeHost;

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub id: Id,
    pub lines: Vec<Line>,
    pub note: Option<String>,
    paid: (bool, Option<f64>),
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Id(pub u64);

/// Less visible than the type it is a part of.
#[skill_type]
#[derive(Clone, Debug, PartialEq)]
struct Secret {
    key: [u8; 4],
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    #[serde(rename = "what")]
    pub text: String,
    #[serde(default)]
    pub count: u8,
    secret: Secret,
}

#[skill_type]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marker;

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Nothing {}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Three(pub u8, pub String, pub r#Marker);

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum One {
    Only { text: String },
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum Two {
    Empty,
    Full(Vec<Line>),
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum Trio {
    A(u8),
    B(u8, String),
    C { one: One, two: Box<Two> },
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum Nine {
    A,
    B(u8),
    C(String),
    D { a: u64, b: String },
    E(Vec<Nine1>),
    F(Option<Box<Nine1>>),
    G((u8, u16, u32)),
    H(Result<u8, String>),
    I([String; 2]),
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Nine1 {
    r#type: Trio,
}

/// One `#[skills]` module for a type, its imports, and a test that its values come back.
macro_rules! forms {
    ($($name:ident: $ty:ty = $values:expr;)*) => {
        $(
            #[skills]
            #[allow(clippy::ptr_arg, reason = "every type is lent, whatever it is")]
            pub mod $name {
                #[allow(unused_imports, reason = "a type of std needs none")]
                use super::*;

                pub fn own(value: $ty) -> $ty {
                    value
                }

                pub fn lent(value: &$ty) -> $ty {
                    value.clone()
                }

                pub fn several(count: u8, values: &[$ty], others: Vec<$ty>) -> Vec<$ty> {
                    let more = others.iter().take(usize::from(count)).cloned();
                    values.iter().cloned().chain(more).collect()
                }

                pub fn fails(value: $ty, panics: bool) -> Result<$ty, String> {
                    assert!(!panics, "fails with {value:?}");
                    Err(format!("{value:?}"))
                }
            }

            #[test]
            fn $name() {
                let host = FakeHost::shared();
                let skill = |skill: &str| format!("{}.{skill}", stringify!($name));
                let count = |name: &str| (host.entered(&skill(name)), host.encoded(&skill(name)));
                let values: Vec<$ty> = $values;
                for value in &values {
                    assert_eq!(imported::$name::own(value.clone()).as_ref(), Ok(value));
                    assert_eq!(imported::$name::lent(value).as_ref(), Ok(value));
                    assert_eq!(host.ask(&skill("lent"), (value,)).as_ref(), Ok(value), "encoded");
                    assert_eq!(
                        imported::$name::fails(value.clone(), false),
                        Err(CallError::Skill(format!("{value:?}"))),
                    );
                    let panicked = imported::$name::fails(value.clone(), true);
                    assert!(matches!(panicked, Err(CallError::Panicked { .. })), "{panicked:?}");
                }
                let many: Vec<$ty> = values.iter().cycle().take(1000).cloned().collect();
                for list in [&[], values.as_slice(), &many] {
                    let got = imported::$name::several(255, list, many.clone());
                    let more = many.iter().take(255);
                    let expected: Vec<$ty> = list.iter().chain(more).cloned().collect();
                    assert_eq!(got, Ok(expected));
                }
                assert_eq!(count("own"), (values.len(), 0));
                assert_eq!(count("lent"), (values.len(), 0));
                assert_eq!(count("fails"), (2 * values.len(), 0));
                assert_eq!(count("several"), (3, 0));
            }
        )*

        #[allow(clippy::ptr_arg, reason = "as above")]
        mod imported {
            use super::*;

            $(
                aigis_plugin_api::import! {
                    pub mod $name {
                        fn own(value: $ty) -> $ty;
                        fn lent(value: &$ty) -> $ty;
                        fn several(count: u8, values: &[$ty], others: Vec<$ty>) -> Vec<$ty>;
                        fn fails(value: $ty, panics: bool) -> Result<$ty, String>;
                    }
                }
            )*
        }
    };
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn line(text: &str) -> Line {
    Line {
        text: text.to_owned(),
        count: 3,
        secret: Secret { key: [1, 2, 3, 4] },
    }
}

fn orders() -> Vec<Order> {
    let small = Order {
        id: Id(1),
        lines: Vec::new(),
        note: None,
        paid: (false, None),
    };
    let large = Order {
        id: Id(u64::MAX),
        lines: (0..50).map(|n| line(&n.to_string())).collect(),
        note: Some(text("note")),
        paid: (true, Some(-0.5)),
    };
    vec![small, large]
}

fn two() -> Vec<Two> {
    vec![
        Two::Empty,
        Two::Full(Vec::new()),
        Two::Full(vec![line("a"), line("")]),
    ]
}

fn trio() -> Vec<Trio> {
    let one = || One::Only { text: text("one") };
    let all = two().into_iter().map(|two| Trio::C {
        one: one(),
        two: Box::new(two),
    });
    [Trio::A(1), Trio::B(2, text("b"))]
        .into_iter()
        .chain(all)
        .collect()
}

fn nine() -> Vec<Nine> {
    let inner = || trio().into_iter().map(|r#type| Nine1 { r#type });
    vec![
        Nine::A,
        Nine::B(2),
        Nine::C(text("c")),
        Nine::D { a: 4, b: text("d") },
        Nine::E(inner().collect()),
        Nine::F(None),
        Nine::F(inner().next().map(Box::new)),
        Nine::G((1, 2, 3)),
        Nine::H(Ok(8)),
        Nine::H(Err(text("h"))),
        Nine::I([text("i"), text("")]),
    ]
}

forms! {
    as_unit: () = vec![()];
    as_bool: bool = vec![true, false];
    as_char: char = vec!['a', '\u{10ffff}'];
    as_i128: i128 = vec![i128::MIN, -1, i128::MAX];
    as_u128: u128 = vec![0, u128::MAX];
    as_f32: f32 = vec![0.5, f32::INFINITY];
    as_text: String = vec![text(""), text("ä€𝄞\0"), "x".repeat(100_000)];
    as_numbers: Vec<u64> = vec![vec![], vec![1, u64::MAX], (0..10_000).collect()];
    as_words: Vec<String> = vec![vec![], vec![text("a"), text("")]];
    as_lists: Vec<Vec<Option<String>>> = vec![vec![], vec![vec![], vec![None, Some(text("b"))]]];
    as_units: Vec<()> = vec![vec![], vec![(), (), ()]];
    as_option: Option<String> = vec![None, Some(text("some"))];
    as_options: Option<Option<u32>> = vec![None, Some(Some(7))];
    as_box: Box<(u8, Box<(String, u8)>)> = vec![Box::new((1, Box::new((text("boxed"), 2))))];
    as_single: (String,) = vec![(text("single"),)];
    as_eight: (u8, String, u16, Option<u32>, Vec<u64>, f64, char, bool)
        = vec![(1, text("b"), 3, Some(4), vec![5], 6.0, '7', true)];
    as_seven: (u8, u8, u8, String, u8, u8, u8) = vec![(1, 2, 3, text("4"), 5, 6, 7)];
    as_array: [String; 3] = vec![[text("a"), text(""), text("c")]];
    as_bytes_array: [u8; 32] = vec![[7; 32]];
    as_result: Result<Vec<u8>, (String, u8)> = vec![Ok(vec![]), Ok(vec![1]), Err((text("e"), 2))];
    as_newtype: Id = vec![Id(0), Id(u64::MAX)];
    as_marker: Marker = vec![Marker];
    as_nothing: Nothing = vec![Nothing {}];
    as_three: Three = vec![Three(1, text("three"), Marker)];
    as_order: Order = orders();
    as_orders: HashedByNobody = vec![(orders(), vec![Err(text("no")), Ok(Id(1))])];
    as_one: One = vec![One::Only { text: text("only") }];
    as_two: Two = two();
    as_trio: Trio = trio();
    as_nine: Nine = nine();
}

/// An alias is looked through.
type HashedByNobody = (Vec<Order>, Vec<Result<Id, String>>);

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    value: u8,
    children: Vec<Self>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    right: Option<Box<Right>>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Right {
    left: Vec<Left>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct WithMap {
    map: HashMap<String, u8>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plain {
    a: u8,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct WithPlain {
    plain: Option<Plain>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub struct Renamed {
    a: u8,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct OfRenamed {
    renamed: Renamed,
}

#[skills]
pub mod roundabout {
    use super::*;

    pub fn tree(value: Tree) -> Tree {
        value
    }

    pub fn left(value: &Left) -> u8 {
        u8::from(value.right.is_some())
    }

    pub fn with_map(value: WithMap) -> usize {
        value.map.len()
    }

    pub fn with_plain() -> WithPlain {
        WithPlain {
            plain: Some(Plain { a: 1 }),
        }
    }

    pub fn renamed(value: OfRenamed) -> OfRenamed {
        value
    }

    pub fn map() -> HashMap<String, u8> {
        HashMap::from([("a".to_owned(), 1)])
    }

    /// A list of newtypes of bytes is bytes in the signature, and not in memory.
    pub fn bytes(value: Vec<Byte>) -> u8 {
        value.iter().map(|byte| byte.0).sum()
    }

    pub fn ids(value: Vec<Id>) -> u64 {
        value.iter().map(|id| id.0).sum()
    }
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Byte(u8);

mod around {
    use super::*;

    aigis_plugin_api::import! {
        pub mod roundabout {
            fn tree(value: &Tree) -> Tree;
            fn left(value: Left) -> u8;
            fn with_map(value: &WithMap) -> usize;
            fn with_plain() -> WithPlain;
            fn renamed(value: OfRenamed) -> OfRenamed;
            fn map() -> HashMap<String, u8>;
            fn bytes(value: &[u8]) -> u8;
            fn ids(value: &[u64]) -> u64;
        }
    }
}

#[test]
fn what_contains_itself_or_the_unknown_is_encoded() {
    use around::roundabout;
    let host = FakeHost::shared();
    let leaf = |value| Tree {
        value,
        children: Vec::new(),
    };
    let tree = Tree {
        value: 1,
        children: vec![leaf(2), leaf(3)],
    };
    assert_eq!(roundabout::tree(&tree), Ok(tree.clone()));
    let left = Left {
        right: Some(Box::new(Right {
            left: vec![Left { right: None }],
        })),
    };
    assert_eq!(roundabout::left(left), Ok(1));
    let with_map = WithMap {
        map: HashMap::from([("a".to_owned(), 1)]),
    };
    assert_eq!(roundabout::with_map(&with_map), Ok(1));
    assert_eq!(
        roundabout::with_plain(),
        Ok(WithPlain {
            plain: Some(Plain { a: 1 })
        })
    );
    let renamed = OfRenamed {
        renamed: Renamed { a: 1 },
    };
    assert_eq!(roundabout::renamed(renamed.clone()), Ok(renamed));
    assert_eq!(roundabout::map(), Ok(with_map.map));
    for name in ["tree", "left", "with_map", "with_plain", "renamed", "map"] {
        let name = format!("roundabout.{name}");
        assert!(!host.is_direct(&name), "{name}");
        assert_eq!((host.entered(&name), host.encoded(&name)), (0, 1), "{name}");
    }
}

#[test]
fn a_newtype_crosses_as_what_it_holds() {
    let host = FakeHost::shared();
    assert_eq!(around::roundabout::ids(&[1, 2]), Ok(3));
    assert_eq!(host.entered("roundabout.ids"), 1);
    // The signature says bytes, which cross as they lie in memory.
    assert_eq!(around::roundabout::bytes(&[1, 2]), Ok(3));
    assert!(host.is_direct("roundabout.bytes"));
    assert_eq!(host.entered("roundabout.bytes"), 1);
}

static MADE_AT: AtomicUsize = AtomicUsize::new(0);

#[skills]
pub mod adopted {
    use super::*;

    pub fn text(len: usize) -> String {
        let text = "x".repeat(len);
        MADE_AT.store(text.as_ptr().addr(), Ordering::SeqCst);
        text
    }

    pub fn numbers(len: u64) -> Vec<u64> {
        let numbers: Vec<u64> = (0..len).collect();
        MADE_AT.store(numbers.as_ptr().addr(), Ordering::SeqCst);
        numbers
    }
}

mod adopting {
    aigis_plugin_api::import! {
        pub mod adopted {
            fn text(len: usize) -> String;
            fn numbers(len: u64) -> Vec<u64>;
        }
    }
}

#[test]
fn results_in_the_memory_of_malloc_are_adopted() {
    FakeHost::shared();
    // Sizes that every thread has lists of its own of: larger ones are shared with the other tests,
    // and adopted in the test that has a program of its own.
    for len in [1, 100] {
        let mut text = adopting::adopted::text(len).expect("returns");
        assert_eq!(
            text.as_ptr().addr(),
            MADE_AT.load(Ordering::SeqCst),
            "{len}"
        );
        // It is this side's to grow and to free.
        text.push_str(&text.clone());
        assert_eq!(text.len(), 2 * len);
        let mut numbers = adopting::adopted::numbers(len as u64).expect("returns");
        assert_eq!(
            numbers.as_ptr().addr(),
            MADE_AT.load(Ordering::SeqCst),
            "{len}"
        );
        numbers.push(1);
        numbers.shrink_to_fit();
    }
}
