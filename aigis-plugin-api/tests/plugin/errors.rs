//! The author's errors on the other side.

use std::fmt;
use std::io;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{CallError, SkillFailure, Value, skills};
use serde::{Deserialize, Serialize};

use crate::FakeHost;

/// An error with everything: causes, and a value that can be sent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct TooLong {
    pub limit: usize,
    #[serde(skip)]
    pub cause: Option<Cause>,
}

#[derive(Debug, PartialEq)]
pub struct Cause(pub &'static str);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "longer than {}", self.limit)
    }
}

impl std::error::Error for TooLong {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// An error with a cause with a cause, none of which can be sent.
#[derive(Debug)]
pub struct Outer(io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the outermost")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Shows its causes when asked with `{:#}`, as the error types for applications do.
pub struct Contextual;

impl fmt::Display for Contextual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if f.alternate() {
            "while cooking: no gas"
        } else {
            "while cooking"
        })
    }
}

type Result<T> = std::result::Result<T, TooLong>;

#[skills]
pub mod failing {
    use super::*;

    pub fn sent() -> std::result::Result<u8, TooLong> {
        Err(TooLong {
            limit: 64,
            cause: Some(Cause("a cause")),
        })
    }

    pub fn chained() -> std::result::Result<u8, Outer> {
        Err(Outer(io::Error::other(Cause("the innermost"))))
    }

    pub fn text(what: &str) -> std::result::Result<u8, String> {
        Err(format!("no {what}"))
    }

    pub fn static_text() -> std::result::Result<u8, &'static str> {
        Err("no")
    }

    pub fn boxed() -> std::result::Result<u8, Box<dyn std::error::Error>> {
        Err(Box::new(Cause("in a box")))
    }

    pub fn contextual() -> std::result::Result<u8, Contextual> {
        Err(Contextual)
    }

    pub fn input() -> io::Result<u8> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    pub fn aliased(fails: bool) -> Result<Option<u8>> {
        if fails {
            return Err(TooLong {
                limit: 1,
                cause: None,
            });
        }
        Ok(Some(1))
    }

    pub fn unit() -> std::result::Result<(), String> {
        Ok(())
    }
}

fn failure(name: &str, arguments: impl Serialize) -> aigis_plugin_api::__private::Failure {
    let failure = FakeHost::shared()
        .ask::<Value>(name, arguments)
        .expect_err("fails");
    assert_eq!(failure.kind, FailureKind::Skill);
    assert_eq!(failure.skill, name);
    failure
}

#[test]
fn an_error_that_can_be_sent_is_sent_with_its_causes() {
    let failure = failure("failing.sent", ());
    assert_eq!(failure.message, "longer than 64");
    assert_eq!(failure.chain, ["a cause"]);
    let type_name = failure.type_name.clone().expect("a type");
    assert!(type_name.ends_with("errors::TooLong"), "{type_name}");
    assert!(failure.payload.is_some());
    assert!(failure.to_string().contains("caused by: a cause"));
}

#[test]
fn an_error_that_cannot_be_sent_keeps_its_chain() {
    let failure = failure("failing.chained", ());
    assert_eq!(failure.message, "the outermost");
    assert_eq!(failure.chain, ["the innermost"]);
    assert!(failure.payload.is_none());
}

#[test]
fn texts_and_boxes_have_messages() {
    for (name, argument, message, sent) in [
        ("failing.text", Some("gas"), "no gas", true),
        ("failing.static_text", None, "no", true),
        ("failing.boxed", None, "in a box", false),
        ("failing.contextual", None, "while cooking: no gas", false),
        ("failing.input", None, "no such file", false),
    ] {
        let failure = match argument {
            Some(argument) => failure(name, (argument,)),
            None => failure(name, ()),
        };
        assert_eq!(failure.message, message);
        assert_eq!(failure.payload.is_some(), sent, "{name}");
        assert!(failure.type_name.is_some());
    }
}

#[test]
fn an_alias_named_result_is_a_result() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("failing.aliased", (false,)), Ok(Some(1)));
    assert_eq!(failure("failing.aliased", (true,)).message, "longer than 1");
    assert_eq!(host.ask("failing.unit", ()), Ok(()));
    let (_, skill) = host.skill("failing.aliased").expect("a skill");
    assert_eq!(
        skill.signature.to_string(),
        "fn(fails: bool) -> Result<Option<u8>, _>"
    );
}

mod expected {
    use super::{Cause, TooLong};

    aigis_plugin_api::import! {
        pub mod failing {
            fn sent() -> Result<u8, TooLong>;
            fn chained() -> Result<u8, String>;
            fn text(what: &str) -> Result<u8, String>;
            fn boxed() -> Result<u8, TooLong>;
            fn input() -> u8;
        }
    }

    /// The type is in the scope of the import, and used here alone.
    pub const CAUSE: Cause = Cause("a cause");
}

#[test]
fn callers_get_the_authors_type_back() {
    FakeHost::shared();
    match expected::failing::sent() {
        Err(CallError::Skill(TooLong { limit: 64, cause })) => {
            assert_eq!(cause, None, "it is not sent along");
            assert_eq!(expected::CAUSE, Cause("a cause"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        expected::failing::text("gas"),
        Err(CallError::Skill("no gas".to_owned()))
    );
}

#[test]
fn an_error_of_another_type_is_a_failure_with_all_that_is_known() {
    FakeHost::shared();
    // Not sent: there is no value to make a `String` of.
    let Err(CallError::Failed(failure)) = expected::failing::chained() else {
        panic!("it was not sent");
    };
    assert_eq!(failure.skill, "failing.chained");
    assert_eq!(failure.message, "the outermost");
    assert_eq!(failure.chain, ["the innermost"]);
    assert!(failure.type_name.ends_with("Outer"));
    assert_eq!(failure.downcast::<String>(), None);
    // Nobody said that it can fail.
    let Err(CallError::Failed(failure)) = expected::failing::input() else {
        panic!("the import states no error");
    };
    assert_eq!(failure.message, "no such file");
    assert!(matches!(
        expected::failing::boxed(),
        Err(CallError::Failed(SkillFailure { .. }))
    ));
}

#[test]
fn a_caller_without_types_can_still_ask_for_one() {
    FakeHost::shared();
    let error = aigis_plugin_api::call::<u8>("failing.sent", ()).expect_err("fails");
    let CallError::Skill(failure) = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        failure.downcast::<TooLong>(),
        Some(TooLong {
            limit: 64,
            cause: None
        })
    );
    let payload = failure.payload().expect("was sent");
    assert_eq!(payload.to_json(), r#"{"limit":64}"#);
    assert_eq!(failure.downcast::<u8>(), None);
}
