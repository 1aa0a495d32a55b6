//! Streams between libraries, processes and tools, and what becomes of them when a plugin is replaced.

use std::fs;

use aigis_core::Host;
use aigis_core::host::GenerationState;
use aigis_plugin_api::{CallError, Session, Stream, connect};

use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const BROOK: &str = include_str!("fixtures/streams/brook.rs");
const WATCHER: &str = include_str!("fixtures/streams/watcher.rs");
const MILL: &str = include_str!("fixtures/streams/mill.rs");

/// The furthest that a producer may be ahead of a consumer in another process, over two sessions: their
/// windows, and what is on its way.
const AHEAD: u64 = 2 * 64 + 4;

fn brook(namespace: &str) -> String {
    BROOK.replace("NAMESPACE", namespace)
}

/// A module with a mill that is driven by the skills of `source`.
fn mill(namespace: &str, source: &str) -> String {
    let text = MILL
        .replace("NAMESPACE", namespace)
        .replace("SOURCE", source);
    let text = text.replace("//!", "//");
    format!("mod {namespace}_in {{\n{text}\n}}\n")
}

fn start(home: &TestHome) -> Host {
    plugins::core(home, "brook", &brook("brook"));
    let mills = mill("mill", "brook") + &mill("miller", "spring");
    plugins::core(home, "mills", &mills);
    let spring = brook("spring") + &mill("wheel", "brook") + &mill("race", "spring");
    let launch = "#[aigis_plugin_api::launch]\nfn launch() { loop { std::thread::park(); } }\n";
    let manifest = format!("{}RESTART = 5\n", plugins::INTERNAL);
    plugins::write(
        home,
        "spring",
        &[
            ("Cargo.toml", &plugins::cargo_toml("spring", "")),
            ("AIGIS/AIGIS.config", &manifest),
            ("src/main.rs", &(spring + launch)),
        ],
    );
    home.config(
        "[core]\nbrook = \"{sources}/brook\"\nmills = \"{sources}/mills\"\n\n\
         [internal]\nspring = \"{sources}/spring\"\n",
    );
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.error, None, "{status:?}");
    }
    host
}

#[test]
fn streams_flow_between_libraries_processes_and_tools() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    let host = start(&home);
    let session = connect(home.path()).expect("the core runs");

    // Library to library, library to process, process to library, process to process.
    for mill in ["mill", "miller", "wheel", "race"] {
        let ground: String = host.call(&format!("{mill}.grinds"), ()).expect("grinds");
        assert_eq!(ground, "blocking is fine", "{mill}");
        let ground: String = host
            .call(&format!("{mill}.grinds_async"), ())
            .expect("grinds");
        assert_eq!(ground, "async is fine", "{mill}");
        let ahead: u64 = host.call(&format!("{mill}.ahead"), (300,)).expect("counts");
        let most = if mill == "mill" { 0 } else { AHEAD };
        assert!(ahead <= most, "{mill}: {ahead}");
        let sum: u64 = host.call(&format!("{mill}.long"), (10_000,)).expect("sums");
        assert_eq!(sum, 49_995_000, "{mill}");
    }
    home.wait_for_log("brook", "dropped: endless of version 1");
    home.wait_for_log("spring", "dropped: endless of version 1");

    from_outside(&home, &host, &session);
    a_process_dies(&host, &session);
    old_streams_end_in_old_code(&home, &host, &session);
    host.shutdown();
}

/// An embedder, a tool and the command line.
fn from_outside(home: &TestHome, host: &Host, session: &Session) {
    let embedded = host.scope(|| aigis_plugin_api::stream::<u64>("brook.endless", ()));
    let items: Vec<_> = embedded.expect("begins").take(3).collect();
    assert_eq!(items, [Ok(0), Ok(1), Ok(2)]);
    let sum: u64 = session
        .call("brook.sum", (vec![1_u64, 2, 3], 4))
        .expect("a list will do for a stream");
    assert_eq!(sum, 10);

    let ran = home.aigis(&["call", "brook.count", "3"]).exited(0);
    assert_eq!(ran.stdout, "0\n1\n2\n");
    let ran = home.aigis(&["call", "spring.breaks", "1"]).exited(4);
    assert_eq!(ran.stdout, "0\n");
    assert!(ran.stderr.contains("dry at 1"), "{}", ran.stderr);
    let ran = home
        .aigis(&["call", "brook.sum", "[1, 2, 3]", "4"])
        .exited(0);
    assert_eq!(ran.stdout, "10\n");
    let listed = home.aigis(&["skills"]).exited(0).stdout;
    assert!(listed.contains("-> Stream<u64>"), "{listed}");
}

fn a_process_dies(host: &Host, session: &Session) {
    let mut spring: Stream<u64> = session.stream("spring.endless", ()).expect("begins");
    assert_eq!(spring.next(), Some(Ok(0)));
    let gone: Result<(), _> = session.call("spring.exit", ());
    assert!(
        matches!(gone, Err(CallError::Disconnected { .. })),
        "{gone:?}"
    );
    let end = spring.find_map(Result::err).expect("it ends");
    assert!(matches!(end, CallError::Disconnected { .. }), "{end}");
    let back = || host.call::<u32>("spring.version", ()).ok();
    assert_eq!(eventually("the next spring", back), 1);
}

/// What a plugin waits for that others make keeps neither a hand-over waiting nor the old version.
#[test]
fn a_plugin_is_replaced_while_it_waits_for_items() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    plugins::core(&home, "brook", &brook("brook"));
    plugins::core(&home, "watcher", WATCHER);
    home.config("[core]\nbrook = \"{sources}/brook\"\nwatcher = \"{sources}/watcher\"\n");
    let host = home.host();
    let waits = |version: u32| {
        for who in ["watches quiet", "watches endless"] {
            home.wait_for_log("watcher", &format!("task of version {version} {who}"));
        }
        home.wait_for_log("watcher", &format!("thread of version {version} watches"));
    };
    waits(1);
    let first = last(&host, "watcher");
    let text = WATCHER.replace("VERSION: u32 = 1", "VERSION: u32 = 2");
    fs::write(home.source("watcher").join("src/lib.rs"), text).expect("writes");
    host.reload("watcher", true).expect("is reloaded");
    assert_eq!(host.call("watcher.handed", ()), Ok(1_u32));
    waits(2);
    // The thread is let go with an error, and so the library can go.
    home.wait_for_log("watcher", "thread of version 1 ends: Some(");
    generation_is(&host, "watcher", first, GenerationState::Unmapped);
    host.shutdown();
}

/// Replaces the brook by its next version.
fn reload(home: &TestHome, host: &Host, version: u32) {
    let text = brook("brook").replace("VERSION: u32 = 1", &format!("VERSION: u32 = {version}"));
    let folder = home.source("brook");
    fs::write(folder.join("src/lib.rs"), text).expect("writes");
    let manifest = format!("{}DRAIN_TIMEOUT = 0.05\n", plugins::CORE);
    fs::write(folder.join("AIGIS/AIGIS.config"), manifest).expect("writes");
    host.reload("brook", true).expect("is reloaded");
    assert_eq!(host.call("brook.version", ()), Ok(version));
}

fn generation_is(host: &Host, plugin: &str, number: u64, state: GenerationState) {
    eventually(&format!("generation {number} to be {state:?}"), || {
        let status = host
            .status()
            .into_iter()
            .find(|status| status.name == plugin)?;
        let found = status.generations.iter().find(|it| it.number == number)?;
        (found.state == state).then_some(())
    });
}

fn old_streams_end_in_old_code(home: &TestHome, host: &Host, session: &Session) {
    let versions = || session.stream::<u32>("brook.versions", ()).expect("begins");
    let mut old = versions();
    assert_eq!(old.next(), Some(Ok(1)));
    let first = last(host, "brook");
    reload(home, host, 2);
    // More than can have been on its way.
    assert!(old.by_ref().take(1000).all(|version| version == Ok(1)));
    let mut levels = session
        .stream::<u32>("brook.gauge.levels", ())
        .expect("begins");
    assert_eq!(levels.next(), Some(Ok(1)), "the state was handed over");
    drop(levels);
    let mut new = versions();
    assert_eq!(new.next(), Some(Ok(2)));
    drop(old);
    home.wait_for_log("brook", "dropped: versions of version 1");
    generation_is(host, "brook", first, GenerationState::Unmapped);

    // One that nobody ends is ended when the second version has had its time, and with it that version.
    let second = last(host, "brook");
    reload(home, host, 3);
    let end = new.find_map(Result::err).expect("it ends");
    assert!(matches!(end, CallError::Superseded { .. }), "{end}");
    assert!(end.to_string().contains("DRAIN_TIMEOUT"), "{end}");
    home.wait_for_log("brook", "dropped: versions of version 2");
    generation_is(host, "brook", second, GenerationState::Unmapped);
    assert_eq!(versions().next(), Some(Ok(3)));
}

/// The number of the version that serves.
fn last(host: &Host, plugin: &str) -> u64 {
    let status = host
        .status()
        .into_iter()
        .find(|status| status.name == plugin);
    let status = status.expect("is there");
    let numbers = status
        .generations
        .iter()
        .map(|generation| generation.number);
    numbers.max().expect("serves")
}
