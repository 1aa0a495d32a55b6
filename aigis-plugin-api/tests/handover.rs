//! A version that takes over what the one before has saved, block by block.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aigis_plugin_api::{Context, Logger, Value, codec, skill_type, skills};
use serde::{Deserialize, Serialize};

use fake_host::{FakeHost, saved_by};

/// What this version saves; the one before had `next` alone, as another integer, and `old` besides.
#[derive(Serialize, Deserialize)]
struct CounterState {
    next: u64,
    #[serde(default = "one")]
    step: u64,
}

fn one() -> u64 {
    1
}

struct Counter {
    next: AtomicU64,
    step: u64,
}

#[skills(namespace = "counting")]
impl Counter {
    fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            step: 5,
        }
    }

    pub fn next(&self) -> u64 {
        self.next.fetch_add(self.step, Ordering::SeqCst)
    }

    pub fn save(&self) -> CounterState {
        CounterState {
            next: self.next.load(Ordering::SeqCst),
            step: self.step,
        }
    }

    pub fn restore(
        logger: &Logger,
        CounterState { next, step }: CounterState,
        ctx: &Context,
    ) -> Self {
        logger.info(format_args!("{} goes on at {next}", ctx.plugin()));
        Self {
            next: AtomicU64::new(next),
            step,
        }
    }
}

/// Saves itself, and can fail.
#[skill_type]
#[derive(Clone)]
struct Recipe {
    dish: String,
    notes: Vec<u8>,
}

#[skills]
impl Recipe {
    fn new() -> Self {
        unreachable!("there is a saved recipe")
    }

    pub fn dish(&self) -> String {
        self.dish.clone()
    }

    fn save(&self, _ctx: &Context) -> Result<Self, String> {
        Ok(self.clone())
    }

    fn restore(saved: Self) -> Result<Self, fmt::Error> {
        Ok(saved)
    }
}

/// Was not there before.
struct Added;

#[skills]
impl Added {
    fn new(logger: &Logger) -> Self {
        logger.info("added is made with new");
        Self
    }

    fn save(&self) -> Option<Option<u8>> {
        Some(None)
    }

    fn restore(_: Option<Option<u8>>) -> Self {
        unreachable!("the version before had no such block")
    }
}

/// Takes over what it will not hand on.
struct Heir(String);

#[skills]
impl Heir {
    fn new() -> Self {
        Self("poor".to_owned())
    }

    pub fn fortune(&self) -> String {
        self.0.clone()
    }

    fn restore(mut saved: String) -> Self {
        saved.push_str(", inherited");
        Self(saved)
    }

    // Elsewhere.
    #[cfg(any())]
    fn save(&self) -> DoesNotExist {
        does_not_exist()
    }
}

/// Once saved, and no longer takes over.
struct Forgetful;

#[skills]
impl Forgetful {
    fn new(logger: &Logger) -> Self {
        logger.info("forgetful is made with new");
        Self
    }

    #[cfg(any())]
    fn restore(saved: DoesNotExist) -> Self {
        does_not_exist()
    }
}

/// A list of bytes alone, which has a short form.
struct Raw(Vec<u8>);

#[skills(namespace = "")]
impl Raw {
    fn new() -> Self {
        Self(vec![1])
    }

    fn save(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn restore(saved: Vec<u8>) -> Self {
        Self(saved)
    }
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    codec::to_vec(value).expect("encodes")
}

#[test]
fn each_block_takes_over_its_own() {
    #[derive(Serialize)]
    struct OldState {
        old: &'static str,
        next: u8,
    }
    #[derive(Serialize)]
    struct OldRecipe {
        notes: Vec<u8>,
        dish: &'static str,
    }
    let host = FakeHost::new();
    let old_state = OldState {
        old: "no longer read",
        next: 41,
    };
    let old_recipe = OldRecipe {
        notes: Vec::new(),
        dish: "soup",
    };
    let saved = saved_by([
        ("recipe", encoded(&old_recipe)),
        ("gone", encoded(&"of a block that is gone")),
        ("counting", encoded(&old_state)),
        ("heir", encoded(&"rich")),
        ("forgetful", encoded(&7)),
        ("", encoded(&vec![0_u8; 300])),
    ]);
    host.open_with(None, &saved).expect("takes over");
    assert_eq!(host.logged("tested goes on at 41").len(), 1);
    assert_eq!(host.logged("added is made with new").len(), 1);
    assert_eq!(host.logged("forgetful is made with new").len(), 1);
    assert_eq!(host.ask("counting.next", ()), Ok(41));
    assert_eq!(host.ask("recipe.dish", ()), Ok("soup".to_owned()));
    assert_eq!(
        host.ask("heir.fortune", ()),
        Ok("rich, inherited".to_owned())
    );

    // What is saved now is of this version's form.
    let saved = host.save().expect("saves").expect("a state");
    let saved: Value = codec::from_slice(&saved).expect("a map");
    assert_eq!(saved.as_map().map(<[_]>::len), Some(4), "{saved}");
    let of = |namespace: &str| -> Value {
        let bytes = saved.get(namespace).and_then(Value::as_bytes);
        codec::from_slice(bytes.expect("encoded as bytes")).expect("a value")
    };
    let counter = Value::from_iter([("next", 42), ("step", 1)]);
    assert_eq!(of("counting"), counter);
    assert_eq!(of("recipe").get("dish"), Some(&Value::from("soup")));
    assert_eq!(of("added"), Value::Some(Box::new(Value::Nil)));
    assert_eq!(of(""), Value::Bytes(vec![0; 300]));
}
