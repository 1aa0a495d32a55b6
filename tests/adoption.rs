//! Cores that die and come again: what was launched goes on, and what ended meanwhile has ended.
//!
//! `AIGIS_ROUNDS` says how often a core is killed at random (3 when nobody says otherwise).

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use aigis_core::supervisor::ShimRecord;
use aigis_core::{PluginStatus, State};
use aigis_plugin_api::Session;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, is_alive, plugins, unmeasured};

/// Prints numbered lines, each once, until it finds an order in its folder.
const COUNTING: &str = "n=0; while :; do n=$((n+1)); echo \"line $n\"; \
    [ -e order ] && { read code < order; rm order; exit $code; }; \
    [ $((n % 100)) = 0 ] && sleep 0.01; done";

const STOCK: &str = r#"
use std::sync::atomic::{AtomicU64, Ordering};
use aigis_plugin_api::skills;

static COUNT: AtomicU64 = AtomicU64::new(0);

#[skills]
pub mod stock {
    use super::*;

    pub fn next() -> u64 {
        COUNT.fetch_add(1, Ordering::Relaxed) + 1
    }
}
"#;

/// Calls a skill of the core for as long as it runs, and serves one itself.
const CLERK: &str = r#"
use std::time::Duration;
use aigis_plugin_api::{CallError, Context, import, launch, skills};

import! {
    mod stock {
        fn next() -> u64;
    }
}

#[skills]
pub mod clerk {
    pub fn pid() -> u32 {
        std::process::id()
    }
}

#[launch]
fn launch(_ctx: &Context) -> Result<(), CallError> {
    loop {
        match stock::next() {
            Ok(number) => println!("sold {number}"),
            // Whether it ran is unknown: the core has died.
            Err(CallError::CoreGone { .. }) => println!("the core is gone"),
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
"#;

fn statuses(session: &Session) -> BTreeMap<String, PluginStatus> {
    let all: Vec<PluginStatus> = session.call("aigis.status", ()).expect("answers");
    all.into_iter().map(|it| (it.name.clone(), it)).collect()
}

fn session(home: &TestHome) -> Session {
    aigis_plugin_api::connect(home.path()).expect("connects")
}

fn kill(core: Core) {
    core.signal("KILL");
    assert_eq!(core.died(), 9);
}

fn kill_process(pid: u32) {
    let status = Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

fn record(home: &TestHome, name: &str) -> ShimRecord {
    let path = home.path().join(format!("run/shims/{name}.json"));
    let record = ShimRecord::read(path).expect("it can be read");
    record.expect("the shim has one")
}

/// Returns the numbers that a plugin has printed behind `label`.
fn numbers(home: &TestHome, plugin: &str, label: &str) -> Vec<u64> {
    let log = home.plugin_log(plugin);
    let label = format!(" : INFO : {label} ");
    log.lines()
        .filter_map(|line| line.split_once(&label)?.1.parse().ok())
        .collect()
}

fn assert_complete(home: &TestHome, plugin: &str) {
    let found = numbers(home, plugin, "line");
    assert!(
        found.iter().copied().eq(1..=found.len() as u64),
        "lines of {plugin} are lost, doubled or out of order"
    );
}

fn wait_for_more(home: &TestHome, plugin: &str, label: &str) {
    let before = numbers(home, plugin, label).len();
    eventually(&format!("more of {plugin}"), || {
        (numbers(home, plugin, label).len() > before + 5).then_some(())
    });
}

#[test]
fn what_was_launched_outlives_its_core() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "stock", STOCK);
    plugins::internal(&home, "clerk", CLERK);
    plugins::external(
        &home,
        "counter",
        "RESTART = 5\nSECRETS = { \"key\" = \"{root}/safe\" }",
        COUNTING,
    );
    plugins::external(
        &home,
        "many",
        "INSTANCES = 3\nRESTART = 2",
        "echo up; exec sleep 100000",
    );
    home.write("secrets/counter/key", "s3cret");
    home.config(
        "[core]\nstock = \"{sources}/stock\"\n[internal]\nclerk = \"{sources}/clerk\"\n\
         [external]\ncounter = \"{sources}/counter\"\nmany = \"{sources}/many\"\n",
    );
    let core = Core::start(&home);
    let all = session(&home);
    // One restart is used up before the core dies.
    kill_process(statuses(&all)["many"].processes[1].pid.expect("runs"));
    let before = eventually("the restart", || {
        let all = statuses(&all);
        let it = &all["many"];
        (it.restarts == 1 && it.processes.iter().all(|it| it.pid.is_some())).then(|| all.clone())
    });
    wait_for_more(&home, "clerk", "sold");
    kill(core);
    let home_of = fs::read_to_string(home.path().join("ext/counter/safe/key"));
    assert_eq!(home_of.expect("it has its secret"), "s3cret");
    wait_for_more(&home, "counter", "line");

    let core = Core::start(&home);
    let all = session(&home);
    let after = statuses(&all);
    for name in ["clerk", "counter", "many"] {
        let (before, after) = (&before[name], &after[name]);
        assert_eq!(after.state, State::Ready, "{after:?}");
        assert_eq!(
            unmeasured(after),
            unmeasured(before),
            "{name}: pids, restarts, times"
        );
        assert_eq!(
            (after.restarts, after.generation),
            (before.restarts, before.generation)
        );
        assert!(after.processes.iter().all(|it| it.started.is_some()));
    }
    assert_eq!(home.core_log().matches("took over process").count(), 5);
    // Both directions of its session are there again.
    let pid: u32 = all.call("clerk.pid", ()).expect("it serves");
    assert_eq!(Some(pid), after["clerk"].pid);
    wait_for_more(&home, "clerk", "sold");
    // The count goes on where it was.
    kill_process(after["many"].processes[1].pid.expect("runs"));
    eventually("the second restart", || {
        let now = &statuses(&all)["many"];
        (now.processes[1].restarts == 2 && now.processes[1].state == State::Ready).then_some(())
    });
    kill_process(statuses(&all)["many"].processes[1].pid.expect("runs"));
    eventually("the end of its restarts", || {
        (statuses(&all)["many"].processes[1].state == State::CrashLoop).then_some(())
    });
    core.signal("TERM");
    core.wait().exited(0);
    for status in after.values().flat_map(|it| &it.processes) {
        assert!(!is_alive(status.pid.expect("had one")));
    }
    assert!(!home.path().join("ext/counter/safe/key").exists());
    let left = fs::read_dir(home.path().join("run/shims")).expect("a folder");
    assert_eq!(left.count(), 0, "nothing is left of what was stopped");
    assert_complete(&home, "counter");
}

#[test]
fn what_ended_without_a_core_has_ended_when_the_next_one_comes() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    for (name, restart) in [("again", 1), ("once", 0), ("done", 3), ("shimless", 0)] {
        plugins::external(&home, name, &format!("RESTART = {restart}"), COUNTING);
    }
    home.config(
        "[external]\nagain = \"{sources}/again\"\nonce = \"{sources}/once\"\n\
         done = \"{sources}/done\"\nshimless = \"{sources}/shimless\"\n",
    );
    let core = Core::start(&home);
    let before = statuses(&session(&home));
    kill(core);
    for (name, code) in [("again", 3), ("once", 4), ("done", 0)] {
        let shim = record(&home, name).shim_pid;
        home.write(&format!("ext/{name}/new-order"), format!("{code}\n"));
        let folder = home.path().join("ext").join(name);
        fs::rename(folder.join("new-order"), folder.join("order")).expect("is given");
        eventually("its shim ends", || (!is_alive(shim)).then_some(()));
        let ended = record(&home, name).ended.expect("it has ended");
        assert_eq!(ended.exit, aigis_core::supervisor::Exit::Code(code));
    }
    let lost = record(&home, "shimless");
    kill_process(lost.shim_pid);
    eventually("its shim ends", || (!is_alive(lost.shim_pid)).then_some(()));

    let core = Core::start(&home);
    let all = session(&home);
    eventually("the restart", || {
        (statuses(&all)["again"].state == State::Ready).then_some(())
    });
    let after = statuses(&all);
    assert_eq!(after["again"].restarts, 1);
    assert_ne!(after["again"].pid, before["again"].pid);
    assert_eq!(after["once"].state, State::Failed);
    let error = after["once"].error.clone().expect("it says why");
    assert!(error.contains("exited with code 4"), "{error}");
    assert_eq!(after["done"].state, State::Finished);
    assert_eq!(
        (after["shimless"].state, after["shimless"].restarts),
        (State::Ready, 0)
    );
    assert!(!is_alive(lost.pid.expect("had one")));
    assert!(home.core_log().contains("has ended at"));
    // What is decided is decided: only what runs has a record.
    let records = |home: &TestHome| {
        let folder = fs::read_dir(home.path().join("run/shims")).expect("a folder");
        let mut names: Vec<_> = folder
            .map(|it| {
                it.expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a text")
            })
            .filter(|name| name.ends_with(".json"))
            .collect();
        names.sort();
        names
    };
    eventually("the records", || {
        (records(&home) == ["again.json", "shimless.json"]).then_some(())
    });
    core.signal("TERM");
    core.wait().exited(0);
}

#[test]
fn what_the_config_does_not_list_any_more_is_ended_and_what_it_changes_is_replaced() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    for name in ["same", "changed", "removed"] {
        plugins::external(&home, name, "", COUNTING);
    }
    let same = "[external]\nsame = \"{sources}/same\"\n";
    home.config(&format!(
        "{same}changed = \"{{sources}}/changed\"\nremoved = \"{{sources}}/removed\"\n"
    ));
    let core = Core::start(&home);
    let before = statuses(&session(&home));
    kill(core);
    let pid = |name: &str| before[name].pid.expect("it runs");
    home.config(&format!(
        "{same}changed = {{ source = \"{{sources}}/changed\", restart = 4 }}\n"
    ));
    let core = Core::start(&home);
    let after = statuses(&session(&home));
    assert_eq!(unmeasured(&after["same"]), unmeasured(&before["same"]));
    assert_eq!(after["changed"].state, State::Ready);
    assert_ne!(after["changed"].pid, before["changed"].pid);
    assert!(!is_alive(pid("changed")));
    eventually("the end of the removed one", || {
        (!is_alive(pid("removed"))).then_some(())
    });
    home.wait_for_core_log("it is not in the config any more");
    core.signal("TERM");
    core.wait().exited(0);
}

const GADGET: &str = r#"
use aigis_plugin_api::{Context, skills};

#[skills]
pub mod gadget {
    use super::*;

    pub fn generation(ctx: &Context) -> u64 {
        ctx.generation()
    }
}
"#;

const WORKER: &str = r#"
use std::time::Duration;
use aigis_plugin_api::{CallError, import, launch};

import! {
    mod gadget {
        fn generation() -> u64;
    }
}

#[launch]
fn launch() {
    loop {
        match gadget::generation() {
            Ok(number) => println!("generation {number}"),
            Err(CallError::CoreGone { .. }) => println!("the core is gone"),
            // In the moments before the library of the next core serves.
            Err(error) => println!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
"#;

#[test]
fn the_process_of_a_hybrid_goes_on_beside_a_new_library() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let both = "[lib]\ncrate-type = [\"cdylib\"]\n\n[[bin]]\nname = \"worker\"\npath = \"src/worker.rs\"\n";
    let cargo = plugins::cargo_toml("gadget", both);
    let manifest = format!("{}LAUNCH = \"worker\"\n", plugins::INTERNAL);
    for (name, more) in [("gadget", ""), ("apart", "ISOLATE = true\n")] {
        let of = |text: &str| text.replace("gadget", name);
        plugins::write(
            &home,
            name,
            &[
                ("Cargo.toml", &of(&cargo)),
                ("AIGIS/AIGIS.config", &format!("{manifest}{more}")),
                ("src/lib.rs", &of(GADGET)),
                ("src/worker.rs", &of(WORKER)),
            ],
        );
    }
    home.config("[internal]\ngadget = \"{sources}/gadget\"\napart = \"{sources}/apart\"\n");
    let core = Core::start(&home);
    let before = statuses(&session(&home));
    let program = |all: &BTreeMap<String, PluginStatus>, name: &str| {
        let mut processes = unmeasured(&all[name]).into_iter();
        processes
            .find(|it| it.instance == Some(0))
            .expect("is launched")
    };
    let library = record(&home, "apart#library-1");
    for name in ["gadget", "apart"] {
        wait_for_more(&home, name, "generation");
    }
    kill(core);
    let core = Core::start(&home);
    let after = statuses(&session(&home));
    for name in ["gadget", "apart"] {
        assert_eq!(after[name].state, State::Ready, "{after:?}");
        assert_eq!(program(&after, name), program(&before, name));
        // The library is of the new core, and its number comes after those of the old one.
        let number: u64 = session(&home)
            .call(&format!("{name}.generation"), ())
            .expect("it serves");
        assert_eq!(number, 2);
        home.wait_for_log(name, " : INFO : generation 2");
    }
    assert!(!is_alive(library.pid.expect("had one")), "its core is gone");
    core.signal("TERM");
    core.wait().exited(0);
    assert!(!is_alive(program(&after, "apart").pid.expect("had one")));
}

#[test]
fn cores_that_are_killed_at_any_moment_lose_nothing() {
    let rounds = std::env::var("AIGIS_ROUNDS").ok();
    let rounds: u32 = rounds.map_or(3, |text| text.parse().expect("a number"));
    let _deadline = Deadline::begin(Duration::from_secs(5) * rounds);
    let home = TestHome::new();
    let mut config = "[external]\n".to_owned();
    for name in ["one", "two", "three", "four"] {
        plugins::external(&home, name, "RESTART = 1000000", COUNTING);
        config += &format!("{name} = \"{{sources}}/{name}\"\n");
    }
    home.config(&config);
    let core = Core::start(&home);
    let before = statuses(&session(&home));
    let mut core = Some(core);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        if let Some(core) = core.take() {
            kill(core);
        }
        let begun = Instant::now();
        // Every other one is killed while it is still starting, at whatever it has come to by then.
        if round % 2 == 1 {
            let next = Core::begin(&home);
            std::thread::sleep(Duration::from_millis(u64::from(round * 37 % 150)));
            kill(next);
            continue;
        }
        let next = Core::start(&home);
        slowest = slowest.max(begun.elapsed());
        let after = statuses(&session(&home));
        for (name, before) in &before {
            assert_eq!(after[name].state, State::Ready, "round {round}: {after:?}");
            assert_eq!(
                unmeasured(&after[name]),
                unmeasured(before),
                "round {round}"
            );
        }
        core = Some(next);
    }
    println!("{rounds} cores killed; all plugins taken over within {slowest:?}, a start included");
    if core.is_none() {
        core = Some(Core::start(&home));
    }
    let core = core.expect("is there");
    core.signal("TERM");
    core.wait().exited(0);
    for name in before.keys() {
        assert_complete(&home, name);
    }
}

#[test]
fn a_core_that_is_killed_while_it_launches_doubles_nothing() {
    let rounds = std::env::var("AIGIS_ROUNDS").ok();
    let rounds: u64 = rounds.map_or(4, |text| text.parse().expect("a number"));
    let _deadline = Deadline::begin(Duration::from_secs(5) * u32::try_from(rounds).expect("few"));
    for round in 0..rounds {
        let home = TestHome::new();
        // Who starts while another one runs says so; with nothing but the shell's own commands, which no
        // signal can end in the middle.
        let script = "[ -e held ] && read other < held && kill -0 \"$other\" 2> /dev/null && \
            { echo doubled; exit 1; }\necho $$ > held; echo up; while :; do sleep 0.05; done";
        let mut config = "[external]\n".to_owned();
        for number in 0..6 {
            let name = format!("p{number}");
            plugins::external(&home, &name, "RESTART = 3", script);
            config += &format!("{name} = \"{{sources}}/{name}\"\n");
        }
        home.config(&config);
        let core = Core::begin(&home);
        std::thread::sleep(Duration::from_millis(20 + round * 31 % 250));
        kill(core);
        let core = Core::start(&home);
        let all = statuses(&session(&home));
        for (name, status) in &all {
            assert_eq!(
                (status.state, status.restarts),
                (State::Ready, 0),
                "round {round}: {status:?}"
            );
            let log = home.plugin_log(name);
            assert!(!log.contains("doubled"), "round {round}:\n{log}");
        }
        core.signal("TERM");
        core.wait().exited(0);
    }
}
