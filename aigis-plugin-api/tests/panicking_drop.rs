//! A `Drop` that panics is contained as every other panic is, next to a `cleanup` that panics too.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{Failure, skills};

use fake_host::FakeHost;

macro_rules! panics_when_dropped {
    ($($name:ident $message:literal)*) => {$(
        struct $name;

        impl Drop for $name {
            fn drop(&mut self) {
                panic!($message);
            }
        }
    )*};
}

panics_when_dropped! {
    Plain "plain drop"
    Lent "lent drop"
    Failing "failing drop"
    Consumed "consumed drop"
}

// The last block is the first to be closed.
#[skills]
impl Lent {
    fn new() -> Self {
        Self
    }

    fn cleanup(&self) {
        panic!("lent cleanup");
    }
}

#[skills]
impl Failing {
    fn new() -> Self {
        Self
    }

    fn cleanup(&self) -> Result<(), String> {
        Err("failing cleanup".to_owned())
    }
}

#[skills]
impl Consumed {
    fn new() -> Self {
        Self
    }

    fn cleanup(self) {
        drop(self);
    }
}

#[skills]
impl Plain {
    fn new() -> Self {
        Self
    }
}

#[test]
fn every_panic_is_contained_and_logged_once() {
    let host = FakeHost::new();
    host.open(None).expect("opens");
    let Failure {
        kind,
        skill,
        message,
        location,
        ..
    } = host.close().expect_err("everything fails");
    assert_eq!(kind, FailureKind::Panicked);
    assert_eq!(skill, "drop");
    assert_eq!(message, "plain drop");
    let location = location.expect("a place");
    assert!(location.contains("panicking_drop.rs:"), "{location}");
    for (text, by) in [
        ("plain drop", "drop panicked: "),
        ("consumed drop", "cleanup panicked: "),
        ("failing drop", "drop panicked: "),
        ("failing cleanup", "cleanup failed: "),
        ("lent drop", "drop panicked: "),
        ("lent cleanup", "cleanup panicked: "),
    ] {
        let logged = host.logged(text);
        assert_eq!(logged.len(), 1, "{text}: {logged:?}");
        assert!(logged[0].message.starts_with(by), "{logged:?}");
    }
}
