//! Reloads: a plugin's next version takes the place of what runs, while it is being called.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::{Host, HostError, State};

use crate::support::git_server::Repo;
use crate::support::home::TestHome;
use crate::support::plugins::{self, CORE, cargo_toml};
use crate::support::{eventually, is_alive};

const COUNTER: &str = include_str!("fixtures/reload/counter.rs");
const LOOPER: &str = include_str!("fixtures/reload/looper.rs");

fn version(number: u32) -> String {
    COUNTER.replace("VERSION: u32 = 1", &format!("VERSION: u32 = {number}"))
}

fn value(host: &Host) -> u32 {
    host.call("counter.value", ()).expect("is served")
}

/// S-14: an internal plugin calls a skill in a loop, whose source is updated in git and reloaded; then it is
/// reloaded with code that does not compile. The caller's process is the same, the values go 1…1, 2…2
/// without a gap longer than the swap, nothing crashes; after the bad reload it is still 2, and the
/// compiler's error is in the plugin's log.
#[test]
fn a_reload_under_calls_fails_none_of_them() {
    let home = TestHome::new();
    let library = cargo_toml("counter", "[lib]\ncrate-type = [\"cdylib\"]\n");
    let repo = Repo::init(home.source("counter"), "master");
    plugins::write_into(
        repo.path(),
        &[
            ("Cargo.toml", &library),
            ("AIGIS/AIGIS.config", CORE),
            ("src/lib.rs", COUNTER),
        ],
    );
    repo.commit_all("version 1");
    plugins::internal(&home, "looper", LOOPER);
    home.config(&format!(
        "[core]\ncounter = \"{}\"\n\n[internal]\nlooper = \"{{sources}}/looper\"\n",
        repo.file_url()
    ));
    let host = home.host();
    home.wait_for_log("looper", "value 1 for ");
    let looper = host.status()[1].pid;

    swaps_under_calls(&home, &host, &repo);
    assert_eq!(
        host.status()[1].pid,
        looper,
        "the caller's process is the same"
    );
    keeps_the_old_version_when_the_new_one_fails(&home, &host, &repo);
    reloads_from_inside(&home, &host);

    let log = home.plugin_log("looper");
    assert!(!log.contains("failed"), "{log}");
    let values: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("value ")?.1.split(' ').next())
        .collect();
    assert_eq!(values, ["1", "2", "3"], "{log}");

    let unknown = host.reload("countr", false).expect_err("there is none");
    assert!(
        matches!(&unknown, HostError::UnknownPlugin { nearest, .. } if nearest == &["counter"]),
        "{unknown}"
    );
    // A process is replaced by another one.
    host.reload("looper", false).expect("starts anew");
    let next = eventually("the next process", || {
        let status = &host.status()[1];
        (status.state == State::Ready)
            .then_some(status.pid)
            .flatten()
    });
    assert_ne!(Some(next), looper);
    assert!(!is_alive(looper.expect("ran")));
    assert_eq!(host.status()[1].generation, 2);
    host.shutdown();
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

/// Version 2 takes the place of version 1, in which one call still is.
fn swaps_under_calls(home: &TestHome, host: &Host, repo: &Repo) {
    let (held_at, gate) = (
        home.path().join("pipe"),
        home.path().join("data/counter/gate"),
    );
    pipe(&held_at);
    pipe(&gate);
    let in_time = AtomicBool::new(false);
    thread::scope(|scope| {
        let held = scope.spawn(|| host.call::<(u32, String)>("counter.hold", (&held_at,)));
        // Opens once the skill reads.
        let mut writer = File::create(&held_at).expect("is read");
        let embedded = scope.spawn(|| {
            let mut last = 1;
            while !in_time.load(Ordering::Relaxed) || last == 1 {
                let now = value(host);
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
            last
        });
        repo.commit("src/lib.rs", &version(2));
        let reloaded = scope.spawn(|| host.reload("counter", false).expect("is swapped"));
        // Opens once the next version is loaded and begins; until it has, the former one serves.
        let begins = File::create(&gate).expect("is read");
        let swap = Instant::now();
        for _ in 0..1000 {
            assert_eq!(value(host), 1);
        }
        std::fs::remove_file(&gate).expect("is there");
        drop(begins);
        let status = reloaded.join().expect("no panic");
        let swap = swap.elapsed();
        assert_eq!((status.state, status.generation), (State::Ready, 2));
        assert_eq!(status.pid, Some(std::process::id()));
        assert_eq!(value(host), 2);
        in_time.store(true, Ordering::Relaxed);
        assert_eq!(embedded.join().expect("no panic"), 2);
        let changed = home.wait_for_log("looper", "value 2 for ");
        let gap = changed
            .split_once(" after ")
            .and_then(|(_, gap)| gap.split(' ').next());
        let gap = Duration::from_micros(gap.and_then(|gap| gap.parse().ok()).expect("a gap"));
        assert!(
            gap <= swap,
            "{gap:?} without an answer, the swap took {swap:?}"
        );

        // The call that began in version 1 ends there; only then that version is retired.
        assert!(!home.plugin_log("counter").contains("is retired"));
        writer.write_all(b"go on").expect("is read");
        drop(writer);
        assert_eq!(held.join().expect("no panic"), Ok((1, "go on".to_owned())));
        home.wait_for_log("counter", "generation 1 is retired");
    });
}

fn keeps_the_old_version_when_the_new_one_fails(home: &TestHome, host: &Host, repo: &Repo) {
    // It does not compile.
    repo.commit(
        "src/lib.rs",
        &version(3).replace("        VERSION\n", "        \"three\"\n"),
    );
    let refused = host.reload("counter", false).expect_err("does not compile");
    assert!(matches!(refused, HostError::Step(_)), "{refused}");
    let status = &host.status()[0];
    assert_eq!((status.state, status.generation), (State::Ready, 2));
    let error = status.error.clone().expect("has an error");
    assert!(error.contains("expected `u32`, found `&str`"), "{error}");
    let log = home.plugin_log("counter");
    for line in [
        "error[E0308]: mismatched types",
        "expected `u32`, found `&str`",
        "src/lib.rs:",
    ] {
        assert!(log.contains(line), "{log}");
    }
    assert_eq!(value(host), 2);

    // It compiles, but does not start; nothing is swapped either.
    repo.commit("src/lib.rs", &version(3));
    home.write("data/counter/refuse", "");
    let refused = host.reload("counter", false).expect_err("does not start");
    assert!(
        refused.to_string().contains("version 3 does not want to"),
        "{refused}"
    );
    let status = &host.status()[0];
    assert_eq!((status.state, status.generation), (State::Ready, 2));
    assert_eq!(value(host), 2);
    assert_eq!(host.call("counter.generation", ()), Ok(2_u64));

    std::fs::remove_file(home.path().join("data/counter/refuse")).expect("is there");
    let status = host.reload("counter", false).expect("is swapped");
    assert_eq!((status.state, status.error), (State::Ready, None));
    assert_eq!(value(host), 3);
    // Numbers are not used twice, and the status has the one that serves.
    assert_eq!(host.call("counter.generation", ()), Ok(status.generation));
    home.wait_for_log("looper", "value 3 for ");
    home.wait_for_log("counter", "generation 2 is retired");
}

fn reloads_from_inside(home: &TestHome, host: &Host) {
    let before = host.status()[0].generation;
    let in_new: String = host.call("counter.reload_in_new", ()).expect("answers");
    assert!(in_new.contains("`new` cannot reload"), "{in_new}");
    // The version that asked goes on to its end, beside the next one.
    assert_eq!(host.call("counter.reload_itself", ()), Ok((3, 3)));
    home.wait_for_log("counter", &format!("generation {before} is retired"));
    let after = host.status()[0].generation;
    assert!(after > before);
    assert_eq!(host.call("counter.generation", ()), Ok(after));
}
