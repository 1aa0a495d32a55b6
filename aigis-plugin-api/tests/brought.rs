//! A library that was brought to a caller of its portable skills has no state there.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::sync::atomic::{AtomicU32, Ordering};

use aigis_plugin_api::__private::Grant;
use aigis_plugin_api::{CallError, FailureKind, Logger, call, skills};

use fake_host::{FakeHost, grant};

static MADE: AtomicU32 = AtomicU32::new(0);

struct Shelf;

#[skills]
impl Shelf {
    fn new() -> Self {
        MADE.fetch_add(1, Ordering::Relaxed);
        Self
    }

    pub fn books(&self) -> u32 {
        7
    }

    fn cleanup(self) {
        MADE.fetch_add(100, Ordering::Relaxed);
    }
}

#[skills]
mod letters {
    use super::*;

    #[skill(portable)]
    pub const FIRST: char = 'a';

    #[skill(portable)]
    pub fn count(logger: &Logger, text: &str) -> usize {
        logger.info("counting");
        text.chars().count()
    }

    pub fn other() -> u32 {
        1
    }
}

#[test]
fn no_constructor_runs_and_what_needs_none_is_served() {
    let host = FakeHost::new();
    let brought = Grant {
        brought: true,
        ..grant(None)
    };
    host.open_as(&brought, &[]).expect("opens");
    assert_eq!(call("letters.count", ("abc",)), Ok(3_usize));
    assert_eq!(call("letters.FIRST", ()), Ok('a'));
    assert_eq!(MADE.load(Ordering::Relaxed), 0);
    let refused = call::<u32>("shelf.books", ());
    assert!(
        matches!(&refused, Err(CallError::Other(failure)) if failure.kind == FailureKind::Refused),
        "{refused:?}"
    );

    let portable = |name: &str| host.skill(name).expect("is there").1.portable;
    assert!(portable("letters.count") && portable("letters.FIRST"));
    assert!(!portable("letters.other") && !portable("shelf.books"));
}
