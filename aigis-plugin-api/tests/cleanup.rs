//! What happens when a library is closed: every block is, whatever fails.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::sync::Mutex;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{Context, Logger, Value, skills};

use fake_host::{FakeHost, describe};

static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(event: impl Into<String>) {
    EVENTS.lock().unwrap().push(event.into());
}

pub struct Consumed(String);

#[skills]
impl Consumed {
    pub fn new(ctx: &Context) -> Self {
        Self(ctx.plugin().to_owned())
    }

    pub fn name(&self) -> String {
        self.0.clone()
    }

    pub fn cleanup(self, logger: &Logger) -> Result<(), String> {
        logger.info("cleaning up");
        note(format!("consumed {}", self.0));
        Ok(())
    }
}

pub struct Failing;

#[skills]
impl Failing {
    fn new() -> Self {
        Self
    }

    pub fn cleanup(&self, ctx: &Context) -> Result<(), String> {
        note("failing");
        Err(format!("{} cannot clean up", ctx.plugin()))
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        note("failing dropped");
    }
}

pub struct Dropped;

#[skills]
impl Dropped {
    fn new() -> Self {
        Self
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        note("dropped");
    }
}

#[skills]
pub mod a_module {
    pub fn cleanup() {
        super::note("module");
    }
}

#[skills]
pub mod a_panicking_module {
    pub fn work() {}

    pub fn cleanup() {
        super::note("panicking module");
        panic!("cleanup panics");
    }
}

#[test]
fn every_block_is_closed_in_reverse_order() {
    assert!(describe().cleanup);
    let host = FakeHost::new();
    host.open(None).expect("opens");
    assert_eq!(host.save(), Ok(None), "no block has a `save`");
    assert!(!describe().save && !describe().restore);
    assert_eq!(host.ask("consumed.name", ()), Ok("tested".to_owned()));
    let failure = host.close().expect_err("two blocks fail");
    // The last block is the first to be closed, and the first failure is the one that is told.
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.message, "cleanup panics");
    assert_eq!(failure.skill, "cleanup");
    assert_eq!(
        *EVENTS.lock().unwrap(),
        [
            "panicking module",
            "module",
            "dropped",
            "failing",
            "failing dropped",
            "consumed tested"
        ]
    );
    assert_eq!(host.logged("cleanup panics").len(), 1);
    assert_eq!(host.logged("tested cannot clean up").len(), 1);
    assert_eq!(host.logged("cleaning up").len(), 1);
    let failure = host.ask::<Value>("consumed.name", ()).expect_err("is gone");
    assert_eq!(failure.kind, FailureKind::Refused);
}
