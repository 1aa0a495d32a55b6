//! Hybrids: a library in the core and a process beside it, in one plugin.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use aigis_core::host::{Event, Observer};
use aigis_core::{Host, State};
use aigis_plugin_api::CallError;

use crate::support::home::TestHome;
use crate::support::plugins::{self, cargo_toml};
use crate::support::{DEADLINE, is_alive};

const GADGET: &str = include_str!("fixtures/hybrid/gadget.rs");
const WORKER: &str = include_str!("fixtures/hybrid/worker.rs");

/// Tells the test of every state.
struct States(Mutex<Sender<State>>);

impl Observer for States {
    fn event(&self, event: &Event<'_>) {
        if let Event::State { state, .. } = event {
            // The test may be over.
            let _ = self.0.lock().expect("no panic while held").send(*state);
        }
    }
}

fn wait_for(states: &Receiver<State>, wanted: State) {
    while states.recv_timeout(DEADLINE).expect("comes to a state") != wanted {}
}

/// Gives the process an order and returns its pid.
fn order(host: &Host, what: &str) -> u32 {
    let pid = host.status()[0].pid.expect("runs");
    host.call::<()>("gadget.give", (pid, what))
        .expect("is served");
    pid
}

#[test]
fn a_hybrid_serves_while_its_process_restarts_and_is_buried_once() {
    let home = TestHome::new();
    let both = "[lib]\ncrate-type = [\"cdylib\"]\n\n[[bin]]\nname = \"worker\"\npath = \"src/worker.rs\"\n";
    let manifest = format!("{}LAUNCH = \"worker\"\nRESTART = 1\n", plugins::INTERNAL);
    let files = [
        ("Cargo.toml", &*cargo_toml("gadget", both)),
        ("AIGIS/AIGIS.config", &manifest),
        ("src/lib.rs", GADGET),
        ("src/worker.rs", WORKER),
    ];
    plugins::write(&home, "gadget", &files);
    home.config("[internal]\ngadget = \"{sources}/gadget\"\n");
    let (sender, states) = channel();
    let observer = Arc::new(States(Mutex::new(sender)));
    let host = home.builder().observer(observer).start().expect("starts");
    let generation = || host.call::<u64>("gadget.generation", ());

    // One number for both halves.
    wait_for(&states, State::Ready);
    assert_eq!(host.status()[0].generation, 1);
    home.wait_for_log("gadget", "launch 1 meets generation 1");
    assert_ne!(host.status()[0].pid, Some(std::process::id()));

    // It crashes: while it is down, its skills go on.
    let first = order(&host, "crash");
    wait_for(&states, State::Backoff);
    let mut answers = 0;
    while states.try_recv() != Ok(State::Ready) {
        assert_eq!(generation(), Ok(1));
        answers += 1;
    }
    assert!(answers > 0);
    home.wait_for_log("gadget", "launch 2 meets generation 1");
    let status = &host.status()[0];
    assert_eq!((status.restarts, status.generation), (1, 2));
    assert_ne!(status.pid, Some(first));
    assert!(!is_alive(first));

    // It crashes again, and its one restart is used up.
    order(&host, "crash");
    wait_for(&states, State::CrashLoop);
    let error = host.status()[0].error.clone().expect("has an error");
    assert!(error.contains("all 1 restarts are used up"), "{error}");
    let gone = generation().expect_err("is withdrawn");
    assert!(matches!(gone, CallError::NotFound { .. }), "{gone:?}");
    let log = home.plugin_log("gadget");
    assert_eq!(log.matches("cleaned up generation 1").count(), 1, "{log}");

    // A reload of what is dead starts it anew, with every restart given back.
    host.reload("gadget", false).expect("starts again");
    wait_for(&states, State::Ready);
    home.wait_for_log("gadget", "launch 3 meets generation 3");
    assert_eq!(generation(), Ok(3));
    order(&host, "crash");
    wait_for(&states, State::Backoff);
    wait_for(&states, State::Ready);

    // An end without a failure takes the skills along as well.
    home.wait_for_log("gadget", "launch 4 meets generation 3");
    order(&host, "finish");
    wait_for(&states, State::Finished);
    assert!(generation().is_err());
    let log = home.plugin_log("gadget");
    assert_eq!(log.matches("cleaned up").count(), 2, "{log}");
    host.shutdown();
    let log = home.plugin_log("gadget");
    assert_eq!(log.matches("cleaned up").count(), 2, "{log}");
}
