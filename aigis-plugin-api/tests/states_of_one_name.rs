//! Two blocks that would take each other's state are refused before anything runs.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::skills;

use fake_host::try_describe;

struct Kitchen;

#[skills(namespace = "house")]
impl Kitchen {
    fn new() -> Self {
        Self
    }

    fn restore(_: u8) -> Self {
        Self
    }
}

struct Cellar;

#[skills(namespace = "house")]
impl Cellar {
    fn new() -> Self {
        Self
    }

    fn save(&self) -> u8 {
        1
    }

    fn restore(_: u8) -> Self {
        Self
    }
}

/// Has nothing to take over.
struct Garden;

#[skills(namespace = "house")]
impl Garden {
    fn new() -> Self {
        Self
    }
}

#[test]
fn two_states_of_one_name_are_refused() {
    let failure = try_describe().expect_err("both take over the state of `house`");
    assert_eq!(failure.kind, FailureKind::Refused);
    let message = failure.message;
    assert!(
        message.contains("two blocks with `restore` have the namespace `house`")
            && message.contains("#[skills(namespace"),
        "{message}"
    );
}
