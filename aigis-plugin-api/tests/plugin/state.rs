//! A block with state; opening and closing it badly has test programs of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use aigis_plugin_api::{Context, Logger, SettingsError, codec, skills};

use crate::FakeHost;
use crate::fake_host::{describe, saved_by};

pub struct TextCounter {
    next: AtomicU64,
    step: u64,
}

#[skills]
impl TextCounter {
    pub const STEP: u64 = 2;

    pub const NAME: &str = "counter";

    pub fn new(logger: &Logger, ctx: &Context) -> Result<Self, SettingsError> {
        #[derive(serde::Deserialize)]
        struct Settings {
            start: u64,
        }
        logger.info("the counter is made");
        let settings: Settings = ctx.settings()?;
        Ok(Self {
            next: AtomicU64::new(settings.start),
            step: Self::STEP,
        })
    }

    /// Counts on.
    pub fn next(&self, logger: &Logger, times: Option<u64>) -> u64 {
        logger.debug("counting");
        self.add(times.unwrap_or(1))
    }

    fn add(&self, times: u64) -> u64 {
        self.next.fetch_add(self.step * times, Ordering::SeqCst)
    }

    /// Needs no state.
    pub fn double(number: u64) -> u64 {
        number * 2
    }

    #[skill(rename = "same")]
    pub fn identity(&self, text: &str) -> String {
        text.to_owned()
    }

    #[skill(skip)]
    pub fn give_back(&self) -> &Self {
        self
    }

    pub fn uses_what_is_skipped(&self) -> u64 {
        self.give_back().step
    }

    #[cfg(any())]
    pub fn compiled_out(&self, nothing: DoesNotExist) {}

    #[cfg(any())]
    pub fn cleanup(self) {
        does_not_exist();
    }

    #[cfg(any())]
    pub fn save(&self) -> DoesNotExist {
        does_not_exist()
    }

    #[cfg(any())]
    pub fn restore(saved: DoesNotExist) -> Self {
        does_not_exist()
    }
}

/// A type in a module, with a namespace of its own choice and `Self` in its signatures.
pub mod nested {
    use aigis_plugin_api::{skill_type, skills};

    #[skill_type]
    #[derive(Debug, PartialEq)]
    pub struct Doubler {
        pub factor: u8,
    }

    #[skills(namespace = "math.doubling")]
    impl Doubler {
        fn new() -> Self {
            Self { factor: 2 }
        }

        pub fn of(&self, other: Self) -> Vec<Self> {
            vec![Self {
                factor: self.factor * other.factor,
            }]
        }

        pub fn fails(&self) -> Result<Self, std::fmt::Error> {
            Err(std::fmt::Error)
        }
    }
}

/// A state that is handed over, in a form of its own.
pub struct Ledger {
    entries: std::sync::Mutex<Vec<String>>,
}

#[skills]
impl Ledger {
    fn new() -> Self {
        Self {
            entries: std::sync::Mutex::new(vec!["first".to_owned()]),
        }
    }

    pub fn entries(&self) -> Vec<String> {
        self.entries.lock().expect("nobody panics").clone()
    }

    #[cfg(not(any()))]
    pub fn save(&self, logger: &Logger, ctx: &Context) -> Vec<String> {
        logger.info(format_args!("saving for {}", ctx.plugin()));
        self.entries()
    }

    #[cfg(not(any()))]
    pub fn restore(_: Vec<String>) -> Self {
        unreachable!("this version is the first")
    }
}

/// A use of the names that is none of the host's business.
pub struct Archive;

#[skills]
impl Archive {
    fn new() -> Self {
        Self
    }

    #[skill(skip)]
    pub fn save(&self, path: &str, copies: u8) -> String {
        format!("{copies} of {path}")
    }

    #[skill(rename = "restore")]
    pub fn restore_from(&self, path: &str) -> String {
        format!("restored {}", self.save(path, 2))
    }
}

/// In a module the names are ordinary.
#[skills]
pub mod without_state {
    pub fn save(text: &str) -> String {
        text.to_uppercase()
    }

    pub fn restore() -> u8 {
        1
    }
}

aigis_plugin_api::import! {
    mod text_counter {
        const STEP: u64;
        fn next(times: Option<u64>) -> u64;
        fn same(text: &str) -> String;
    }
}

#[test]
fn calls_share_one_state() {
    let host = FakeHost::shared();
    assert_eq!(host.logged("the counter is made").len(), 1);
    let first: u64 = host.ask("text_counter.next", ()).expect("counts");
    assert!(first >= 100);
    let second = text_counter::next(Some(3)).expect("counts");
    assert_eq!(second, first + 2);
    assert_eq!(host.ask("text_counter.next", ()), Ok(second + 6));
    assert!(host.entered("text_counter.next") > 0);
}

#[test]
fn constants_and_functions_without_state() {
    let host = FakeHost::shared();
    assert_eq!(text_counter::STEP(), Ok(2));
    assert_eq!(host.entered("text_counter.STEP"), 1);
    assert_eq!(host.ask("text_counter.NAME", ()), Ok("counter".to_owned()));
    assert_eq!(host.ask("text_counter.double", (4,)), Ok(8_u64));
    assert_eq!(text_counter::same("ä"), Ok("ä".to_owned()));
    assert!(host.skill("text_counter.give_back").is_none());
    assert!(host.skill("text_counter.new").is_none());
    assert!(host.skill("text_counter.compiled_out").is_none());
}

#[test]
fn self_in_a_signature_is_the_type() {
    let host = FakeHost::shared();
    assert_eq!(
        host.ask("math.doubling.of", (nested::Doubler { factor: 4 },)),
        Ok(vec![nested::Doubler { factor: 8 }])
    );
    let (_, skill) = host.skill("math.doubling.of").expect("a skill");
    assert_eq!(
        skill.signature.to_string(),
        "fn(other: Doubler) -> Vec<Doubler>"
    );
    assert!(host.ask::<()>("math.doubling.fails", ()).is_err());
}

#[test]
fn only_blocks_with_save_hand_something_over() {
    let host = FakeHost::shared();
    assert!(describe().save && describe().restore);
    let saved = host.save().expect("saves").expect("a state");
    let expected = codec::to_vec(&["first"]).expect("encodes");
    assert_eq!(saved, saved_by([("ledger", expected)]));
    assert_eq!(host.logged("saving for tested").len(), 1);
    // The version goes on.
    assert_eq!(host.ask("ledger.entries", ()), Ok(vec!["first".to_owned()]));
}

#[test]
fn save_and_restore_are_no_skills_of_a_state_but_names_like_any_in_a_module() {
    let host = FakeHost::shared();
    for name in ["ledger.save", "ledger.restore", "archive.save"] {
        assert!(host.skill(name).is_none(), "{name}");
    }
    assert_eq!(
        host.ask("archive.restore", ("disk",)),
        Ok("restored 2 of disk".to_owned())
    );
    assert_eq!(host.ask("without_state.save", ("a",)), Ok("A".to_owned()));
    assert_eq!(host.ask("without_state.restore", ()), Ok(1));
}
