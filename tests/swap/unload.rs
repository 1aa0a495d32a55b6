//! Old versions leave memory, whatever their code has left in the threads that called it.

use std::fs::File;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aigis_core::host::GenerationState;
use aigis_core::{Host, State};
use aigis_plugin_api::CallError;

use super::{generation_is, is_unmapped, pipe, status};
use crate::support::home::TestHome;
use crate::support::plugins::{self, CORE, cargo_toml};
use crate::support::{Deadline, eventually};

const KINDS: &str = include_str!("../fixtures/swap/kinds.rs");
const BUILD: &str = include_str!("../fixtures/swap/build.rs");
const C: &str = include_str!("../fixtures/swap/kinds.c");
const DRIVER: &str = include_str!("../fixtures/swap/driver.rs");
const TIMED: &str = include_str!("../fixtures/swap/timed.rs");

/// What a library may leave behind; each is a skill of `kinds`.
const ALL: [&str; 10] = [
    "plain",
    "thread_local",
    "traced",
    "random",
    "matched",
    "caught",
    "panics",
    "joined",
    "in_c",
    "started",
];

fn start(home: &TestHome) -> Host {
    let more = "tracing = { version = \"0.1\", default-features = false, features = [\"std\"] }\n\
                rand = \"0.9\"\nregex = \"1\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n";
    let files = [
        ("Cargo.toml", &*cargo_toml("kinds", more)),
        ("AIGIS/AIGIS.config", CORE),
        ("build.rs", BUILD),
        ("src/kinds.c", C),
        ("src/lib.rs", KINDS),
    ];
    plugins::write(home, "kinds", &files);
    plugins::core(home, "driver", DRIVER);
    home.config("[core]\nkinds = \"{sources}/kinds\"\ndriver = \"{sources}/driver\"\n");
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    host
}

/// A call, by the name of the skill that it ends up in; answers with the generation that served it.
type Way = Box<dyn FnMut(&str) -> Result<u64, String> + Send>;

/// A thread that makes one call after the other and lives as long as this.
struct Caller {
    name: String,
    kinds: Sender<(String, Sender<Result<u64, String>>)>,
    thread: JoinHandle<()>,
}

impl Caller {
    fn new(name: &str, mut way: Way) -> Self {
        let (kinds, calls) = channel::<(String, Sender<Result<u64, String>>)>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            for (kind, answer) in calls {
                // Whoever asks waits for it.
                let _ = answer.send(way(&kind));
            }
        });
        Self {
            name: name.to_owned(),
            kinds,
            thread: thread.expect("starts"),
        }
    }

    /// Calls; the answer must be the generation, or the panic that was asked for.
    fn call(&self, kind: &str, generation: u64) {
        let (sender, answer) = channel();
        self.kinds.send((kind.to_owned(), sender)).expect("lives");
        let answer = answer.recv().expect("answers");
        let panicked = format!("panicked: generation {generation} ");
        match answer {
            Ok(served) if kind != "panics" => assert_eq!(served, generation, "{}", self.name),
            Err(error) if kind == "panics" && error.contains(&panicked) => {}
            other => panic!("{kind} by {}: {other:?}", self.name),
        }
    }

    fn end(self) {
        drop(self.kinds);
        self.thread.join().expect("no panic");
    }
}

fn text<E: std::fmt::Display>(error: CallError<E>) -> String {
    error.to_string()
}

fn by_name(host: &Host) -> Way {
    let host = host.clone();
    Box::new(move |kind| host.call(&format!("kinds.{kind}"), ()).map_err(text))
}

fn callers(home: &TestHome, host: &Host) -> Vec<Caller> {
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let through = |skill: &'static str| -> Way {
        let host = host.clone();
        Box::new(move |kind| host.call(skill, (kind,)).map_err(text))
    };
    let in_session: Way = Box::new(move |kind| {
        let outcome = session.call(&format!("kinds.{kind}"), ());
        outcome.map_err(text)
    });
    vec![
        Caller::new("named", by_name(host)),
        Caller::new("direct", through("driver.direct")),
        Caller::new("started", through("driver.start")),
        Caller::new("session", in_session),
    ]
}

#[test]
fn what_a_version_leaves_in_threads_goes_with_it() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let callers = callers(&home, &host);
    let mut generation = 1;
    for kind in ALL {
        for caller in &callers {
            caller.call(kind, generation);
            caller.call(kind, generation);
        }
        let swapped = host.reload("kinds", false).expect("is swapped");
        assert_eq!(swapped.generation, generation + 1);
        // The threads go on calling, which is where they end what they have; those of the host that
        // are idle do so by themselves.
        eventually(
            &format!("the version that `{kind}` was called in to go"),
            || {
                for caller in &callers {
                    caller.call("plain", generation + 1);
                }
                let all = status(&host, "kinds").generations;
                let old = all.iter().find(|one| one.number == generation)?;
                (old.state == GenerationState::Unmapped).then_some(())
            },
        );
        is_unmapped(&host, &home, "kinds", generation);
        generation += 1;
    }
    // All at once, from a new version into the next.
    for caller in &callers {
        for kind in ALL {
            caller.call(kind, generation);
        }
    }
    host.stop_forced("kinds").expect("is stopped");
    // None of them has called since; each ends what it has at its own end.
    for caller in callers {
        caller.end();
    }
    is_unmapped(&host, &home, "kinds", generation);
    host.shutdown();
}

#[test]
fn a_version_stays_for_the_thread_that_it_has_left() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let gate = pipe(&home, "gate");
    // On a thread that leaves nothing of its own.
    let leaks = || host.call("kinds.leaks", (&gate,));
    let leaked = thread::scope(|scope| scope.spawn(leaks).join().expect("no panic"));
    assert_eq!(leaked, Ok(1_u64));
    host.reload("kinds", false).expect("is swapped");
    let status = generation_is(&host, "kinds", 1, GenerationState::Retained);
    let reason = status.reason.expect("has a reason");
    assert_eq!(reason, "thread `leaked`, which it started, still runs");
    assert!(status.bytes > 0);
    assert_eq!(host.call("kinds.thread_local", ()), Ok(2_u64));
    // Opens when the thread reads, and so lets it end.
    drop(File::create(&gate).expect("is read"));
    is_unmapped(&host, &home, "kinds", 1);
    host.shutdown();
}

#[test]
fn a_version_stays_for_a_thread_that_does_not_come_by() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    for (generation, again) in [(1, true), (2, false)] {
        let sleeper = Caller::new("sleeper", by_name(&host));
        sleeper.call("thread_local", generation);
        host.reload("kinds", false).expect("is swapped");
        let status = generation_is(&host, "kinds", generation, GenerationState::Retained);
        let reason = status.reason.expect("has a reason");
        assert_eq!(reason, "thread `sleeper` still holds a thread-local");
        if again {
            sleeper.call("plain", generation + 1);
            is_unmapped(&host, &home, "kinds", generation);
        }
        sleeper.end();
        is_unmapped(&host, &home, "kinds", generation);
    }
    let serving = status(&host, "kinds").generation;
    assert_eq!(serving, 3);
    host.shutdown();
}

#[test]
fn a_version_that_cannot_be_followed_stays_and_the_log_says_why() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "timed", TIMED);
    home.config("[core]\ntimed = \"{sources}/timed\"\n");
    let host = home.host();
    assert_eq!(host.call("timed.tick", ()), Ok(1_u32));
    host.reload("timed", true).expect("is swapped");
    let status = generation_is(&host, "timed", 1, GenerationState::Retained);
    let reason = status.reason.expect("has a reason");
    assert_eq!(
        reason,
        "its threads cannot be followed: it uses `timer_create`, which cannot be followed"
    );
    host.shutdown();
    let log = home.plugin_log("timed");
    for generation in [1, 2] {
        let line = format!("generation {generation} stays in memory: {reason}");
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
    // Nobody knows how many there are.
    assert!(!log.contains("left threads running"), "{log}");
}
