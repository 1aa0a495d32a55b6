//! Several processes of one plugin, which share its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::channel;
use std::thread;

use aigis_core::{Host, PluginStatus, State};
use aigis_plugin_api::{CallError, SkillFailure, connect};

use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, is_alive, plugins, reaches};

const MILL: &str = include_str!("fixtures/instances/mill.rs");

type Dynamic<T> = Result<T, CallError<SkillFailure>>;

/// Writes the mill, with options of its manifest.
fn mill(home: &TestHome, options: &str) {
    let manifest = format!("{}{options}", plugins::INTERNAL);
    plugins::write(
        home,
        "mill",
        &[
            ("Cargo.toml", &plugins::cargo_toml("mill", "")),
            ("AIGIS/AIGIS.config", &manifest),
            ("src/main.rs", MILL),
        ],
    );
}

fn of(host: &Host) -> PluginStatus {
    let found = host.status().into_iter().find(|one| one.name == "mill");
    found.expect("is in the config")
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

/// Returns the processes that answer, by their numbers, once there are so many.
fn answering(host: &Host, count: usize) -> BTreeMap<u32, u32> {
    eventually("all instances to answer", || {
        let mut found = BTreeMap::new();
        for _ in 0..count * 4 {
            let (own, told, pid): (u32, Option<String>, u32) =
                host.call("mill.instance", ()).expect("one of them answers");
            assert_eq!(told, Some(own.to_string()));
            found.insert(own, pid);
        }
        (found.len() == count).then_some(found)
    })
}

#[test]
fn instances_share_the_calls_and_are_restarted_one_by_one() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    mill(&home, "RESTART = 5\nINSTANCES = 2\n");
    // The entry's number counts.
    home.config("[internal]\nmill = { source = \"{sources}/mill\", instances = 3 }\n");
    let host = home.host();
    let status = of(&host);
    assert_eq!(status.state, State::Ready, "{}", home.plugin_log("mill"));
    let pids: Vec<u32> = status.processes.iter().filter_map(|it| it.pid).collect();
    assert_eq!(pids.len(), 3, "{status:?}");
    assert_eq!(status.pid, Some(pids[0]));
    // Ready is who offers: every one of them serves by now.
    let serving: BTreeSet<u32> = status.serving.iter().map(|it| it.pid).collect();
    assert_eq!(serving, pids.iter().copied().collect());
    let before = answering(&host, 3);
    assert_eq!(before.values().copied().collect::<Vec<_>>(), pids);
    for number in 0..3 {
        let line = home.wait_for_log("mill", &format!("mill {number} turns"));
        assert!(line.contains(&format!(" : [{number}] mill ")), "{line}");
    }
    let table = home.aigis(&["status"]).exited(0).stdout;
    let line = format!("  instance 1: ready, process {}, ", pids[1]);
    assert!(table.contains(&line), "{table}");

    // One that is killed while it is called: its caller hears so, the others go on.
    let session = connect(home.path()).expect("the core runs");
    let (sender, outcome) = channel();
    let caller = session.clone();
    thread::spawn(move || {
        let held: Dynamic<()> = caller.call_within("mill.hold", (), DEADLINE);
        sender.send(held).expect("is received");
    });
    let held: u32 = eventually("the call that is held", || {
        let text = fs::read_to_string(home.path().join("data/mill/held")).ok()?;
        text.parse().ok()
    });
    let (number, _) = before
        .iter()
        .find(|(_, pid)| **pid == held)
        .expect("is one");
    kill(held);
    let outcome = outcome.recv_timeout(DEADLINE).expect("the call ends");
    assert!(
        matches!(outcome, Err(CallError::Disconnected { .. })),
        "{outcome:?}"
    );
    // No call of the others fails meanwhile, and the plugin stays ready.
    let after = eventually("the instance that was killed", || {
        let now = answering_now(&host);
        assert_eq!(of(&host).state, State::Ready);
        now.get(number).filter(|pid| **pid != held)?;
        (now.len() == 3).then_some(now)
    });
    for (other, pid) in &before {
        assert_eq!(
            after[other] == *pid,
            other != number,
            "{before:?} {after:?}"
        );
    }
    let status = reaches(&host, "mill", State::Ready);
    assert_eq!(status.restarts, 1);
    for process in &status.processes {
        let own = u32::from(process.instance == Some(*number));
        assert_eq!(process.restarts, own, "{status:?}");
    }

    // A reload, a stop and a start are for all of them.
    host.reload("mill", false).expect("reloads");
    let reloaded = answering(&host, 3);
    assert!(
        reloaded
            .values()
            .all(|pid| after.values().all(|old| old != pid))
    );
    assert!(after.values().all(|pid| !is_alive(*pid)));
    host.stop("mill").expect("stops");
    assert!(reloaded.values().all(|pid| !is_alive(*pid)));
    assert_eq!(of(&host).processes, []);
    host.start_plugin("mill").expect("starts");
    let started = answering(&host, 3);

    // Those that have done their work leave one by one; with the last one the plugin is finished.
    for left in (0..3).rev() {
        let gone: Dynamic<()> = host.call("mill.leave", ());
        assert!(
            matches!(gone, Err(CallError::Disconnected { .. })),
            "{gone:?}"
        );
        eventually("an instance to finish", || {
            let processes = of(&host).processes;
            let running = processes.iter().filter(|it| it.state == State::Ready);
            (running.count() == left).then_some(())
        });
    }
    reaches(&host, "mill", State::Finished);
    let gone: Dynamic<u32> = host.call("mill.pid", ());
    assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
    host.shutdown();
    assert!(started.values().all(|pid| !is_alive(*pid)));
}

#[test]
fn an_external_plugin_has_instances_too() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    let script = "echo \"own number: $AIGIS_INSTANCE\"\nexec sleep 100000";
    plugins::external(&home, "mill", "INSTANCES = 2", script);
    home.config("[external]\nmill = \"{sources}/mill\"\n");
    let host = home.host();
    let status = reaches(&host, "mill", State::Ready);
    let pids: Vec<u32> = status.processes.iter().filter_map(|it| it.pid).collect();
    assert_eq!(pids.len(), 2, "{status:?}");
    for number in 0..2 {
        let line = home.wait_for_log("mill", &format!("own number: {number}"));
        assert!(
            line.contains(&format!(" : [{number}] own number")),
            "{line}"
        );
    }
    // Without a RESTART each one fails for itself.
    kill(pids[0]);
    let left = eventually("the first to fail", || {
        let status = of(&host);
        (status.processes[0].state == State::Failed).then_some(status)
    });
    assert_eq!((left.state, left.pid), (State::Ready, Some(pids[1])));
    let error = left.error.expect("is told");
    assert!(error.starts_with("instance 0: Process exited"), "{error}");
    kill(pids[1]);
    reaches(&host, "mill", State::Failed);
    host.shutdown();
}

/// Returns those that answer now.
fn answering_now(host: &Host) -> BTreeMap<u32, u32> {
    let calls = (0..12).map(|_| {
        let answer: (u32, Option<String>, u32) =
            host.call("mill.instance", ()).expect("one of them answers");
        (answer.0, answer.2)
    });
    calls.collect()
}
