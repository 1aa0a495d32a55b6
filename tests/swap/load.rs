//! Hundreds of versions, one after the other, in a core of its own whose memory is looked at.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aigis_core::host::GenerationState;
use aigis_core::{PluginStatus, State};
use aigis_plugin_api::Session;

use super::{AtEnd, mapped};
use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const TICKER: &str = include_str!("../fixtures/swap/ticker.rs");
const LOOPS: &str = include_str!("../fixtures/swap/loops.rs");

const RELOADS: u64 = 200;

/// After so many reloads, what is used once and for all has been used.
const SETTLED: u64 = 50;

/// How much more memory the core may have after the last reload than when it had settled: about what
/// eight versions of the plugin take.
const MOST: u64 = 8 << 20;

/// What a process has: resident memory in bytes, threads apart from those that run calls (as many as a
/// burst has once needed), open files.
#[derive(Debug)]
struct Usage {
    memory: u64,
    threads: usize,
    files: usize,
}

fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("is there");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.expect("is listed").trim().trim_end_matches(" kB");
    let count = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{pid}/{folder}"));
        entries.expect("is there").count()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("is there");
    let threads = tasks.flatten().filter(|task| {
        // One that has just ended has no name any more.
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.trim_end() != "aigis-call")
    });
    Usage {
        memory: memory.parse::<u64>().expect("is a number") * 1024,
        threads: threads.count(),
        files: count("fd"),
    }
}

fn ticker(session: &Session) -> PluginStatus {
    let all: Vec<PluginStatus> = session.call("aigis.status", ()).expect("answers");
    let found = all.into_iter().find(|status| status.name == "ticker");
    found.expect("is a plugin")
}

/// Calls `ticker` until it is time to stop; returns the last generation that answered.
fn ticks(home: &TestHome, done: &AtomicBool, count: &AtomicU64) -> u64 {
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let mut last = 0;
    while !done.load(Ordering::SeqCst) {
        let (generation, doubled): (u64, u64) = session.call("ticker.tick", ()).expect("is served");
        assert!(generation >= last, "{generation} after {last}");
        assert_eq!(doubled, generation * 2);
        last = generation;
        count.fetch_add(1, Ordering::SeqCst);
    }
    last
}

#[test]
fn two_hundred_versions_leave_nothing_behind() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "ticker", TICKER);
    plugins::core(&home, "loops", LOOPS);
    home.config("[core]\nticker = \"{sources}/ticker\"\nloops = \"{sources}/loops\"\n");
    let core = Core::start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    assert_eq!(ticker(&session).state, State::Ready);
    let done = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        let stop = AtEnd(|| {
            done.store(true, Ordering::SeqCst);
            let _ = session.call::<()>("loops.stop", ());
        });
        let outside = scope.spawn(|| ticks(&home, &done, &count));
        let inside = scope.spawn(|| session.call_within::<u64>("loops.run", (), DEADLINE));
        let seen = || {
            let inside: u64 = session.call("loops.calls", ()).expect("answers");
            (count.load(Ordering::SeqCst), inside)
        };
        let both_call = || {
            let before = seen();
            eventually("calls by both", || {
                let now = seen();
                (now.0 > before.0 && now.1 > before.1).then_some(())
            });
        };
        let mut settled = None;
        for reloads in 1..=RELOADS {
            both_call();
            let status: PluginStatus = session
                .call("aigis.reload", ("ticker",))
                .expect("is swapped");
            assert_eq!(
                (status.state, status.generation),
                (State::Ready, reloads + 1)
            );
            if reloads == SETTLED {
                settled = Some(usage(core.pid()));
            }
        }
        both_call();
        // While both go on calling.
        eventually("the old versions to be gone", || {
            let generations = ticker(&session).generations;
            let (last, old) = generations.split_last()?;
            assert_eq!(last.state, GenerationState::Serving, "{last:?}");
            let gone = |state| state == GenerationState::Unmapped;
            old.iter().all(|one| gone(one.state)).then_some(())
        });
        let settled = settled.expect("was looked at");
        // The threads that have unmapped the last ones end soon after they have said so.
        let now = eventually("the threads that retire to end", || {
            let now = usage(core.pid());
            (now.threads <= settled.threads + 2).then_some(now)
        });
        println!(
            "after {SETTLED}: {settled:?}; after {RELOADS}: {now:?}; calls: {:?}",
            seen()
        );
        assert!(now.memory < settled.memory + MOST, "{settled:?} {now:?}");
        assert!(now.files <= settled.files + 2, "{settled:?} {now:?}");
        drop(stop);
        let last = RELOADS + 1;
        assert_eq!(outside.join().expect("no panic"), last);
        assert_eq!(inside.join().expect("no panic"), Ok(last));
    });
    // Whatever the core still maps of the plugin's libraries is the version that serves.
    let pid = core.pid().to_string();
    let lines = mapped(&pid, &home.path(), "ticker", None);
    let serving = mapped(&pid, &home.path(), "ticker", Some(RELOADS + 1));
    assert!(!serving.is_empty());
    assert_eq!(lines, serving);
    let copies = fs::read_dir(home.path().join("run/libraries")).expect("is there");
    assert_eq!(copies.count(), 2);
    drop(session);
    core.signal("TERM");
    core.wait().exited(0);
}
