//! A `save` that fails ends the handing over, and the version goes on.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::collections::BTreeMap;
use std::sync::Mutex;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{Value, codec, skills};

use fake_host::FakeHost;

static EVENTS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn note(event: &'static str) {
    EVENTS.lock().unwrap().push(event);
}

struct First;

#[skills]
impl First {
    fn new() -> Self {
        Self
    }

    fn save(&self) -> &'static str {
        note("first saved");
        "the first"
    }

    fn restore(_: String) -> Self {
        Self
    }
}

enum Mood {
    Fails,
    Panics,
    CannotBeEncoded,
    Works,
}

/// Cannot be read back, and cannot be written either when it is deeper than the format allows.
#[derive(serde::Serialize, serde::Deserialize)]
struct Nested(Vec<Nested>);

struct Second(Mutex<Mood>);

#[skills]
impl Second {
    fn new() -> Self {
        Self(Mutex::new(Mood::Fails))
    }

    pub fn better(&self) -> u8 {
        let mut mood = self.0.lock().unwrap();
        *mood = match *mood {
            Mood::Fails => Mood::Panics,
            Mood::Panics => Mood::CannotBeEncoded,
            Mood::CannotBeEncoded | Mood::Works => Mood::Works,
        };
        1
    }

    fn save(&self) -> Result<BTreeMap<String, Nested>, std::io::Error> {
        let depth = {
            let mood = self.0.lock().unwrap();
            match *mood {
                Mood::Fails => return Err(std::io::Error::other("the disk is full")),
                Mood::Panics => None,
                Mood::CannotBeEncoded => Some(2 * codec::MAX_DEPTH),
                Mood::Works => Some(2),
            }
        };
        let Some(depth) = depth else {
            panic!("the pen is empty")
        };
        let mut nested = Nested(Vec::new());
        for _ in 0..depth {
            nested = Nested(vec![nested]);
        }
        Ok(BTreeMap::from([("inner".to_owned(), nested)]))
    }

    fn restore(_: BTreeMap<String, Nested>) -> Self {
        Self::new()
    }
}

struct Third;

#[skills]
impl Third {
    fn new() -> Self {
        Self
    }

    fn save(&self) -> u8 {
        note("third saved");
        3
    }

    fn restore(_: u8) -> Self {
        Self
    }
}

#[test]
fn the_first_failure_ends_it_and_the_version_goes_on() {
    let host = FakeHost::new();
    let failure = host.save().expect_err("has no state yet");
    assert_eq!(failure.kind, FailureKind::Refused);

    host.open(None).expect("opens");
    let failure = host.save().expect_err("fails");
    assert_eq!(failure.kind, FailureKind::Skill);
    assert_eq!(failure.skill, "second.save");
    assert_eq!(failure.message, "the disk is full");
    assert_eq!(host.ask("second.better", ()), Ok(1), "it is not closed");

    let failure = host.save().expect_err("panics");
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.skill, "second.save");
    assert_eq!(failure.message, "the pen is empty");
    let location = failure.location.expect("a place");
    assert!(location.contains("failing_save.rs:"), "{location}");
    assert_eq!(host.logged("the pen is empty").len(), 1);
    assert_eq!(host.ask("second.better", ()), Ok(1));

    let failure = host.save().expect_err("is too deep");
    assert_eq!(failure.kind, FailureKind::Unserializable);
    assert!(
        failure.message.contains("`save` of the block `second`")
            && failure.message.contains("inner[0][0]"),
        "{}",
        failure.message
    );
    assert_eq!(host.ask("second.better", ()), Ok(1));
    assert!(!EVENTS.lock().unwrap().contains(&"third saved"));

    let saved = host.save().expect("saves").expect("a state");
    let saved: Value = codec::from_slice(&saved).expect("a map");
    for block in ["first", "second", "third"] {
        assert!(saved.get(block).is_some(), "{block}");
    }
    host.close().expect("closes");
    let failure = host.save().expect_err("is closed");
    assert_eq!(failure.kind, FailureKind::Refused);
}
