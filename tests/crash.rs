//! A core that dies of a plugin's code names that plugin at its next start.

use aigis_core::PluginStatus;
use aigis_core::host::Crash;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, plugins};

const FAULTY: &str = include_str!("fixtures/crash/faulty.rs");

/// The plugin that calls: nobody may take it for the one at fault.
const CALLER: &str = r#"
use aigis_plugin_api::skills;

aigis_plugin_api::import! {
    mod faulty {
        fn write();
    }
}

#[skills]
pub mod caller {
    /// Has the other plugin write to null.
    pub fn ask() -> bool {
        super::faulty::write().is_ok()
    }
}
"#;

fn home() -> TestHome {
    let home = TestHome::new();
    plugins::core(&home, "faulty", FAULTY);
    plugins::core(&home, "caller", CALLER);
    home.config("[core]\nfaulty = \"{sources}/faulty\"\ncaller = \"{sources}/caller\"\n");
    home
}

fn statuses(home: &TestHome) -> Vec<PluginStatus> {
    let json = home.aigis(&["status", "--json"]).exited(0).stdout;
    serde_json::from_str(&json).expect("a list of plugins")
}

fn crash_of(home: &TestHome, plugin: &str) -> Option<Crash> {
    let found = statuses(home).into_iter().find(|one| one.name == plugin);
    found.expect("is in the config").crash
}

/// Starts a core, has it die in `skill`, and returns the signal that it died of.
fn die_in(home: &TestHome, skill: &str) -> i32 {
    let core = Core::start(home);
    let session = aigis_plugin_api::connect(home.path()).expect("a core runs");
    // There will be no answer.
    let answer = session.call_within::<aigis_plugin_api::Value>(skill, (), DEADLINE);
    assert!(answer.is_err(), "{skill} has returned {answer:?}");
    core.died()
}

/// What is told at the next start.
struct Told {
    signal: &'static str,
    dies_of: i32,
    skill: Option<&'static str>,
    thread: Option<&'static str>,
    stack_overflow: bool,
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

#[test]
fn a_core_that_died_names_the_plugin() {
    let home = home();
    let segv = Told {
        signal: "SIGSEGV",
        dies_of: SIGSEGV,
        skill: Some("faulty.write"),
        thread: None,
        stack_overflow: false,
    };
    let cases = [
        ("faulty.write", Told { ..segv }),
        // It is the innermost call that counts.
        ("caller.ask", Told { ..segv }),
        (
            "faulty.abort",
            Told {
                signal: "SIGABRT",
                dies_of: SIGABRT,
                skill: Some("faulty.abort"),
                ..segv
            },
        ),
        (
            "faulty.overflow",
            Told {
                // The runtime of the language says so on its own, and aborts.
                dies_of: SIGABRT,
                skill: Some("faulty.overflow"),
                stack_overflow: true,
                ..segv
            },
        ),
        (
            "faulty.panic_twice",
            Told {
                signal: "SIGABRT",
                dies_of: SIGABRT,
                skill: Some("faulty.panic_twice"),
                ..segv
            },
        ),
        (
            "faulty.write_elsewhere",
            Told {
                skill: None,
                thread: Some("of-faulty"),
                ..segv
            },
        ),
        (
            "faulty.abort_elsewhere",
            Told {
                signal: "SIGABRT",
                dies_of: SIGABRT,
                skill: None,
                thread: Some("of-faulty"),
                ..segv
            },
        ),
    ];
    for (skill, told) in &cases {
        // A version that has done it twice is not loaded into the core any more.
        let _ = std::fs::remove_file(home.path().join("run/deaths.json"));
        assert_eq!(die_in(&home, skill), told.dies_of, "{skill}");
        let core = Core::start(&home);
        let crash = crash_of(&home, "faulty").unwrap_or_else(|| panic!("{skill}: nothing told"));
        assert_eq!(crash.signal, told.signal, "{skill}: {crash:?}");
        assert_eq!(crash.skill.as_deref(), told.skill, "{skill}: {crash:?}");
        assert_eq!(
            crash.stack_overflow, told.stack_overflow,
            "{skill}: {crash:?}"
        );
        assert_eq!(crash.generation, 1, "{skill}: {crash:?}");
        assert_eq!(crash.count, 1, "{skill}: {crash:?}");
        if let Some(thread) = told.thread {
            assert_eq!(crash.thread, thread, "{skill}: {crash:?}");
        }
        assert_eq!(crash_of(&home, "caller"), None, "{skill}");
        let running = match told.skill {
            Some(skill) => format!("`{skill}` of generation 1 was running"),
            None => "code of `faulty`, generation 1, was running".to_owned(),
        };
        let line = format!(
            "at {} while {running} on thread `{}`",
            crash.at, crash.thread
        );
        for log in [home.core_log(), home.plugin_log("faulty")] {
            assert!(log.contains(&line), "no `{line}` in:\n{log}");
        }
        let table = home.aigis(&["status"]).exited(0).stdout;
        assert!(table.contains("crash: the core died of SIG"), "{table}");
        assert!(
            home.aigis(&["call", "faulty.ping"])
                .exited(0)
                .stdout
                .contains("true")
        );
        home.aigis(&["shutdown"]).exited(0);
        core.wait().exited(0);
    }
    // What has ended cleanly adds nothing.
    let core = Core::start(&home);
    let crash = crash_of(&home, "faulty").expect("the same version runs");
    assert_eq!(crash.count, 1);
    // Another version starts afresh.
    let library = FAULTY
        .replace("all is well", "all is better")
        .replace("true", "!false");
    plugins::core(&home, "faulty", &library);
    home.aigis(&["reload", "faulty", "--fresh"]).exited(0);
    assert_eq!(crash_of(&home, "faulty"), None);
    home.aigis(&["shutdown"]).exited(0);
    core.wait().exited(0);
}

#[test]
fn a_core_that_is_killed_names_nobody() {
    let home = home();
    let core = Core::start(&home);
    core.signal("KILL");
    assert_eq!(core.died(), SIGKILL);
    let core = Core::start(&home);
    assert_eq!(crash_of(&home, "faulty"), None);
    let log = home.core_log();
    assert!(!log.contains("the core died"), "{log}");
    assert!(!log.contains("the core was ended"), "{log}");

    // A signal from outside is nobody's fault either, and is told.
    core.signal("ABRT");
    assert_eq!(core.died(), SIGABRT);
    let core = Core::start(&home);
    assert_eq!(crash_of(&home, "faulty"), None);
    let log = home.core_log();
    assert!(log.contains("by SIGABRT, which process "), "{log}");

    // Whatever is in the record is no reason not to start.
    home.aigis(&["shutdown"]).exited(0);
    core.wait().exited(0);
    home.write("run/crash", b"aigis-crash-1\tSIGSEGV\t17\t../../faulty");
    home.write("run/deaths.json", b"{\"faulty\": 3}");
    let core = Core::start(&home);
    assert_eq!(crash_of(&home, "faulty"), None);
    let log = home.core_log();
    assert!(log.contains("the record of a crash, "), "{log}");
    assert!(log.contains("what is known of crashes is lost"), "{log}");
    home.aigis(&["shutdown"]).exited(0);
    core.wait().exited(0);
}
