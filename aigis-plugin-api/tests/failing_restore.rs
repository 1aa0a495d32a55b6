//! A saved state that does not fit is refused with the place of the mistake, and nothing is left.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::sync::Mutex;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{codec, skills};
use serde::{Deserialize, Serialize};

use fake_host::{FakeHost, saved_by};

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

    fn restore(_: ()) -> Self {
        note("first restored");
        Self
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

#[derive(Deserialize)]
struct Stock {
    #[expect(dead_code, reason = "the state does not fit")]
    shelves: Vec<Shelf>,
}

#[derive(Deserialize)]
struct Shelf {
    #[expect(dead_code, reason = "the state does not fit")]
    pieces: u8,
}

struct Store;

#[skills(namespace = "the.store")]
impl Store {
    fn new() -> Self {
        note("store made");
        Self
    }

    fn restore(_: Stock) -> Self {
        note("store restored");
        Self
    }
}

#[derive(Serialize)]
struct OldStock {
    shelves: Vec<OldShelf>,
}

#[derive(Serialize)]
struct OldShelf {
    pieces: &'static str,
}

#[test]
fn the_block_the_field_and_what_to_do_are_named() {
    let host = FakeHost::new();
    let failure = host
        .open_with(None, b"\x93not a map")
        .expect_err("is not a map");
    assert_eq!(failure.kind, FailureKind::Internal);
    assert!(
        failure
            .message
            .contains("expected a map from namespaces to encoded states"),
        "{}",
        failure.message
    );
    assert!(EVENTS.lock().unwrap().is_empty());

    let stock = OldStock {
        shelves: vec![OldShelf { pieces: "many" }],
    };
    let saved = saved_by([
        ("first", codec::to_vec(&()).expect("encodes")),
        ("the.store", codec::to_vec(&stock).expect("encodes")),
    ]);
    let failure = host.open_with(None, &saved).expect_err("does not fit");
    assert_eq!(failure.kind, FailureKind::Arguments);
    assert_eq!(failure.skill, "the.store.restore");
    assert_eq!(
        failure.message,
        "what the version before saved of the block `the.store` does not fit the `restore` of this \
         one: shelves[0].pieces: expected u8, found string; give a new field `#[serde(default)]` \
         and a changed one a type that reads both forms, or leave `restore` out of one version, \
         which then begins with `new`"
    );
    assert_eq!(
        *EVENTS.lock().unwrap(),
        ["first restored", "first cleaned", "first dropped"]
    );
}
