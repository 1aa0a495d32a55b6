//! `save` and `restore`: calls wait while the state goes from version to version, and none is lost.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::host::GenerationState;
use aigis_core::{Host, State};
use aigis_plugin_api::import;

use super::{AtEnd, is_unmapped, pipe, status};
use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, plugins};

const LEDGER: &str = include_str!("../fixtures/swap/ledger.rs");
const RELAY: &str = include_str!("../fixtures/swap/relay.rs");

import! {
    mod ledger {
        fn add(amount: u64) -> u64;
    }
}

fn start(home: &TestHome) -> Host {
    plugins::core(home, "ledger", LEDGER);
    plugins::core(home, "relay", RELAY);
    home.config("[core]\nledger = \"{sources}/ledger\"\nrelay = \"{sources}/relay\"\n");
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    host
}

fn generation(host: &Host) -> u64 {
    host.call("ledger.generation", ()).expect("is served")
}

/// Adds 1 until it is time to stop; returns every sum that was answered.
fn adds(done: &AtomicBool, count: &AtomicU64, mut add: impl FnMut() -> u64) -> Vec<u64> {
    let mut sums = Vec::new();
    while !done.load(Ordering::SeqCst) {
        sums.push(add());
        count.fetch_add(1, Ordering::SeqCst);
    }
    sums
}

#[test]
fn no_write_is_lost_on_the_way_from_version_to_version() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let done = AtomicBool::new(false);
    let counts: [AtomicU64; 4] = Default::default();
    let by_name = || host.call("ledger.add", (1_u64,)).expect("is added");
    let in_session = || session.call("ledger.add", (1_u64,)).expect("is added");
    let sums: Vec<Vec<u64>> = thread::scope(|scope| {
        let _stop = AtEnd(|| {
            done.store(true, Ordering::SeqCst);
            let _ = host.call::<()>("relay.stop", ());
        });
        let callers = [
            scope.spawn(|| adds(&done, &counts[0], by_name)),
            scope.spawn(|| adds(&done, &counts[1], by_name)),
            scope.spawn(|| {
                let add = || ledger::add(1).expect("is added");
                host.scope(|| adds(&done, &counts[2], add))
            }),
            scope.spawn(|| adds(&done, &counts[3], in_session)),
            scope.spawn(|| host.call("relay.drive", ()).expect("all are added")),
        ];
        for reloads in 1..=20 {
            let seen = || counts.each_ref().map(|count| count.load(Ordering::SeqCst));
            let before = seen();
            eventually("every caller", || {
                let now = seen();
                now.iter()
                    .zip(before)
                    .all(|(now, before)| *now > before)
                    .then_some(())
            });
            let status = host.reload("ledger", false).expect("is swapped");
            assert_eq!(
                (status.state, status.generation),
                (State::Ready, reloads + 1)
            );
        }
        drop(_stop);
        callers
            .map(|caller| caller.join().expect("no panic"))
            .into()
    });
    for of_one in &sums {
        assert!(!of_one.is_empty());
        assert!(of_one.is_sorted_by(|a, b| a < b), "one goes back");
    }
    let mut all = sums.concat();
    all.sort_unstable();
    // Every sum was somebody's answer, and nobody's twice.
    let expected: Vec<u64> = (1..).take(all.len()).collect();
    assert!(
        all == expected,
        "{} answers, the last {:?}",
        all.len(),
        all.last()
    );
    assert_eq!(host.call("ledger.value", ()), Ok(all.len() as u64));
    for number in 14..=20 {
        is_unmapped(&host, &home, "ledger", number);
    }
    host.shutdown();
}

/// A `save` that does not return holds nobody for longer than a hand-over may take; it is called no
/// second time while it runs.
fn save_does_not_return(home: &TestHome, host: &Host) {
    let gate = pipe(home, "data/ledger/gate");
    home.write("data/ledger/mood", "save waits");
    is_refused(host, false, "its `save` has not returned within");
    // Returns now; nobody hears what it has saved.
    fs::write(&gate, "goes on").expect("is read");
    fs::remove_file(&gate).expect("is there");
}

/// Reloads, which is to fail; what is said names the cause, and generation 1 serves on.
fn is_refused(host: &Host, fresh: bool, why: &str) {
    let refused = host.reload("ledger", fresh).expect_err("is refused");
    assert!(refused.to_string().contains(why), "{refused}");
    let status = status(host, "ledger");
    assert_eq!((status.state, status.generation), (State::Ready, 1));
    let error = status.error.expect("has an error");
    assert!(error.contains(why), "{error}");
    assert_eq!(generation(host), 1);
}

#[test]
fn what_fails_in_the_hand_over_leaves_the_old_version_serving() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let done = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let sums = thread::scope(|scope| {
        let stop = AtEnd(|| done.store(true, Ordering::SeqCst));
        let adding = scope.spawn(|| {
            let add = || host.call("ledger.add", (1_u64,)).expect("is added");
            adds(&done, &count, add)
        });
        for (mood, why) in [
            ("save fails", "its `save` has failed"),
            ("save fails", "save does not feel like it"),
            ("save panics", "save is in a panic"),
            ("restore fails", "restore does not feel like it"),
            ("restore panics", "restore is in a panic"),
        ] {
            home.write("data/ledger/mood", mood);
            is_refused(&host, false, why);
        }
        save_does_not_return(&home, &host);
        fs::remove_file(home.path().join("data/ledger/mood")).expect("is there");
        does_not_fit(&home, &host);
        a_call_is_held(&home, &host);
        a_call_does_not_end(&home, &host);
        drop(stop);
        adding.join().expect("no panic")
    });
    assert!(sums.iter().copied().eq((1..).take(sums.len())), "{sums:?}");
    assert_eq!(host.call("ledger.value", ()), Ok(sums.len() as u64));
    let serving = generation(&host);
    for one in status(&host, "ledger").generations {
        if one.number != serving {
            is_unmapped(&host, &home, "ledger", one.number);
        }
    }
    host.shutdown();
}

/// A version that expects something else of the one before.
fn does_not_fit(home: &TestHome, host: &Host) {
    let other = LEDGER
        .replace("saved: u64,", "saved: String,")
        .replace("new(saved)", "new(saved.len() as u64)");
    plugins::core(home, "ledger", &other);
    is_refused(
        host,
        true,
        "what the version before saved of the block `ledger` does not fit",
    );
    plugins::core(home, "ledger", LEDGER);
}

/// Returns the one letter that the system has for what a thread does.
fn thread_state(thread: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// While a new version restores, a call waits; it goes on in the old one if that fails, and in the
/// new one else.
fn a_call_is_held(home: &TestHome, host: &Host) {
    home.write("data/ledger/mood", "restore waits");
    let gate = pipe(home, "data/ledger/gate");
    let released = AtomicBool::new(false);
    for how in ["fails", "goes well"] {
        released.store(false, Ordering::SeqCst);
        let before = generation(host);
        thread::scope(|scope| {
            let reload = scope.spawn(|| host.reload("ledger", true));
            // Opens when `restore` reads.
            let mut writer = File::create(&gate).expect("is read");
            let (sender, thread) = mpsc::channel();
            let (host, released) = (&host, &released);
            let held = scope.spawn(move || {
                let name = fs::read_link("/proc/thread-self").expect("is Linux");
                let sent = sender.send(name.to_string_lossy().into_owned());
                sent.expect("is waited for");
                let served = generation(host);
                assert!(released.load(Ordering::SeqCst), "is not held");
                served
            });
            let thread = thread.recv().expect("is sent");
            eventually("a call to be held", || {
                (held.is_finished() || thread_state(&thread) == Some('S')).then_some(())
            });
            released.store(true, Ordering::SeqCst);
            writer.write_all(how.as_bytes()).expect("is read");
            drop(writer);
            let outcome = reload.join().expect("no panic");
            let served = held.join().expect("no panic");
            if how == "fails" {
                assert!(outcome.is_err());
                assert_eq!(served, before);
            } else {
                let status = outcome.expect("is swapped");
                assert!(status.generation > before);
                assert_eq!(served, status.generation);
            }
        });
    }
    fs::remove_file(home.path().join("data/ledger/mood")).expect("is there");
}

/// The state of a version that a call does not leave is not taken from it.
fn a_call_does_not_end(home: &TestHome, host: &Host) {
    let gate = pipe(home, "endless");
    let before = generation(host);
    thread::scope(|scope| {
        let inside = scope.spawn(|| host.call::<u64>("ledger.hold", (&gate,)));
        let writer = File::create(&gate).expect("is read");
        let begun = Instant::now();
        let refused = host.reload("ledger", false).expect_err("is given up");
        let waited = begun.elapsed();
        assert!(
            refused
                .to_string()
                .contains("calls were still running in it after 5s"),
            "{refused}"
        );
        assert!(waited >= Duration::from_secs(5), "{waited:?}");
        assert_eq!(generation(host), before);
        drop(writer);
        assert_eq!(inside.join().expect("no panic"), Ok(before));
    });
    let status = host.reload("ledger", false).expect("is swapped");
    assert_eq!(generation(host), status.generation);
}

#[test]
fn a_call_that_comes_back_does_not_wait_for_itself() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let gate = pipe(&home, "gate");
    for (before, elsewhere) in [(1, false), (2, true)] {
        thread::scope(|scope| {
            let nested = scope.spawn(|| host.call("ledger.nested", (&gate, elsewhere)));
            // Opens when `relay`, called by `ledger`, reads.
            let writer = File::create(&gate).expect("is read");
            reloads_around(&host, before, writer);
            // It was called back in the version that it began in, and that is what was handed over.
            let nested: Result<(u64, u64, u64, u64), _> = nested.join().expect("no panic");
            assert_eq!(nested, Ok((before, before, before, before)));
            assert_eq!(host.call("ledger.value", ()), Ok(before));
        });
    }

    // Asked for from inside, it happens afterwards.
    for (by_relay, before) in [(false, 3_u64), (true, 4)] {
        assert_eq!(host.call("ledger.reload_itself", (by_relay,)), Ok(before));
        eventually("the reload that was asked for", || {
            (generation(&host) == before + 1).then_some(())
        });
        is_unmapped(&host, &home, "ledger", before);
    }
    assert_eq!(host.call("ledger.value", ()), Ok(2_u64));
    host.shutdown();
}

/// Reloads while a call is inside that goes on, and comes back, once calls from outside are held.
fn reloads_around(host: &Host, before: u64, goes_on: File) {
    let done = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        let reload = scope.spawn(|| host.reload("ledger", false));
        let stop = AtEnd(|| done.store(true, Ordering::SeqCst));
        let outside = scope.spawn(|| {
            let value = || host.call("ledger.value", ()).expect("is served");
            adds(&done, &count, value)
        });
        // The next version is there, and whoever comes from outside waits.
        let mut last = u64::MAX;
        eventually("the hand-over", || {
            let now = count.load(Ordering::SeqCst);
            let waits = now == last;
            last = now;
            let generations = status(host, "ledger").generations;
            let loaded = generations
                .iter()
                .any(|one| one.number == before + 1 && one.state == GenerationState::Loaded);
            (reload.is_finished() || loaded && waits).then_some(())
        });
        drop(goes_on);
        let status = reload.join().expect("no panic").expect("is swapped");
        assert_eq!(
            (status.state, status.generation),
            (State::Ready, before + 1)
        );
        drop(stop);
        assert!(outside.join().expect("no panic").is_sorted());
    });
}
