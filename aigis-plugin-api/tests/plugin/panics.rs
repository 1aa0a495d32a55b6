//! A panic ends in the library and crosses as a value.

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{CallError, skills};

use crate::FakeHost;

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("a second panic");
    }
}

#[skills]
pub mod panicking {
    use super::*;

    pub fn fixed() -> u8 {
        panic!("a fixed message")
    }

    pub fn formatted(number: u8) -> u8 {
        panic!("a formatted message: {number}")
    }

    pub fn other() -> u8 {
        std::panic::panic_any(7_u64)
    }

    pub fn nasty() -> u8 {
        std::panic::panic_any(PanicsAgain)
    }

    pub fn caught_by_the_author() -> u8 {
        let caught = std::panic::catch_unwind(|| panic!("caught by the author"));
        u8::from(caught.is_err())
    }

    pub fn in_a_thread() -> bool {
        std::thread::spawn(|| panic!("in a thread of the plugin"))
            .join()
            .is_err()
    }

    pub fn of_another() -> u8 {
        imported::panicking::fixed().map_or(1, |_| 2)
    }
}

mod imported {
    aigis_plugin_api::import! {
        pub mod panicking {
            fn fixed() -> u8;
            fn formatted(number: u8) -> u8;
        }
    }
}

#[test]
fn a_panic_is_a_failure_with_message_and_place_and_is_logged_once() {
    let host = FakeHost::shared();
    let failure = host
        .ask::<u8>("panicking.formatted", (41,))
        .expect_err("panics");
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.skill, "panicking.formatted");
    assert_eq!(failure.message, "a formatted message: 41");
    let location = failure.location.clone().expect("a place");
    assert!(location.contains("panics.rs:"), "{location}");
    let logged = host.logged("a formatted message: 41");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0].level, 4);
    assert!(logged[0].message.contains("panicking.formatted panicked"));
    assert!(logged[0].message.contains(&location));
}

#[test]
fn a_panic_in_a_direct_call_is_the_same() {
    let host = FakeHost::shared();
    let error = imported::panicking::formatted(42).expect_err("panics");
    let CallError::Panicked {
        skill,
        message,
        location,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(skill, "panicking.formatted");
    assert_eq!(message, "a formatted message: 42");
    assert!(location.expect("a place").contains("panics.rs:"));
    assert_eq!(host.logged("a formatted message: 42").len(), 1);
    assert!(host.entered("panicking.formatted") > 0);
}

#[test]
fn payloads_of_any_type_are_caught() {
    let host = FakeHost::shared();
    for name in ["panicking.other", "panicking.nasty"] {
        let failure = host.ask::<u8>(name, ()).expect_err("panics");
        assert_eq!(failure.kind, FailureKind::Panicked);
        assert_eq!(failure.message, "a panic without a message");
        assert!(failure.location.expect("a place").contains("panics.rs:"));
    }
}

#[test]
fn what_the_author_catches_is_the_authors() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("panicking.caught_by_the_author", ()), Ok(1));
    assert!(host.logged("caught by the author").is_empty());
}

#[test]
fn a_panic_of_a_thread_is_logged() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("panicking.in_a_thread", ()), Ok(true));
    assert_eq!(host.logged("in a thread of the plugin").len(), 1);
}

#[test]
fn a_panic_in_a_called_skill_is_the_callers_to_handle() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("panicking.of_another", ()), Ok(1));
}
