//! Calls by name, without types.

use std::collections::BTreeMap;

use aigis_plugin_api::{CallError, Value, call, skills};
use serde::Serialize;

use crate::FakeHost;

#[skills]
pub mod named {
    pub fn repeat(text: &str, times: u8) -> String {
        text.repeat(times.into())
    }

    pub fn add(a: u8, b: u8) -> u8 {
        a + b
    }

    pub fn hash(bytes: &[u8]) -> usize {
        bytes.len()
    }

    pub fn now() -> u8 {
        12
    }

    pub const CONSTANT: &str = "constant";
}

#[test]
fn arguments_by_position_by_name_or_none() {
    FakeHost::shared();
    #[derive(Serialize)]
    struct Arguments {
        times: u8,
        text: &'static str,
    }
    let expected = Ok("abab".to_owned());
    assert_eq!(call("named.repeat", ("ab", 2)), expected);
    assert_eq!(
        call(
            "named.repeat",
            Arguments {
                times: 2,
                text: "ab"
            }
        ),
        expected
    );
    let map = BTreeMap::from([("text", Value::from("ab")), ("times", Value::from(2))]);
    assert_eq!(call("named.repeat", &map), expected);
    let list = Value::List(vec![Value::from("ab"), Value::from(2)]);
    assert_eq!(call("named.repeat", &list), expected);
    assert_eq!(call("named.now", ()), Ok(12_u8));
    assert_eq!(call("named.CONSTANT", ()), Ok("constant".to_owned()));
    assert_eq!(call("named.add", (1_u8, 2_u8)), Ok(3_u8));
    assert_eq!(call("named.hash", ([1_u8, 2, 3],)), Ok(3_usize));
}

#[test]
fn a_result_is_read_as_the_caller_likes() {
    FakeHost::shared();
    assert_eq!(call("named.now", ()), Ok(12_u64));
    assert_eq!(call("named.now", ()), Ok(Value::from(12)));
    let error = call::<String>("named.now", ()).expect_err("is no text");
    assert!(
        matches!(&error, CallError::Unserializable { skill, .. } if skill == "named.now"),
        "{error:?}"
    );
}

#[test]
fn a_single_argument_is_written_as_a_tuple() {
    FakeHost::shared();
    let error = call::<String>("named.repeat", "ab").expect_err("no tuple");
    assert!(
        matches!(&error, CallError::Arguments { skill, message }
            if skill == "named.repeat" && message.contains("write `(value,)`")),
        "{error:?}"
    );
    let error = call::<String>("named.repeat", ("ab",)).expect_err("misses one");
    assert!(
        error.to_string().contains("argument `times` is missing"),
        "{error}"
    );
}

#[test]
fn a_name_that_nobody_offers() {
    FakeHost::shared();
    assert!(matches!(
        call::<Value>("named.nothing", ()),
        Err(CallError::NotFound { .. })
    ));
}
