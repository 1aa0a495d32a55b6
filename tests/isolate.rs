//! Libraries that run in processes of their own: the same from outside, and what they do to their process
//! is done to that alone.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aigis_core::host::{Event, Isolation, Observer};
use aigis_core::{Host, PluginStatus, State};
use aigis_plugin_api::{CallError, Session, SkillFailure, Stream, Value, connect};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, is_alive, plugins, reaches};

const LAB: &str = include_str!("fixtures/isolate/lab.rs");
const DESK: &str = include_str!("fixtures/isolate/desk.rs");
const FAULTY: &str = include_str!("fixtures/crash/faulty.rs");

type Dynamic<T> = Result<T, CallError<SkillFailure>>;

fn of(host: &Host, name: &str) -> PluginStatus {
    let found = host.status().into_iter().find(|one| one.name == name);
    found.expect("is in the config")
}

/// Counts the processes that have left a sign of theirs whenever their plugin is said to be ready.
struct UpWhenReady {
    data: PathBuf,
    found: Mutex<Sender<usize>>,
}

impl Observer for UpWhenReady {
    fn event(&self, event: &Event<'_>) {
        if let Event::State { state, .. } = event
            && *state == State::Ready
        {
            let signs = self.data.read_dir().into_iter().flatten().flatten();
            let up = signs.filter(|sign| sign.file_name().as_encoded_bytes().starts_with(b"up-"));
            // The test may have heard enough.
            let _ = self
                .found
                .lock()
                .expect("no panic while held")
                .send(up.count());
        }
    }
}

fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

/// Writes the lab and the desk; the lab's entry says `more`.
fn lab(home: &TestHome, more: &str) {
    plugins::core(home, "lab", LAB);
    plugins::core(home, "desk", DESK);
    home.config(&format!(
        "[core]\nlab = {{ source = \"{{sources}}/lab\", settings = {{ colour = \"green\" }}{more} }}\n\
         desk = \"{{sources}}/desk\"\n"
    ));
}

/// Writes down what every kind of call comes to; two that are the same read the same.
fn everything(host: &Host, session: &Session) -> Vec<String> {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let echoed: Dynamic<Vec<u8>> = host.call("lab.echo", (&large,));
    let mut told = vec![format!("{}", echoed == Ok(large))];
    for name in [
        "lab.NAME",
        "lab.core_pid",
        "lab.colour",
        "lab.crack",
        "lab.refused",
        "lab.absent",
    ] {
        let embedded: Dynamic<Value> = host.call(name, ());
        let remote: Dynamic<Value> = session.call(name, ());
        assert_eq!(format!("{embedded:?}"), format!("{remote:?}"), "{name}");
        told.push(format!("{embedded:?}"));
    }
    let calls: [(&str, Dynamic<Value>); 6] = [
        ("lab.add", host.call("lab.add", (40, 2))),
        ("lab.add", host.call("lab.add", ("many", 2))),
        ("lab.fail", host.call("lab.fail", (7,))),
        ("lab.slow", session.call("lab.slow", (5,))),
        ("lab.ask", host.call("lab.ask", (5,))),
        ("lab.melt", host.call("lab.melt", ())),
    ];
    told.extend(calls.map(|(name, outcome)| format!("{name}: {outcome:?}")));
    told
}

#[test]
fn an_isolated_library_is_the_same_from_outside() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    lab(&home, "");
    let own = std::process::id();
    let in_core = {
        let host = home.host();
        let session = connect(home.path()).expect("the core runs");
        assert_eq!(host.call("lab.pid", ()), Ok(own));
        assert_eq!(of(&host, "lab").isolated, None);
        let told = everything(&host, &session);
        host.shutdown();
        told
    };
    lab(&home, ", isolate = true");
    let host = home.host();
    let session = connect(home.path()).expect("the core runs");
    let status = of(&host, "lab");
    assert_eq!(status.state, State::Ready, "{}", home.plugin_log("lab"));
    assert_eq!(status.isolated, Some(Isolation::Configured));
    let pid = status.pid.expect("runs");
    assert_ne!(pid, own);
    assert_eq!(status.processes.len(), 1, "{status:?}");
    assert_eq!(everything(&host, &session), in_core);
    assert_eq!(host.call("lab.pid", ()), Ok(pid));
    // With types, from the core; by the command line.
    let visited: (String, u32, i64, String, u64) = host.call("desk.visit", ()).expect("answers");
    assert_eq!((visited.0.as_str(), visited.1, visited.2), ("lab", pid, 42));
    assert!(visited.3.contains("Broken { pieces: 3 }"), "{}", visited.3);
    assert_eq!(visited.4, 3);
    let ran = home.aigis(&["call", "lab.add", "40", "2"]).exited(0);
    assert_eq!(ran.stdout, "42\n");
    let table = home.aigis(&["status"]).exited(0).stdout;
    assert!(
        table.contains("isolated: its library runs in a process of its own, as its config says"),
        "{table}"
    );
    // Its log is the plugin's, with each record whole.
    let log = home.plugin_log("lab");
    assert!(log.contains(" : INFO : the lab\n    | is open\n"), "{log}");
    assert!(log.contains("the glass has cracked"), "{log}");

    // What its process reports to the core is nobody else's to say.
    let reported: Dynamic<Value> = session.call("aigis.isolated", ());
    assert!(
        matches!(reported, Err(CallError::NotFound { .. })),
        "{reported:?}"
    );

    // What is given up is dropped where it waits.
    let short = Duration::from_millis(50);
    let late: Dynamic<()> = session.call_within("lab.linger", (), short);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    let dropped = home.path().join("data/lab/lingered");
    eventually("the future to be dropped", || {
        dropped.exists().then_some(())
    });

    // A stop runs its `cleanup`, in which it can still ask others, and frees its names.
    host.stop_forced("lab").expect("stops");
    assert!(!is_alive(pid));
    home.wait_for_log("lab", "the lab is tidy, Ok(42)");
    let gone: Dynamic<u32> = host.call("lab.pid", ());
    assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
    host.start_plugin("lab").expect("starts");
    let again: u32 = host.call("lab.pid", ()).expect("serves");
    host.shutdown();
    assert!(!is_alive(again));
}

#[test]
fn what_an_isolated_library_does_it_does_to_its_process_alone() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    lab(&home, ", isolate = true");
    let host = home.host();
    let session = connect(home.path()).expect("the core runs");
    let mut before: u32 = host.call("lab.pid", ()).expect("serves");
    for (restarts, way) in ["abort", "overflow", "write_to_null", "leave", "KILL"]
        .into_iter()
        .enumerate()
    {
        let (sender, outcome) = channel();
        let caller = session.clone();
        thread::spawn(move || {
            let name = match way {
                "KILL" => "lab.linger".to_owned(),
                way => format!("lab.{way}"),
            };
            let outcome: Dynamic<Value> = caller.call_within(&name, (), DEADLINE);
            sender.send(outcome).expect("is received");
        });
        if way == "KILL" {
            let lingers = home.path().join("data/lab/lingers");
            eventually("the call", || lingers.exists().then_some(()));
            kill(before, way);
        }
        let outcome = outcome.recv_timeout(DEADLINE).expect("the call ends");
        let Err(CallError::Disconnected { message, .. }) = outcome else {
            panic!("{way}: {outcome:?}");
        };
        assert!(message.contains("plugin `lab`"), "{way}: {message}");
        // The core lives, and it comes back; in between its skills are known, and not called.
        let next: u32 = eventually("the next process", || match host.call("lab.pid", ()) {
            Ok(pid) => Some(pid).filter(|pid| *pid != before),
            Err(CallError::<SkillFailure>::Unavailable { .. } | CallError::Disconnected { .. }) => {
                None
            }
            other => panic!("{way}: {other:?}"),
        });
        assert!(!is_alive(before), "{way}");
        let status = reaches(&host, "lab", State::Ready);
        assert_eq!(status.restarts as usize, restarts + 1, "{way}");
        assert_eq!(status.pid, Some(next), "{way}");
        assert_eq!(host.call("desk.double", (4,)), Ok(8_i64));
        before = next;
    }
    host.shutdown();
}

#[test]
fn a_reload_of_an_isolated_library_fails_no_call() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    lab(&home, ", isolate = true");
    let host = home.host();
    let before: u32 = host.call("lab.pid", ()).expect("serves");
    let (stop, stopped) = channel::<()>();
    let session = connect(home.path()).expect("the core runs");
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let session = session.clone();
            thread::spawn(move || session.call::<u64>("lab.slow", (200_u64,)))
        })
        .collect();
    let caller = {
        let host = host.clone();
        thread::spawn(move || {
            let mut calls = 0_u32;
            let over = || stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
            while !over() {
                assert_eq!(host.call("lab.add", (40, 2)), Ok(42_i64));
                calls += 1;
            }
            calls
        })
    };
    for _ in 0..3 {
        host.reload("lab", false).expect("reloads");
    }
    let after: u32 = host.call("lab.pid", ()).expect("serves");
    assert_ne!(after, before);
    drop(stop);
    assert!(caller.join().expect("no call fails") > 0);
    for caller in callers {
        assert_eq!(caller.join().expect("does not panic"), Ok(201));
    }
    eventually("the old process to end", || {
        (!is_alive(before)).then_some(())
    });

    // What fails leaves the old one serving: its `new` does, as in the core.
    plugins::core(
        &home,
        "lab",
        &LAB.replace("Some(\"none\")", "Some(\"green\")"),
    );
    let failed = host.reload("lab", true).expect_err("its `new` fails");
    assert!(
        failed.to_string().contains("there is no colour"),
        "{failed}"
    );
    assert_eq!(host.call("lab.pid", ()), Ok(after));
    assert_eq!(of(&host, "lab").state, State::Ready);
    // So does the loss of what others have been compiled for.
    let other = LAB.replace(
        "pub fn add(&self, a: i64, b: i64)",
        "pub fn plus(&self, a: i64, b: i64)",
    );
    let other = other.replace("lab::add(number, 1)", "Ok::<i64, CallError>(number)");
    let visited: Dynamic<Value> = host.call("desk.visit", ());
    assert!(visited.is_ok(), "{visited:?}");
    plugins::core(&home, "lab", &other);
    let failed = host.reload("lab", true).expect_err("`desk` imports it");
    assert!(failed.to_string().contains("lab.add"), "{failed}");
    assert_eq!(host.call("lab.pid", ()), Ok(after));
    host.shutdown();
    assert!(!is_alive(after));
}

#[test]
fn state_is_handed_over_between_processes() {
    const STORE: &str = "\
        use std::sync::atomic::{AtomicU64, Ordering};\n\
        pub struct Store { count: AtomicU64, new: bool }\n\
        #[aigis_plugin_api::skills]\n\
        impl Store {\n\
            pub fn new() -> Self { Self { count: AtomicU64::new(0), new: true } }\n\
            pub fn save(&self) -> u64 { self.count.load(Ordering::SeqCst) }\n\
            pub fn restore(saved: u64) -> Self { Self { count: AtomicU64::new(saved), new: false } }\n\
            pub fn next(&self) -> u64 { self.count.fetch_add(1, Ordering::SeqCst) + 1 }\n\
            pub fn is_new(&self) -> bool { self.new }\n\
            pub fn pid(&self) -> u32 { std::process::id() }\n\
        }\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    plugins::core(&home, "store", STORE);
    home.config("[core]\nstore = { source = \"{sources}/store\", isolate = true }\n");
    let host = home.host();
    assert_eq!(host.call("store.is_new", ()), Ok(true));
    let before: u32 = host.call("store.pid", ()).expect("serves");
    let (stop, stopped) = channel::<()>();
    let caller = {
        let host = host.clone();
        thread::spawn(move || {
            let mut last = 0;
            let over = || stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
            while !over() {
                // Each call counts once, in one of the two.
                let next: u64 = host.call("store.next", ()).expect("no call fails");
                assert_eq!(next, last + 1);
                last = next;
            }
            last
        })
    };
    for _ in 0..3 {
        host.reload("store", false).expect("reloads");
    }
    drop(stop);
    let last: u64 = caller.join().expect("counts on");
    assert_eq!(host.call("store.next", ()), Ok(last + 1));
    assert_eq!(host.call("store.is_new", ()), Ok(false));
    assert_ne!(host.call("store.pid", ()), Ok(before));
    home.wait_for_log("store", "handed its state over");
    // By itself it begins anew: what it had is gone with its process.
    let pid: u32 = host.call("store.pid", ()).expect("serves");
    kill(pid, "KILL");
    eventually("the next process", || {
        let found: Dynamic<u32> = host.call("store.pid", ());
        found.ok().filter(|next| *next != pid)
    });
    assert_eq!(host.call("store.is_new", ()), Ok(true));
    host.shutdown();
}

#[test]
fn no_state_is_saved_beside_a_call_that_was_given_up() {
    const STORE: &str = "\
        use std::path::Path;\n\
        use std::sync::Mutex;\n\
        pub struct Store { count: Mutex<u64> }\n\
        #[aigis_plugin_api::skills]\n\
        impl Store {\n\
            pub fn new() -> Self { Self { count: Mutex::new(0) } }\n\
            pub fn save(&self) -> u64 { *self.count.lock().unwrap() }\n\
            pub fn restore(saved: u64) -> Self { Self { count: Mutex::new(saved) } }\n\
            pub fn count(&self) -> u64 { *self.count.lock().unwrap() }\n\
            pub fn hold(&self, begun: &str, gate: &str) {\n\
                std::fs::write(begun, []).unwrap();\n\
                while !Path::new(gate).exists() {\n\
                    std::thread::sleep(std::time::Duration::from_millis(5));\n\
                }\n\
                *self.count.lock().unwrap() += 1;\n\
            }\n\
        }\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    plugins::core(&home, "store", STORE);
    home.config("[core]\nstore = { source = \"{sources}/store\", isolate = true }\n");
    let host = home.host();
    let (begun, gate) = (home.path().join("begun"), home.path().join("gate"));
    let session = connect(home.path()).expect("the core lets us in");
    let held = session.call_within::<()>("store.hold", (&begun, &gate), Duration::from_secs(1));
    assert!(matches!(held, Err(CallError::TimedOut { .. })), "{held:?}");
    assert!(begun.exists());
    host.reload("store", false).expect_err("the call goes on");
    home.wait_for_log("store", "is still running after");
    assert_eq!(host.call("store.count", ()), Ok(0_u64));
    std::fs::write(&gate, []).expect("writes");
    host.reload("store", false)
        .expect("reloads once it has ended");
    assert_eq!(host.call("store.count", ()), Ok(1_u64));
    host.shutdown();
}

#[test]
fn streams_of_an_isolated_library_have_their_time_when_it_is_replaced() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    lab(&home, ", isolate = true, drain_timeout = 0.05");
    let host = home.host();
    let session = connect(home.path()).expect("the core runs");
    let sum: Dynamic<u64> = session.call("lab.sum", (vec![1_u64, 2, 39],));
    assert_eq!(sum, Ok(42));
    let mut count: Stream<u64> = session.stream("lab.count", (5,)).expect("it begins");
    let first: Vec<_> = count.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(first, [5, 6, 7]);
    let before = of(&host, "lab").pid;
    host.reload("lab", true).expect("reloads");
    assert_ne!(of(&host, "lab").pid, before);
    let end = count.find_map(Result::err).expect("it is ended");
    assert!(matches!(end, CallError::Superseded { .. }), "{end:?}");
    let again: Stream<u64> = session.stream("lab.count", (1,)).expect("it begins");
    assert_eq!(again.take(2).flatten().collect::<Vec<_>>(), [1, 2]);
    host.shutdown();
}

#[test]
fn the_library_of_a_hybrid_is_isolated_beside_its_program() {
    const LIBRARY: &str = "\
        #[aigis_plugin_api::skills]\n\
        pub mod lathe { pub fn pid() -> u32 { std::process::id() } }\n";
    const PROGRAM: &str = "\
        pub struct Spindle;\n\
        #[aigis_plugin_api::skills]\n\
        impl Spindle {\n\
            pub fn new(ctx: &aigis_plugin_api::Context) -> Self {\n\
                let name = format!(\"up-{}\", std::process::id());\n\
                std::fs::write(ctx.data().join(name), []).expect(\"writes\");\n\
                Self\n\
            }\n\
            pub fn pid(&self) -> u32 { std::process::id() }\n\
        }\n\
        #[aigis_plugin_api::launch]\n\
        fn launch() { loop { std::thread::park() } }\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    let both = "[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n";
    plugins::write(
        &home,
        "lathe",
        &[
            ("Cargo.toml", &plugins::cargo_toml("lathe", both)),
            ("AIGIS/AIGIS.config", plugins::INTERNAL),
            ("src/lib.rs", LIBRARY),
            ("src/main.rs", PROGRAM),
        ],
    );
    home.config(
        "[internal]\nlathe = { source = \"{sources}/lathe\", isolate = true, instances = 2, restart = 3 }\n",
    );
    let (sender, found) = channel();
    let observer = Arc::new(UpWhenReady {
        data: home.path().join("data/lathe"),
        found: Mutex::new(sender),
    });
    let host = home.builder().observer(observer).start().expect("starts");
    // Its library is up before its program is launched; that alone does not make it ready.
    assert_eq!(found.recv_timeout(DEADLINE), Ok(2));
    let status = of(&host, "lathe");
    assert_eq!(status.state, State::Ready, "{}", home.plugin_log("lathe"));
    assert_eq!(status.generation, 1);
    let pids: Vec<u32> = status.processes.iter().filter_map(|it| it.pid).collect();
    let [library, first, second] = pids[..] else {
        panic!("{status:?}");
    };
    assert_eq!(status.pid, Some(first));
    assert_eq!(host.call("lathe.pid", ()), Ok(library));
    let spindle: u32 = host.call("spindle.pid", ()).expect("serves");
    assert!([first, second].contains(&spindle));
    // Each half comes back by itself.
    kill(library, "KILL");
    let next: u32 = eventually("the library", || {
        let found: Dynamic<u32> = host.call("lathe.pid", ());
        found.ok().filter(|pid| *pid != library)
    });
    let status = reaches(&host, "lathe", State::Ready);
    assert_eq!(status.pid, Some(first));
    assert_eq!(status.processes[0].pid, Some(next));
    assert_eq!(status.restarts, 1);
    host.reload("lathe", false).expect("reloads");
    for pid in [next, first, second] {
        eventually("the old processes to end", || {
            (!is_alive(pid)).then_some(())
        });
    }
    assert!(host.call::<u32>("lathe.pid", ()).is_ok());
    assert!(host.call::<u32>("spindle.pid", ()).is_ok());
    host.shutdown();
}

#[test]
fn a_plugin_comes_out_of_the_core_and_back_without_a_failed_call() {
    const POST: &str = "\
        #[aigis_plugin_api::skills]\n\
        pub mod post { pub fn pid() -> u32 { std::process::id() } }\n";
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    for name in ["inside", "apart", "back"] {
        plugins::core(&home, name, POST);
    }
    home.config("[core]\ninside = \"{sources}/inside\"\n");
    let host = home.host();
    let own = std::process::id();
    assert_eq!(host.call("post.pid", ()), Ok(own));
    let (stop, stopped) = channel::<()>();
    let caller = {
        let host = host.clone();
        thread::spawn(move || {
            let over = || stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
            while !over() {
                let pid: Dynamic<u32> = host.call("post.pid", ());
                assert!(pid.is_ok(), "{pid:?}");
            }
        })
    };
    let source = |name: &str| home.source(name).to_string_lossy().into_owned();
    let isolated = format!("{{ source = {:?}, isolate = true }}", source("apart"));
    let status = host
        .replace("inside", "apart", &isolated, false)
        .expect("replaces");
    assert_eq!(status.isolated, Some(Isolation::Configured));
    let pid: u32 = host.call("post.pid", ()).expect("serves");
    assert_eq!((status.state, status.pid), (State::Ready, Some(pid)));
    assert_ne!(pid, own);
    let status = host
        .replace("apart", "back", &source("back"), false)
        .expect("replaces");
    assert_eq!((status.isolated, status.pid), (None, Some(own)));
    assert_eq!(host.call("post.pid", ()), Ok(own));
    drop(stop);
    caller.join().expect("no call fails");
    eventually("the process to end", || (!is_alive(pid)).then_some(()));
    host.shutdown();
}

#[test]
fn what_has_ended_the_core_twice_is_isolated() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    plugins::core(&home, "faulty", FAULTY);
    home.config("[core]\nfaulty = \"{sources}/faulty\"\n");
    let status = || -> PluginStatus {
        let json = home.aigis(&["status", "--json"]).exited(0).stdout;
        let all: Vec<PluginStatus> = serde_json::from_str(&json).expect("a list of plugins");
        all.into_iter().next().expect("is in the config")
    };
    for _ in 0..2 {
        let core = Core::start(&home);
        assert_eq!(status().isolated, None);
        let session = connect(home.path()).expect("a core runs");
        let answer = session.call_within::<Value>("faulty.abort", (), DEADLINE);
        assert!(answer.is_err(), "{answer:?}");
        core.died();
    }
    let core = Core::start(&home);
    let found = status();
    assert_eq!(found.isolated, Some(Isolation::EndedCore), "{found:?}");
    assert_eq!(found.state, State::Ready);
    assert_ne!(found.pid, Some(core.pid()));
    for log in [home.core_log(), home.plugin_log("faulty")] {
        assert!(
            log.contains("has ended the core 2 times, so it runs isolated"),
            "{log}"
        );
    }
    let session = connect(home.path()).expect("a core runs");
    let answer = session.call_within::<Value>("faulty.abort", (), DEADLINE);
    assert!(
        matches!(answer, Err(CallError::Disconnected { .. })),
        "{answer:?}"
    );
    eventually("the plugin to be back", || {
        let found: Dynamic<bool> = session.call("faulty.ping", ());
        found.ok()
    });
    // Another version has done nothing yet.
    let better = FAULTY
        .replace("all is well", "all is better")
        .replace("true", "!false");
    plugins::core(&home, "faulty", &better);
    home.aigis(&["reload", "faulty", "--fresh"]).exited(0);
    let found = status();
    assert_eq!(
        (found.isolated, found.pid),
        (None, Some(core.pid())),
        "{found:?}"
    );
    assert_eq!(session.call("faulty.ping", ()), Ok(true));
    home.aigis(&["shutdown"]).exited(0);
    core.wait().exited(0);
}
