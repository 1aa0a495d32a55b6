//! Direct calls: an import enters the library that offers the skill, without serialisation.

use aigis_plugin_api::{CallError, skill_type, skills};

use crate::FakeHost;

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub a: u8,
    pub b: String,
}

#[skills]
pub mod swift {
    use std::collections::BTreeMap;

    use super::Pair;

    pub fn unit() {}

    pub fn scalars(a: i64, b: f32, c: usize, d: i8) -> f64 {
        a as f64 + f64::from(b) + c as f64 + f64::from(d)
    }

    pub fn invert(value: bool) -> bool {
        !value
    }

    pub fn upper(letter: char) -> char {
        letter.to_uppercase().next().unwrap_or(letter)
    }

    pub fn lent_text(text: &str) -> String {
        format!("<{text}>")
    }

    pub fn owned_text(mut text: String) -> String {
        text.push('!');
        text
    }

    pub fn lent_bytes(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().rev().copied().collect()
    }

    pub fn owned_bytes(mut bytes: Vec<u8>) -> usize {
        bytes.push(0);
        bytes.len()
    }

    pub fn sum(numbers: &[f64]) -> f64 {
        numbers.iter().sum()
    }

    pub fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_unstable();
        numbers
    }

    pub fn perhaps(number: Option<u8>) -> Option<u16> {
        number.map(|number| u16::from(number) + 1)
    }

    pub fn perhaps_text(some: bool) -> Option<String> {
        some.then(|| "text".to_owned())
    }

    pub fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    pub fn nested(count: u8) -> Vec<Vec<Option<String>>> {
        (0..count)
            .map(|n| {
                (0..n)
                    .map(|m| (m % 2 == 0).then(|| m.to_string()))
                    .collect()
            })
            .collect()
    }

    pub fn pair(text: &str) -> (u64, String) {
        (text.len() as u64, text.to_owned())
    }

    pub fn triple(text: &str) -> (bool, Option<String>, Vec<u8>) {
        (true, Some(text.to_owned()), text.as_bytes().to_vec())
    }

    pub fn checked(number: u8) -> Result<u8, String> {
        number.checked_add(1).ok_or_else(|| "too large".to_owned())
    }

    pub fn nothing_or_error(fails: bool) -> Result<(), String> {
        if fails {
            Err("fails".to_owned())
        } else {
            Ok(())
        }
    }

    pub fn panics(text: String) -> Vec<String> {
        panic!("direct panic with {text}")
    }

    pub fn six(a: u8, b: &str, c: Option<i32>, d: &[u16], e: String, f: bool) -> String {
        format!("{a} {b} {c:?} {d:?} {e} {f}")
    }

    pub const LIMIT: usize = 7;

    pub const NAMES: [&str; 2] = ["a", "b"];

    pub fn counts(text: &str) -> BTreeMap<String, u8> {
        let mut counts = BTreeMap::new();
        for word in text.split(' ') {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        counts
    }

    #[expect(clippy::too_many_arguments, reason = "as many as there can be")]
    pub fn eight(a: u8, b: u8, c: u8, d: u8, e: &str, f: u8, g: u8, h: Pair) -> u8 {
        a + b + c + d + f + g + e.len() as u8 + h.a
    }

    pub fn structure(pair: &Pair) -> Pair {
        pair.clone()
    }

    pub fn by_reference(number: &u32) -> u32 {
        *number + 1
    }

    pub fn quadruple() -> (u8, u8, u8, u8) {
        (1, 2, 3, 4)
    }

    pub fn recurse(depth: u8) -> u8 {
        match depth {
            0 => 0,
            n => super::fast::swift::recurse(n - 1).map_or(255, |below| below + 1),
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "as many as there can be")]
mod fast {
    use std::collections::BTreeMap;

    use super::Pair;

    aigis_plugin_api::import! {
        pub mod swift {
            fn unit();
            fn scalars(a: i64, b: f32, c: usize, d: i8) -> f64;
            fn invert(value: bool) -> bool;
            fn upper(letter: char) -> char;
            fn lent_text(text: &str) -> String;
            fn owned_text(text: String) -> String;
            fn lent_bytes(bytes: &[u8]) -> Vec<u8>;
            fn owned_bytes(bytes: Vec<u8>) -> usize;
            fn sum(numbers: &[f64]) -> f64;
            fn sorted(numbers: Vec<u64>) -> Vec<u64>;
            fn perhaps(number: Option<u8>) -> Option<u16>;
            fn perhaps_text(some: bool) -> Option<String>;
            fn words(text: &str) -> Vec<String>;
            fn nested(count: u8) -> Vec<Vec<Option<String>>>;
            fn pair(text: &str) -> (u64, String);
            fn triple(text: &str) -> (bool, Option<String>, Vec<u8>);
            fn checked(number: u8) -> Result<u8, String>;
            fn nothing_or_error(fails: bool) -> Result<(), String>;
            fn panics(text: String) -> Vec<String>;
            fn six(a: u8, b: &str, c: Option<i32>, d: &[u16], e: String, f: bool) -> String;
            const LIMIT: usize;
            const NAMES: [String; 2];
            fn counts(text: &str) -> BTreeMap<String, u8>;
            fn eight(a: u8, b: u8, c: u8, d: u8, e: &str, f: u8, g: u8, h: Pair) -> u8;
            fn structure(pair: &Pair) -> Pair;
            fn by_reference(number: &u32) -> u32;
            fn quadruple() -> (u8, u8, u8, u8);
            fn recurse(depth: u8) -> u8;
        }
    }
}

/// The same skills, with text and lists the other way round: lent for owned and owned for lent.
mod crosswise {
    use super::Pair;

    aigis_plugin_api::import! {
        pub mod swift {
            fn lent_text(text: String) -> String;
            fn owned_text(text: &str) -> String;
            fn lent_bytes(bytes: Vec<u8>) -> Vec<u8>;
            fn owned_bytes(bytes: &[u8]) -> usize;
            fn sum(numbers: Vec<f64>) -> f64;
            fn sorted(numbers: &[u64]) -> Vec<u64>;
            fn by_reference(number: u32) -> u32;
            fn structure(pair: Pair) -> Pair;
        }
    }
}

/// Compatible with what is offered, but not equal to it.
mod compatible {
    use aigis_plugin_api::skill_type;

    #[skill_type]
    #[derive(Clone, Debug, PartialEq)]
    pub struct Wider {
        pub a: u8,
        pub b: String,
        pub c: Option<u8>,
    }

    aigis_plugin_api::import! {
        pub mod swift {
            fn lent_text(other_name: &str) -> String;
            fn structure(pair: &Wider) -> Wider;
        }
    }
}

/// Checks the result, that the call was direct, and that an encoded call has the same result.
macro_rules! direct {
    ($name:ident($($argument:expr),*) => $expected:expr) => {{
        let host = FakeHost::shared();
        let name = concat!("swift.", stringify!($name));
        let before = (host.entered(name), host.encoded(name));
        let outcome = fast::swift::$name($($argument),*);
        let expected = $expected;
        assert_eq!(outcome, expected, "{name} directly");
        let after = (host.entered(name), host.encoded(name));
        assert!(after.0 > before.0, "{name} has a direct entry");
        assert_eq!(after.1, before.1, "{name} was not encoded");
        let arguments: Vec<aigis_plugin_api::Value> =
            vec![$(aigis_plugin_api::codec::to_value(&$argument).expect("encodes")),*];
        if let Ok(expected) = expected {
            assert_eq!(host.ask(name, arguments), Ok(expected), "{name} encoded");
        } else {
            assert!(host.ask::<aigis_plugin_api::Value>(name, arguments).is_err());
        }
    }};
}

type Answer<T> = Result<T, CallError>;

#[test]
fn every_direct_form_crosses() {
    direct!(unit() => Answer::Ok(()));
    direct!(scalars(-5, 0.5, 7, -1) => Answer::Ok(1.5));
    for value in [true, false] {
        direct!(invert(value) => Answer::Ok(!value));
    }
    direct!(upper('ä') => Answer::Ok('Ä'));
    direct!(upper('\u{10ffff}') => Answer::Ok('\u{10ffff}'));
    for text in ["", "zaltu", "ä€𝄞", "\0"] {
        direct!(lent_text(text) => Answer::Ok(format!("<{text}>")));
        direct!(owned_text(text.to_owned()) => Answer::Ok(format!("{text}!")));
    }
    direct!(lent_bytes([0_u8; 0].as_slice()) => Answer::Ok(vec![]));
    direct!(lent_bytes(&[1, 2, 255]) => Answer::Ok(vec![255, 2, 1]));
    direct!(owned_bytes(Vec::<u8>::new()) => Answer::Ok(1));
    direct!(owned_bytes(vec![1; 100_000]) => Answer::Ok(100_001));
    direct!(sum([0.0_f64; 0].as_slice()) => Answer::Ok(0.0));
    direct!(sum(&[0.5, 1.5]) => Answer::Ok(2.0));
    direct!(sorted(vec![3, u64::MAX, 1]) => Answer::Ok(vec![1, 3, u64::MAX]));
    direct!(sorted(Vec::<u64>::new()) => Answer::Ok(Vec::new()));
    direct!(perhaps(None::<u8>) => Answer::Ok(None));
    direct!(perhaps(Some(255)) => Answer::Ok(Some(256)));
    direct!(perhaps_text(true) => Answer::Ok(Some("text".to_owned())));
    direct!(perhaps_text(false) => Answer::Ok(None));
    direct!(words("a b") => Answer::Ok(vec!["a".to_owned(), "b".to_owned()]));
    direct!(pair("ä") => Answer::Ok((2, "ä".to_owned())));
    direct!(triple("ä") => Answer::Ok((true, Some("ä".to_owned()), vec![0xc3, 0xa4])));
    direct!(six(1, "b", Some(-3), &[4, 5], "e".to_owned(), true)
        => Answer::Ok("1 b Some(-3) [4, 5] e true".to_owned()));
    direct!(LIMIT() => Answer::Ok(7));
    let pair = || Pair {
        a: 1,
        b: "b".to_owned(),
    };
    direct!(structure(&pair()) => Answer::Ok(pair()));
    direct!(by_reference(&1) => Answer::Ok(2));
    direct!(quadruple() => Answer::Ok((1, 2, 3, 4)));
    direct!(eight(1, 2, 3, 4, "five", 6, 7, pair()) => Answer::Ok(28));
    direct!(recurse(20) => Answer::Ok(20));
    let some = |text: &str| Some(text.to_owned());
    direct!(nested(4) => Answer::Ok(vec![
        vec![],
        vec![some("0")],
        vec![some("0"), None],
        vec![some("0"), None, some("2")],
    ]));
    assert_eq!(FakeHost::shared().inside(), 0, "every call has left");
}

#[test]
fn errors_and_panics_cross_directly() {
    type Answer<T> = Result<T, CallError<String>>;
    direct!(checked(1) => Answer::Ok(2));
    direct!(checked(255) => Answer::<u8>::Err(CallError::Skill("too large".to_owned())));
    direct!(nothing_or_error(false) => Answer::Ok(()));
    direct!(nothing_or_error(true) => Answer::<()>::Err(CallError::Skill("fails".to_owned())));
    let host = FakeHost::shared();
    let before = host.entered("swift.panics");
    let outcome = fast::swift::panics("text".to_owned());
    assert!(
        matches!(&outcome, Err(CallError::Panicked { message, .. }) if message == "direct panic with text"),
        "{outcome:?}"
    );
    assert_eq!(host.entered("swift.panics"), before + 1);
}

#[test]
fn who_lends_and_who_gives_away_does_not_matter() {
    let host = FakeHost::shared();
    let names = [
        "lent_text",
        "owned_text",
        "lent_bytes",
        "owned_bytes",
        "sum",
        "sorted",
        "by_reference",
        "structure",
    ];
    let count = || -> Vec<usize> {
        let counts = names
            .iter()
            .map(|name| host.encoded(&format!("swift.{name}")));
        counts.collect()
    };
    let before = count();
    assert_eq!(
        crosswise::swift::lent_text("a".to_owned()),
        Ok("<a>".to_owned())
    );
    assert_eq!(crosswise::swift::owned_text("a"), Ok("a!".to_owned()));
    assert_eq!(crosswise::swift::lent_bytes(vec![1, 2]), Ok(vec![2, 1]));
    assert_eq!(crosswise::swift::owned_bytes(&[1, 2]), Ok(3));
    assert_eq!(crosswise::swift::sum(vec![1.0]), Ok(1.0));
    assert_eq!(crosswise::swift::sorted(&[2, 1]), Ok(vec![1, 2]));
    assert_eq!(crosswise::swift::by_reference(1), Ok(2));
    let pair = Pair {
        a: 1,
        b: "b".to_owned(),
    };
    assert_eq!(crosswise::swift::structure(pair.clone()), Ok(pair));
    assert_eq!(count(), before, "all of them were direct");
}

#[test]
fn what_has_no_direct_form_is_encoded() {
    let host = FakeHost::shared();
    assert_eq!(fast::swift::NAMES(), Ok(["a".to_owned(), "b".to_owned()]));
    assert_eq!(
        fast::swift::counts("a b a"),
        Ok([("a".to_owned(), 2), ("b".to_owned(), 1)].into())
    );
    for name in ["NAMES", "counts"] {
        let name = format!("swift.{name}");
        assert!(!host.is_direct(&name), "{name}");
        assert_eq!(host.entered(&name), 0, "{name}");
        assert!(host.encoded(&name) > 0, "{name}");
    }
}

#[test]
fn what_is_compatible_but_not_equal_is_encoded() {
    let host = FakeHost::shared();
    let before = host.encoded("swift.lent_text");
    assert_eq!(compatible::swift::lent_text("a"), Ok("<a>".to_owned()));
    assert_eq!(host.encoded("swift.lent_text"), before + 1);
    let wider = compatible::Wider {
        a: 1,
        b: "b".to_owned(),
        c: Some(3),
    };
    let narrowed = compatible::Wider {
        c: None,
        ..wider.clone()
    };
    assert_eq!(compatible::swift::structure(&wider), Ok(narrowed));
}

#[test]
fn direct_calls_come_from_many_threads_at_once() {
    FakeHost::shared();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for n in 0..200 {
                    let numbers = vec![n, thread, 7];
                    let mut sorted = numbers.clone();
                    sorted.sort_unstable();
                    assert_eq!(fast::swift::sorted(numbers), Ok(sorted));
                    let word = n.to_string();
                    assert_eq!(fast::swift::words(&word), Ok(vec![word]));
                }
            });
        }
    });
}
