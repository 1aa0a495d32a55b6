//! A `restore` that panics is a failure of the start.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{codec, skills};

use fake_host::{FakeHost, saved_by};

/// Panics when it is closed, because the block after it could not be opened.
struct Cellar;

#[skills]
impl Cellar {
    fn new() -> Self {
        Self
    }
}

impl Drop for Cellar {
    fn drop(&mut self) {
        panic!("the cellar collapses");
    }
}

struct Kitchen;

#[skills]
impl Kitchen {
    fn new() -> Self {
        Self
    }

    pub fn cook(&self) {}

    fn restore(fires: u8) -> Self {
        panic!("{fires} fires are burning")
    }
}

#[test]
fn a_panic_is_a_failure_and_logged_once() {
    let host = FakeHost::new();
    let saved = saved_by([("kitchen", codec::to_vec(&3).expect("encodes"))]);
    let failure = host.open_with(None, &saved).expect_err("panics");
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.skill, "kitchen.restore");
    assert_eq!(failure.message, "3 fires are burning");
    let location = failure.location.expect("a place");
    assert!(location.contains("panicking_restore.rs:"), "{location}");
    assert_eq!(host.logged("3 fires are burning").len(), 1);
    assert_eq!(host.logged("the cellar collapses").len(), 1);
    let failure = host.ask::<()>("kitchen.cook", ()).expect_err("no state");
    assert_eq!(failure.kind, FailureKind::Refused);
}
