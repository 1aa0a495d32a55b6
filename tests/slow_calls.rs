//! Calls that take longer than their plugin's `CALL_TIMEOUT` are reported, and nothing else happens.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use aigis_core::host::GenerationState;
use aigis_core::{Host, PluginStatus};

use crate::support::home::TestHome;
use crate::support::{eventually, plugins};

const PATIENT: &str = include_str!("fixtures/crash/patient.rs");

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
