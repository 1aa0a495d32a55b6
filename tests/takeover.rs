//! A core that makes way for the next one: nobody waits in vain, nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aigis_core::{PluginStatus, State};
use aigis_plugin_api::Session;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, is_alive, plugins, unmeasured};

/// Counts the calls of two callers, and hands its counts over.
const COUNTER: &str = r#"
use std::sync::atomic::{AtomicU64, Ordering};
use aigis_plugin_api::skills;

pub struct Counter([AtomicU64; 2]);

#[skills]
impl Counter {
    pub fn new() -> Self {
        Self([AtomicU64::new(0), AtomicU64::new(0)])
    }

    pub fn next(&self, caller: u32) -> u64 {
        self.0[caller as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn slow(&self, milliseconds: u64) {
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    }

    pub fn save(&self) -> (u64, u64) {
        (self.0[0].load(Ordering::SeqCst), self.0[1].load(Ordering::SeqCst))
    }

    pub fn restore(counts: (u64, u64)) -> Self {
        Self([AtomicU64::new(counts.0), AtomicU64::new(counts.1)])
    }
}
"#;

/// Calls without a pause; a failure, a call that was lost or one that ran twice is the end of it.
const CALLER: &str = r#"
use aigis_plugin_api::{CallError, import, launch};

import! {
    mod counter {
        fn next(caller: u32) -> u64;
    }
}

#[launch]
fn launch() -> Result<(), CallError> {
    let mut last = 0;
    loop {
        let number = counter::next(0)?;
        assert_eq!(number, last + 1);
        last = number;
        if number % 1000 == 0 {
            println!("at {number}");
        }
    }
}
"#;

fn statuses(home: &TestHome) -> BTreeMap<String, PluginStatus> {
    let session = aigis_plugin_api::connect(home.path()).expect("connects");
    let all: Vec<PluginStatus> = session.call("aigis.status", ()).expect("answers");
    all.into_iter().map(|it| (it.name.clone(), it)).collect()
}

/// Starts the next core, and waits until it has taken over and the last one has gone.
fn take_over(home: &TestHome, old: Core) -> Core {
    let next = Core::begin_by(home.command(&["build-and-run", "--takeover"]));
    let ran = old.wait();
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, home.core_log());
    let session: Session = eventually("the next core", || {
        aigis_plugin_api::connect(home.path()).ok()
    });
    assert_eq!(session.core_pid(), next.pid());
    let _: aigis_plugin_api::Value = session
        .call_within("aigis.settled", (60_000_u64,), Duration::from_secs(70))
        .expect("settles");
    next
}

#[test]
fn a_core_is_taken_over_under_load_and_no_call_fails() {
    let _deadline = Deadline::begin(Duration::from_secs(60));
    let home = TestHome::new();
    plugins::core(&home, "counter", COUNTER);
    plugins::internal(&home, "caller", CALLER);
    plugins::external(
        &home,
        "ticker",
        "",
        "n=0; while :; do n=$((n+1)); echo \"line $n\"; sleep 0.01; done",
    );
    home.config(
        "[core]\ncounter = \"{sources}/counter\"\n[internal]\ncaller = \"{sources}/caller\"\n\
         [external]\nticker = \"{sources}/ticker\"\n",
    );
    let mut core = Core::start(&home);
    let before = statuses(&home);
    home.wait_for_log("caller", "at 1000");
    // A client of no plugin calls by name all the while.
    let (stop, made) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (stops, makes) = (Arc::clone(&stop), Arc::clone(&made));
    let path = home.path();
    let client = std::thread::spawn(move || {
        let session = aigis_plugin_api::connect(path).expect("connects");
        let (mut last, mut longest) = (0, Duration::ZERO);
        while !stops.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let number: u64 = session.call("counter.next", (1,)).expect("no call fails");
            longest = longest.max(begun.elapsed());
            assert_eq!(number, last + 1, "lost, or made twice");
            last = number;
            makes.fetch_add(1, Ordering::Relaxed);
        }
        longest
    });
    for _ in 0..3 {
        let calls = made.load(Ordering::Relaxed);
        core = take_over(&home, core);
        eventually("calls of the client", || {
            assert!(!client.is_finished(), "a call has failed");
            (made.load(Ordering::Relaxed) > calls + 100).then_some(())
        });
        let after = statuses(&home);
        for name in ["caller", "ticker"] {
            assert_eq!(after[name].state, State::Ready, "{after:?}");
            assert_eq!(unmeasured(&after[name]), unmeasured(&before[name]));
        }
        assert_eq!(after["counter"].pid, Some(core.pid()));
    }
    stop.store(true, Ordering::Relaxed);
    println!(
        "the longest call took {:?}",
        client.join().expect("no call fails")
    );
    let log = home.plugin_log("ticker");
    let numbers = log
        .lines()
        .filter_map(|line| line.split_once(" : INFO : line ")?.1.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
    core.signal("TERM");
    core.wait().exited(0);
}

#[test]
fn a_core_that_cannot_take_over_leaves_the_running_one_as_it_is() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "counter", COUNTER);
    plugins::external(&home, "sleeper", "", "exec sleep 100000");
    home.config(
        "[core]\ncounter = \"{sources}/counter\"\n[external]\nsleeper = \"{sources}/sleeper\"\n",
    );
    let core = Core::start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("connects");
    assert_eq!(session.call::<u64>("counter.next", (1,)), Ok(1));
    let before = statuses(&home);
    // What the config wants more of cannot be built.
    plugins::core(&home, "broken", "this is no Rust");
    home.config(
        "[core]\ncounter = \"{sources}/counter\"\nbroken = \"{sources}/broken\"\n\
         [external]\nsleeper = \"{sources}/sleeper\"\n",
    );
    let ran = home.aigis(&["build-and-run", "--takeover"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("is not taken over"), "{}", ran.stderr);
    assert!(ran.stderr.contains("broken"), "{}", ran.stderr);
    let after = statuses(&home);
    assert!(after.keys().eq(before.keys()), "{after:?}");
    for (name, before) in &before {
        let after = &after[name];
        assert_eq!(after.generations, before.generations);
        assert_eq!((after.state, after.pid), (before.state, before.pid));
        assert_eq!(unmeasured(after), unmeasured(before));
    }
    assert_eq!(session.call::<u64>("counter.next", (1,)), Ok(2));
    core.signal("TERM");
    core.wait().exited(0);
    assert!(!is_alive(before["sleeper"].pid.expect("ran")));
}

#[test]
fn a_core_that_is_too_busy_to_hand_over_goes_on() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "counter", COUNTER);
    home.config("[core]\ncounter = \"{sources}/counter\"\n");
    let core = Core::start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("connects");
    assert_eq!(session.call::<u64>("counter.next", (1,)), Ok(1));
    // Longer than a hand-over may take.
    let caller = session.clone();
    let slow = std::thread::spawn(move || caller.call::<()>("counter.slow", (20_000,)));
    let status = || session.call::<u64>("counter.next", (0,));
    assert_eq!(status(), Ok(1));
    let ran = home.aigis(&["build-and-run", "--takeover"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert!(
        ran.stderr.contains("calls are still running"),
        "{}",
        ran.stderr
    );
    // Whoever has called meanwhile is answered, and so is everybody after that.
    assert_eq!(session.call::<u64>("counter.next", (1,)), Ok(2));
    assert_eq!(statuses(&home)["counter"].pid, Some(core.pid()));
    assert_eq!(slow.join().expect("no panic"), Ok(()));
    core.signal("TERM");
    core.wait().exited(0);
}

#[test]
fn without_a_running_core_it_is_a_start() {
    let home = TestHome::new();
    plugins::external(&home, "sleeper", "", "exec sleep 100000");
    home.config("[external]\nsleeper = \"{sources}/sleeper\"\n");
    let core = Core::start_by(&home, home.command(&["build-and-run", "--takeover"]));
    assert_eq!(statuses(&home)["sleeper"].state, State::Ready);
    core.signal("TERM");
    core.wait().exited(0);
}
