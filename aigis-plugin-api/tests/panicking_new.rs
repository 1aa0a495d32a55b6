//! A constructor that panics is a failure of the start.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::skills;

use fake_host::FakeHost;

struct Kitchen;

#[skills]
impl Kitchen {
    fn new() -> Self {
        panic!("the oven is missing")
    }
}

#[test]
fn a_panic_is_a_failure_and_logged_once() {
    let host = FakeHost::new();
    let failure = host.open(None).expect_err("panics");
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.message, "the oven is missing");
    let location = failure.location.expect("a place");
    assert!(location.contains("panicking_new.rs:"), "{location}");
    assert_eq!(host.logged("the oven is missing").len(), 1);
}
