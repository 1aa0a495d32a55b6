//! A constructor that fails leaves nothing behind, and nothing can be called afterwards.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::sync::Mutex;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{CallError, call, skills};

use fake_host::FakeHost;

static EVENTS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn note(event: &'static str) {
    EVENTS.lock().unwrap().push(event);
}

struct First;

#[skills]
impl First {
    fn new() -> Self {
        note("first made");
        Self
    }

    pub fn answer(&self) -> u8 {
        1
    }

    fn cleanup(&self) {
        note("first cleaned");
    }
}

impl Drop for First {
    fn drop(&mut self) {
        note("first dropped");
    }
}

struct Second;

#[skills]
impl Second {
    fn new() -> Result<Self, String> {
        note("second fails");
        Err("no gas".to_owned())
    }

    fn cleanup(self) {
        note("second cleaned");
    }
}

struct Third;

#[skills]
impl Third {
    fn new() -> Self {
        note("third made");
        Self
    }
}

aigis_plugin_api::import! {
    mod first {
        fn answer() -> u8;
    }
}

#[test]
fn nothing_is_left() {
    // Without a host there is nobody to ask, and no state.
    assert!(matches!(
        call::<u8>("first.answer", ()),
        Err(CallError::NotConnected { .. })
    ));
    assert!(matches!(
        first::answer(),
        Err(CallError::NotConnected { .. })
    ));
    let host = FakeHost::new();
    let failure = host
        .ask::<u8>("first.answer", ())
        .expect_err("has no state");
    assert_eq!(failure.kind, FailureKind::Refused);

    let failure = host.open(None).expect_err("the second constructor fails");
    assert_eq!(failure.kind, FailureKind::Skill);
    assert_eq!(failure.message, "no gas");
    assert_eq!(
        *EVENTS.lock().unwrap(),
        [
            "first made",
            "second fails",
            "first cleaned",
            "first dropped"
        ]
    );
    let failure = host
        .ask::<u8>("first.answer", ())
        .expect_err("has no state");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(host.open(None).is_err(), "a library is opened once");
}
