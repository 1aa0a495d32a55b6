//! Async skills in loaded libraries: who waits for them, who gives them up, and how they end.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use aigis_core::Host;
use aigis_plugin_api::{CallError, connect};

use crate::support::git_server::Repo;
use crate::support::home::TestHome;
use crate::support::plugins::{self, CORE, cargo_toml};
use crate::support::{DEADLINE, eventually};

const WAITER: &str = include_str!("fixtures/asynchronous/waiter.rs");
const WIRE: &str = include_str!("fixtures/asynchronous/wire.rs");

/// Waits until so many calls wait at a gate.
fn waiting(host: &Host, gate: &str, calls: usize) {
    eventually(&format!("{calls} calls at {gate}"), || {
        let waiting: usize = host.call("waiter.waiting", (gate,)).expect("answers");
        (waiting >= calls).then_some(())
    });
}

fn open(host: &Host, gate: &str) {
    host.call::<()>("waiter.open", (gate,)).expect("opens");
}

#[test]
fn async_skills_are_awaited_given_up_and_contained() {
    let home = TestHome::new();
    plugins::core(&home, "waiter", WAITER);
    home.config("[core]\nwaiter = \"{sources}/waiter\"\n");
    let host = home.host();

    is_the_same_from_everywhere(&home, &host);
    sleeps_and_spawns(&host);
    ends_when_it_is_given_up(&home, &host);
    contains_panics(&home, &host);
    waits_without_threads(&home, &host);

    assert_eq!(host.call("waiter.version", ()), Ok(1_u32), "it lives on");
    host.shutdown();
    let log = home.plugin_log("waiter");
    let end = &log[log.len().saturating_sub(3000)..];
    let place = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no `{text}` in …{end}"))
    };
    assert!(place("dropped: task of version 1") < place("version 1 is cleaned up"));
}

/// A caller cannot see that the skill is async: it waits, on its own thread, or it does not.
fn is_the_same_from_everywhere(home: &TestHome, host: &Host) {
    let session = connect(home.path()).expect("the core runs");
    thread::scope(|scope| {
        let embedded = scope.spawn(|| host.call::<u32>("waiter.pass", ("everywhere",)));
        let remote = scope.spawn(|| session.call::<u32>("waiter.pass", ("everywhere",)));
        waiting(host, "everywhere", 2);
        // The wakers are used on a thread that the plugin has started.
        open(host, "everywhere");
        assert_eq!(embedded.join().expect("no panic"), Ok(1));
        assert_eq!(remote.join().expect("no panic"), Ok(1));
    });
    // From inside another skill, awaited and waited for.
    open(host, "inside");
    assert_eq!(host.call("waiter.asks", ("inside",)), Ok((1_u32, 1_u32)));
    let ran = home.aigis(&["call", "waiter.naps", "1"]).exited(0);
    assert_eq!(ran.stdout.trim(), "1");
}

fn sleeps_and_spawns(host: &Host) {
    assert_eq!(host.call("waiter.naps", (2,)), Ok(2_u64));
    assert_eq!(host.call("waiter.in_time", ("never", 1)), Ok(false));
    open(host, "now");
    let most = u64::try_from(DEADLINE.as_millis()).expect("is small");
    assert_eq!(host.call("waiter.in_time", ("now", most)), Ok(true));
    assert_eq!(host.call("waiter.spawns", ()), Ok((1_u32, 2_u32, true)));
}

fn ends_when_it_is_given_up(home: &TestHome, host: &Host) {
    // By a caller in the same process, whose future is dropped.
    assert_eq!(host.call("waiter.gives_up", ("given up inside",)), Ok(true));
    home.wait_for_log("waiter", "dropped: given up inside");
    // By the deadline of a caller in another one.
    let session = connect(home.path()).expect("the core runs");
    let soon = Duration::from_millis(100);
    let error = session
        .call_within::<u32>("waiter.pass", ("given up in time",), soon)
        .expect_err("nobody opens");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    home.wait_for_log("waiter", "dropped: given up in time");
    // By a process that is gone.
    let mut caller = Caller::of(home, &["waiter.pass", "departed"]);
    home.wait_for_log("waiter", "waits at departed");
    caller.end();
    home.wait_for_log("waiter", "dropped: departed");
}

/// A process that calls, killed at the end of the test if it is still there.
struct Caller(Child);

impl Caller {
    fn of(home: &TestHome, call: &[&str]) -> Self {
        let mut command = home.command(&[&["call"], call].concat());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("aigis starts"))
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        self.0.wait().expect("can be waited for");
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.end();
    }
}

fn contains_panics(home: &TestHome, host: &Host) {
    open(host, "panics");
    let error = host.call::<()>("waiter.panics", ()).expect_err("panics");
    let CallError::Panicked {
        message, location, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(message, "in a poll");
    assert!(
        location
            .as_deref()
            .is_some_and(|place| place.contains("lib.rs:")),
        "{error}"
    );

    let session = connect(home.path()).expect("the core runs");
    let soon = Duration::from_millis(100);
    session
        .call_within::<()>("waiter.panics_when_dropped", (), soon)
        .expect_err("never ends");
    home.wait_for_log("waiter", "dropped: what stood before");
    home.wait_for_log("waiter", "a drop panics");
    let log = home.plugin_log("waiter");
    for panic in ["in a poll", "a drop panics"] {
        assert_eq!(log.matches(panic).count(), 1, "{log}");
    }
}

fn waits_without_threads(home: &TestHome, host: &Host) {
    const CALLS: usize = 3000;
    // Nobody will ever wake this one.
    let _lost = Caller::of(home, &["waiter.lost"]);
    home.wait_for_log("waiter", "is lost");
    let (passed, threads): (usize, usize) = host.call("waiter.crowd", (CALLS,)).expect("all pass");
    assert_eq!(passed, CALLS);
    // The other tests' threads are among them.
    assert!(
        threads < CALLS / 6,
        "{threads} threads for {CALLS} calls that wait"
    );
}

#[test]
fn a_future_ends_in_the_version_that_it_began_in() {
    let home = TestHome::new();
    let repo = Repo::init(home.source("waiter"), "master");
    let library = cargo_toml("waiter", "[lib]\ncrate-type = [\"cdylib\"]\n");
    plugins::write_into(
        repo.path(),
        &[
            ("Cargo.toml", &library),
            ("AIGIS/AIGIS.config", CORE),
            ("src/lib.rs", WAITER),
        ],
    );
    repo.commit_all("version 1");
    home.config(&format!("[core]\nwaiter = \"{}\"\n", repo.file_url()));
    let host = home.host();
    home.wait_for_log("waiter", "task of version 1 runs");
    let pipe = home.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());

    thread::scope(|scope| {
        let held = scope.spawn(|| host.call::<(u32, String)>("waiter.hold", (&pipe,)));
        // Opens once the skill reads.
        let mut writer = File::create(&pipe).expect("is read");
        repo.commit(
            "src/lib.rs",
            &WAITER.replace("VERSION: u32 = 1", "VERSION: u32 = 2"),
        );
        host.reload("waiter", false).expect("is swapped");
        assert_eq!(host.call("waiter.version", ()), Ok(2_u32));
        open(&host, "new");
        assert_eq!(host.call("waiter.pass", ("new",)), Ok(2_u32));
        let log = home.plugin_log("waiter");
        assert!(!log.contains("dropped: task of version 1"), "{log}");
        writer.write_all(b"go on").expect("is read");
        drop(writer);
        assert_eq!(held.join().expect("no panic"), Ok((1, "go on".to_owned())));
    });
    // Only then the old version's own task is cancelled, and only then it is cleaned up.
    home.wait_for_log("waiter", "version 1 is cleaned up");
    let log = home.plugin_log("waiter");
    let task = log
        .find("dropped: task of version 1")
        .expect("was cancelled");
    let cleanup = log.find("version 1 is cleaned up").expect("is there");
    assert!(task < cleanup, "{log}");
    assert!(!log.contains("dropped: task of version 2"), "{log}");
    host.shutdown();
}

#[test]
fn a_plugin_can_have_a_tokio_runtime_of_its_own() {
    let home = TestHome::new();
    let cargo = "[package]\nname = \"wire\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                 [lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\n\
                 aigis-plugin-api = { version = \"0.1\", features = [\"tokio\"] }\n\
                 tokio = { version = \"1\", features = [\"io-util\", \"net\", \"rt\", \"time\"] }\n";
    let files = [
        ("Cargo.toml", cargo),
        ("AIGIS/AIGIS.config", CORE),
        ("src/lib.rs", WIRE),
    ];
    plugins::write(&home, "wire", &files);
    home.config("[core]\nwire = \"{sources}/wire\"\n");
    let host = home.host();
    assert_eq!(host.call("wire.naps", (2,)), Ok(2_u64));
    // The threads of the runtime are no fault of the plugin's.
    let log = home.plugin_log("wire");
    assert!(!log.contains("left threads running"), "{log}");
    let line = "through a socket".to_owned();
    assert_eq!(host.call("wire.echo", (&line,)), Ok(line));
    host.reload("wire", true).expect("is swapped");
    home.wait_for_log("wire", "the wire is cut");
    assert_eq!(host.call("wire.naps", (1,)), Ok(1_u64));
    host.shutdown();
}
