//! Calls that take longer than their plugin's `CALL_TIMEOUT` are reported, and nothing else happens.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use aigis_core::host::GenerationState;
use aigis_core::{Host, PluginStatus};
use aigis_plugin_api::{CallError, connect};

use crate::support::home::TestHome;
use crate::support::{eventually, plugins};

const PATIENT: &str = include_str!("fixtures/crash/patient.rs");
const WORKSHOP: &str = include_str!("fixtures/sessions/workshop.rs");

aigis_plugin_api::import! {
    mod workshop {
        fn wait(gate: &str) -> bool;
    }
}

fn pipe(home: &TestHome) -> PathBuf {
    let pipe = home.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    pipe
}

fn patient(host: &Host) -> PluginStatus {
    host.status().swap_remove(0)
}

#[test]
fn a_slow_call_is_reported_until_it_ends_and_stops_no_reload() {
    let home = TestHome::new();
    let folder = plugins::core(&home, "patient", PATIENT);
    home.config("[core]\npatient = { source = \"{sources}/patient\", call_timeout = 0.2 }\n");
    let host = home.host();
    // Else nobody would ever read the pipe.
    assert_eq!(host.call("patient.version", ()), Ok(1_u32));
    let pipe = pipe(&home);
    thread::scope(|scope| {
        let held = thread::Builder::new().name("holder".to_owned());
        let held = held
            .spawn_scoped(scope, || host.call::<u32>("patient.hold", (&pipe,)))
            .expect("starts");
        // Opens once the skill reads.
        let mut writer = File::create(&pipe).expect("is read");
        let report =
            home.wait_for_log("patient", "`patient.hold` of generation 1 has been running");
        assert!(report.contains("on thread `holder`"), "{report}");
        assert!(
            report.contains("longer than CALL_TIMEOUT (200ms)"),
            "{report}"
        );
        let slow = patient(&host).slow_calls;
        assert_eq!(slow.len(), 1, "{slow:?}");
        assert_eq!(
            (slow[0].skill.as_str(), slow[0].thread.as_str()),
            ("patient.hold", "holder")
        );
        assert_eq!(slow[0].generation, 1);
        assert!(slow[0].age_ms >= 200, "{slow:?}");

        let next = PATIENT.replace("VERSION: u32 = 1", "VERSION: u32 = 2");
        std::fs::write(folder.join("src/lib.rs"), next).expect("writes");
        host.reload("patient", true).expect("is swapped meanwhile");
        assert_eq!(host.call("patient.version", ()), Ok(2_u32));
        let status = patient(&host);
        let old = &status.generations[0];
        assert_eq!((old.number, old.state), (1, GenerationState::Draining));
        // It has become older, and is still one call.
        assert_eq!(status.slow_calls.len(), 1, "{status:?}");
        assert!(status.slow_calls[0].age_ms > slow[0].age_ms, "{status:?}");
        assert_eq!(status.slow_calls[0].generation, 1);

        writer.write_all(b"go on").expect("is read");
        drop(writer);
        assert_eq!(held.join().expect("no panic"), Ok(1));
    });
    let end = home.wait_for_log("patient", "`patient.hold` of generation 1 ended after");
    assert!(end.contains("on thread `holder`"), "{end}");
    eventually("the end of generation 1", || {
        let status = patient(&host);
        let retired = status.generations[0].state > GenerationState::Draining;
        (retired && status.slow_calls.is_empty()).then_some(())
    });
    let log = home.plugin_log("patient");
    assert_eq!(log.matches("has been running for").count(), 1, "{log}");
    assert_eq!(log.matches("ended after").count(), 1, "{log}");
    assert_eq!(watchers(), 1, "generation 2 has a timeout as well");
    host.shutdown();
    eventually("the end of the watch", || (watchers() == 0).then_some(()));
}

/// Its place is taken until it ends, and people can see by what: of calls whose time is over, that were given up,
/// and whose session has ended.
#[test]
fn a_call_that_runs_on_for_nobody_is_shown_until_it_ends() {
    let home = TestHome::new();
    plugins::core(&home, "workshop", WORKSHOP);
    home.config("[core]\nworkshop = \"{sources}/workshop\"\n");
    let host = home.host();
    let overdue = || {
        let ran = home.aigis(&["status", "--json"]).exited(0);
        let statuses: Vec<PluginStatus> = serde_json::from_str(&ran.stdout).expect("a list");
        let mut calls = statuses[0].overdue_calls.clone();
        calls.sort_by_key(|call| call.session);
        calls
    };
    assert_eq!(overdue(), []);
    let session = connect(home.path()).expect("the core runs");
    let soon = Duration::from_millis(50);
    let late = session.call_within::<bool>("workshop.wait", ("late",), soon);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    session.scope(|| {
        let call = workshop::start::wait("unwanted");
        assert_eq!(session.call("workshop.awaited", ("unwanted",)), Ok(true));
        call.cancel();
    });
    let departs = connect(home.path()).expect("the core runs");
    departs.scope(|| {
        let call = workshop::start::wait("departed");
        assert_eq!(session.call("workshop.awaited", ("departed",)), Ok(true));
        drop(call);
    });
    drop(departs);
    let calls = eventually("three calls for nobody", || {
        Some(overdue()).filter(|calls| calls.len() == 3)
    });
    assert!(calls.iter().all(|call| call.skill == "workshop.wait"));
    let sessions: Vec<u64> = calls.iter().map(|call| call.session).collect();
    assert_eq!(sessions[0], sessions[1]);
    assert_ne!(sessions[1], sessions[2]);
    let again = overdue();
    assert!(again[0].overdue_ms > calls[0].overdue_ms, "{again:?}");
    let shown = home.aigis(&["status"]).exited(0).stdout;
    assert_eq!(
        shown
            .matches("  overdue: `workshop.wait`, called by")
            .count(),
        3,
        "{shown}"
    );

    for (gate, left) in [("late", 2), ("unwanted", 1), ("departed", 0)] {
        assert_eq!(session.call("workshop.open", (gate,)), Ok(()));
        eventually("the end of a call", || {
            (overdue().len() == left).then_some(())
        });
    }
    host.shutdown();
}

/// Counts the threads of this process that watch calls.
fn watchers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("is there");
    let names = threads
        .flatten()
        .map(|thread| std::fs::read(thread.path().join("comm")));
    names
        .flatten()
        .filter(|name| name == b"aigis-watch\n")
        .count()
}
