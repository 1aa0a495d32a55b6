//! Children of a plugin in the core: they end with the version that has started them, and so does its thread.

use std::time::Duration;

use aigis_core::{Host, State};

use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, plugins};

const NURSERY: &str = include_str!("fixtures/children/nursery.rs");

fn start(home: &TestHome) -> Host {
    plugins::core(home, "nursery", NURSERY);
    home.config("[core]\nnursery = \"{sources}/nursery\"\n");
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    host
}

fn call(host: &Host, skill: &str) -> u32 {
    let name = format!("nursery.{skill}");
    let started = match skill {
        "start" => host.call(&name, (true,)),
        _ => host.call(&name, ()),
    };
    started.expect("it starts")
}

/// Tells whether nothing is left of a process, no zombie either.
fn is_gone(pid: u32) -> bool {
    !std::fs::exists(format!("/proc/{pid}")).expect("can be read")
}

#[test]
fn an_async_skill_waits_for_a_child() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let run = |script: &str| -> String { host.call("nursery.run", (script,)).expect("it ends") };
    assert_eq!(run("exit 3"), "code 3");
    assert_eq!(run("kill -KILL $$"), "signal 9 (SIGKILL)");
    // The core's own signals are caught and its mask is its own; nothing of that reaches the child.
    assert_eq!(run("kill -TERM $$"), "signal 15 (SIGTERM)");
    host.shutdown();
}

#[test]
fn children_end_with_the_version_that_has_started_them() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let old = ["start", "start_deaf", "leave"].map(|skill| call(&host, skill));
    assert!(!old.into_iter().any(is_gone));
    let path = home.source("nursery").join("src/lib.rs");
    let text = std::fs::read_to_string(&path).expect("is there");
    std::fs::write(
        &path,
        text.replace("no thread waits", "no thread ever waits"),
    )
    .expect("written");
    host.reload("nursery", true).expect("it is reloaded");
    let generation = host.status()[0].generation;
    assert_eq!(generation, 2);
    let new = call(&host, "start");
    assert!(!is_gone(new));
    // The old version leaves memory, which it cannot while its thread runs.
    eventually("the old version to be unmapped", || {
        // This thread gives back what it has of the old version with a call after that has ended its children.
        let said: String = host.call("nursery.run", ("exit 0",)).expect("it ends");
        assert_eq!(said, "code 0");
        let status = host.status().swap_remove(0);
        let old = status.generations.iter().find(|old| old.number == 1);
        old.is_none_or(|old| old.state == aigis_core::host::GenerationState::Unmapped)
            .then_some(())
    });
    assert!(old.into_iter().all(is_gone), "{old:?}");
    host.stop("nursery").expect("it stops");
    assert!(is_gone(new));
    host.shutdown();
}
