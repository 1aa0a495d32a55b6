//! Applies: what runs becomes what the config says, while it is called.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aigis_core::config::Config;
use aigis_core::host::{ApplyAction, ApplyReport, Outcome};
use aigis_core::{Host, HostError, PluginStatus, State};

use crate::support::home::{Ran, TestHome};
use crate::support::{DEADLINE, eventually, is_alive, plugins};

/// Answers with the mark of its settings.
const SPEAKER: &str = r#"
use aigis_plugin_api::{Context, skills};
use aigis_plugin_api::serde::Deserialize;

#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde")]
struct Settings {
    mark: Option<String>,
}

#[skills(namespace = "text")]
pub mod speaker {
    use super::*;

    /// Who answers.
    pub fn loud(ctx: &Context, text: &str) -> String {
        let settings: Settings = ctx.settings().expect("fits");
        let mark = settings.mark.unwrap_or_default();
        format!("{}{mark}", text.to_uppercase())
    }
}
"#;

const CALLER: &str = r#"
use aigis_plugin_api::{import, skills};

import! {
    mod text {
        fn loud(text: &str) -> String;
    }
}

#[skills]
pub mod caller {
    pub fn ask() -> Result<String, String> {
        super::text::loud("hear").map_err(|error| error.to_string())
    }
}
"#;

const LONER: &str = r#"
use aigis_plugin_api::skills;

#[skills]
pub mod loner {
    pub fn hum() -> u64 {
        7
    }
}
"#;

/// A daemon that is well.
const PULSE: &str = r#"
use aigis_plugin_api::launch;

#[launch]
fn launch() {
    loop {
        std::thread::park();
    }
}
"#;

/// One that ends before it is ready.
const STILLBORN: &str = "fn main() { std::process::exit(3) }";

const SLEEP: &str = "exec sleep 1000";

fn statuses(host: &Host) -> Vec<(String, State)> {
    let all = host.status().into_iter();
    all.map(|status| (status.name, status.state)).collect()
}

fn names(host: &Host) -> Vec<String> {
    statuses(host).into_iter().map(|(name, _)| name).collect()
}

fn status(host: &Host, name: &str) -> PluginStatus {
    let found = host.status().into_iter().find(|status| status.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {:?}", names(host)))
}

fn pid(host: &Host, name: &str) -> u32 {
    status(host, name).pid.expect("runs")
}

fn ask(host: &Host) -> String {
    host.call("caller.ask", ()).expect("is served")
}

fn report(ran: &Ran) -> ApplyReport {
    let value = aigis_plugin_api::Value::from_json(&ran.stdout).expect("is JSON");
    let bytes = aigis_plugin_api::codec::to_vec(&value).expect("is encoded");
    aigis_plugin_api::codec::from_slice(&bytes).expect("is a report")
}

fn outcomes(report: &ApplyReport) -> Vec<(&str, ApplyAction, Outcome)> {
    let steps = report.steps.iter();
    steps
        .map(|step| (step.plugin.as_str(), step.action, step.outcome))
        .collect()
}

#[test]
fn a_config_is_applied_while_it_is_called() {
    use ApplyAction::{Add, Change, Remove};
    use Outcome::{Done, Planned};
    let home = TestHome::new();
    plugins::core(&home, "speaker", SPEAKER);
    plugins::core(&home, "crier", SPEAKER);
    plugins::core(&home, "caller", CALLER);
    for name in ["idle", "other", "third"] {
        plugins::external(&home, name, "", SLEEP);
    }
    home.config(
        "[core]\nspeaker = \"{sources}/speaker\"\ncaller = \"{sources}/caller\"\n\
         [external]\nidle = \"{sources}/idle\"\nother = \"{sources}/other\"\n",
    );
    let host = home.host();
    assert_eq!(ask(&host), "HEAR");
    let (idle, other) = (pid(&host, "idle"), pid(&host, "other"));

    let nothing = home.aigis(&["apply"]).exited(0);
    assert!(nothing.stderr.contains("nothing to do"), "{nothing:?}");

    home.config(
        "[core]\ncaller = \"{sources}/caller\"\n\
         speaker = { source = \"{sources}/speaker\", settings = { mark = \"!\" } }\n\
         [external]\nthird = \"{sources}/third\"\n\
         idle = { source = \"{sources}/idle\", restart = 2 }\n",
    );
    let planned = home.aigis(&["apply", "--dry-run"]).exited(0);
    assert_eq!(
        planned.stdout,
        "- other [external]: remove\n~ speaker [core]: swap: settings.mark\n\
         ~ idle [external]: restart: restart\n+ third [external]: add\n\
         = caller: moved; nothing else\n1 unchanged\n"
    );
    let planned = report(&home.aigis(&["apply", "--dry-run", "--json"]).exited(0));
    let steps = |outcome| {
        [
            ("other", Remove, outcome),
            ("speaker", Change, outcome),
            ("idle", Change, outcome),
            ("third", Add, outcome),
        ]
    };
    assert_eq!(outcomes(&planned), steps(Planned));
    assert_eq!(names(&host), ["speaker", "caller", "idle", "other"]);
    assert_eq!((pid(&host, "idle"), ask(&host)), (idle, "HEAR".to_owned()));

    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let until_asked = |more: u64| {
        let before = asked.load(Ordering::SeqCst);
        eventually("calls", || {
            (asked.load(Ordering::SeqCst) > before + more).then_some(())
        });
    };
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut last = ask(&host);
            while !done.load(Ordering::SeqCst) {
                let now = ask(&host);
                assert!(now.len() >= last.len(), "{now} after {last}");
                last = now;
                asked.fetch_add(1, Ordering::SeqCst);
            }
            last
        });
        until_asked(5);
        let applied = report(&home.aigis(&["apply", "--json"]).exited(0));
        assert_eq!(outcomes(&applied), steps(Done));
        assert_eq!(names(&host), ["caller", "speaker", "third", "idle"]);
        assert!(
            statuses(&host)
                .iter()
                .all(|(_, state)| *state == State::Ready)
        );
        assert!(!is_alive(other) && !is_alive(idle) && is_alive(pid(&host, "idle")));
        assert_eq!(status(&host, "speaker").generation, 2);
        assert_eq!(status(&host, "caller").generation, 1);
        until_asked(5);

        // One goes and one comes that serves the same name: nobody is without it for a moment.
        home.config(
            "[core]\ncaller = \"{sources}/caller\"\n\
             crier = { source = \"{sources}/crier\", settings = { mark = \"!!\" } }\n\
             [external]\nthird = \"{sources}/third\"\n\
             idle = { source = \"{sources}/idle\", restart = 2 }\n",
        );
        let applied = report(&home.aigis(&["apply", "--json"]).exited(0));
        assert_eq!(
            outcomes(&applied),
            [("speaker", Remove, Done), ("crier", Add, Done)]
        );
        assert_eq!(applied.steps[1].replaces, ["speaker"]);
        assert_eq!(names(&host), ["caller", "crier", "third", "idle"]);
        until_asked(5);
        done.store(true, Ordering::SeqCst);
        assert_eq!(asking.join().expect("no call fails"), "HEAR!!");
    });
    // The same name, and another kind of plugin.
    plugins::core(&home, "idle", LONER);
    let path = home.config(
        "[core]\nidle = \"{sources}/idle\"\ncaller = \"{sources}/caller\"\n\
         crier = { source = \"{sources}/crier\", settings = { mark = \"!!\" } }\n",
    );
    let idle = pid(&host, "idle");
    let config = Config::load(&path).expect("is right");
    let applied = host.apply(&config, false).expect("is applied");
    assert_eq!(
        outcomes(&applied),
        [("third", Remove, Done), ("idle", Change, Done)]
    );
    assert_eq!(applied.steps[1].keys, ["kind", "restart"]);
    assert_eq!(names(&host), ["idle", "caller", "crier"]);
    assert!(!is_alive(idle));
    assert_eq!(host.call("loner.hum", ()), Ok(7));
    assert!(host.apply(&config, true).expect("is compared").is_empty());
    host.shutdown();
}

#[test]
fn what_fails_leaves_its_plugin_as_it_was() {
    use ApplyAction::{Add, Change, Remove};
    use Outcome::{Done, Failed};
    let home = TestHome::new();
    plugins::core(&home, "speaker", SPEAKER);
    plugins::core(&home, "caller", CALLER);
    plugins::core(&home, "broken", "this is no Rust");
    plugins::external(&home, "idle", "", SLEEP);
    plugins::external(&home, "good", "", SLEEP);
    plugins::write(&home, "empty", &[("README", "nothing")]);
    let of = |speaker: &str, more: &str| {
        home.config(&format!(
            "[core]\n{speaker}\ncaller = \"{{sources}}/caller\"\n[external]\n{more}\n"
        ))
    };
    let speaker = "speaker = \"{sources}/speaker\"";
    of(speaker, "idle = \"{sources}/idle\"");
    let host = home.host();
    let idle = pid(&host, "idle");

    // A config with mistakes changes nothing, and all of them are told.
    of(
        "speaker = 7",
        "idle = { source = \"{sources}/idle\", restart = -1 }\ngood = \"{sources}/good\"",
    );
    for arguments in [&["apply"][..], &["apply", "--dry-run"]] {
        let wrong = home.aigis(arguments).exited(2);
        assert!(
            wrong.stderr.contains("config.aigis:2:") && wrong.stderr.contains("config.aigis:5:"),
            "{wrong:?}"
        );
    }
    assert_eq!(names(&host), ["speaker", "caller", "idle"]);

    // Other sources, one that cannot be built and one without a manifest; a program that is not there; and one
    // plugin that is all right.
    of(
        "speaker = \"{sources}/broken\"",
        "idle = { source = \"{sources}/idle\", launch = [\"./none.sh\"] }\n\
         empty = \"{sources}/empty\"\ngood = \"{sources}/good\"",
    );
    let ran = home.aigis(&["apply", "--json"]).exited(3);
    let applied = report(&ran);
    assert_eq!(
        outcomes(&applied),
        [
            ("speaker", Change, Failed),
            ("idle", Change, Failed),
            ("empty", Add, Failed),
            ("good", Add, Done),
        ],
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("speaker, idle, empty"), "{ran:?}");
    let error = |at: usize| applied.steps[at].error.clone().unwrap_or_default();
    assert!(error(0).contains("it cannot be built"), "{}", error(0));
    assert!(error(1).contains("none.sh"), "{}", error(1));
    assert!(error(2).contains("AIGIS/AIGIS.config"), "{}", error(2));
    assert_eq!(names(&host), ["speaker", "caller", "idle", "good"]);
    assert!(
        statuses(&host)
            .iter()
            .all(|(_, state)| *state == State::Ready),
        "{:#?}",
        host.status()
    );
    assert_eq!(ask(&host), "HEAR");
    // Its source is the old one again, and what runs can be launched from it.
    assert!(home.read("ext/speaker/src/lib.rs").contains("to_uppercase"));
    assert!(!home.path().join("ext/empty").exists());
    let again = pid(&host, "idle");
    assert!(again != idle && !is_alive(idle) && is_alive(again));
    host.reload("speaker", false).expect("is its old self");
    assert_eq!(ask(&host), "HEAR");

    // Corrected, the rest follows.
    plugins::external(&home, "empty", "", SLEEP);
    of(
        speaker,
        "idle = \"{sources}/idle\"\nempty = \"{sources}/empty\"\ngood = \"{sources}/good\"",
    );
    let applied = report(&home.aigis(&["apply", "--json"]).exited(0));
    assert_eq!(outcomes(&applied), [("empty", Add, Done)]);
    assert_eq!(names(&host), ["speaker", "caller", "idle", "empty", "good"]);

    // What may have been meant for the place of one that serves has failed: that one stays.
    of("broken = \"{sources}/broken\"", "");
    let applied = report(&home.aigis(&["apply", "--json"]).exited(3));
    assert_eq!(
        outcomes(&applied),
        [
            ("good", Remove, Done),
            ("empty", Remove, Done),
            ("idle", Remove, Done),
            ("speaker", Remove, Failed),
            ("broken", Add, Failed),
        ]
    );
    assert_eq!(ask(&host), "HEAR");
    assert!(!status(&host, "speaker").in_config);
    host.shutdown();
}

#[test]
fn plugins_are_added_and_removed() {
    let home = TestHome::new();
    plugins::core(&home, "speaker", SPEAKER);
    plugins::external(&home, "idle", "", SLEEP);
    plugins::external(&home, "loud", "", "echo $AIGIS_SETTINGS; exec sleep 1000");
    let path = home.config(
        "# What runs here.\n[core]\n\n[external]\n# The first.\nidle = \"{sources}/idle\" # it sleeps\n",
    );
    let host = home.host();
    let written = fs::read_to_string(&path).expect("is there");
    let source = |name: &str| format!("{name}={}", home.source(name).display());

    // Its manifest says which kind it is.
    let added = home
        .aigis(&["add", &source("speaker"), "settings.mark=?", "--json"])
        .exited(0);
    assert!(added.stdout.contains("\"in_config\":false"), "{added:?}");
    home.aigis(&[
        "add",
        &source("loud"),
        "--kind",
        "external",
        "settings.port=80",
    ])
    .exited(0);
    assert_eq!(names(&host), ["speaker", "idle", "loud"]);
    assert_eq!(host.call("text.loud", ("x",)), Ok("X?".to_owned()));
    home.wait_for_log("loud", "settings/loud.json");
    let shown = home.aigis(&["status"]).exited(0).stdout;
    assert_eq!(shown.matches("not in config").count(), 2, "{shown}");
    // Neither an apply nor anything else touches them, or the file.
    home.aigis(&["apply"]).exited(0);
    assert_eq!(names(&host), ["speaker", "idle", "loud"]);
    assert_eq!(fs::read_to_string(&path).expect("is there"), written);

    for (wrong, code, needle) in [
        (
            &["add", &source("idle")][..],
            7,
            "there is a plugin `idle` already",
        ),
        (&["add", "core=/tmp"], 7, "reserved"),
        (&["add", "nowhere=/does/not/exist"], 3, "/does/not/exist"),
        (&["add", &source("nothing")], 3, "nothing"),
        (&["add", &source("new"), "--kind", "central"], 2, "central"),
        (
            &["add", &source("loud2"), "restart"],
            7,
            "expected `key=value`",
        ),
        (&["remove", "speakr"], 6, "did you mean `speaker`?"),
    ] {
        let ran = home.aigis(wrong).exited(code);
        assert!(ran.stderr.contains(needle), "{wrong:?}: {ran:?}");
    }
    assert_eq!(names(&host), ["speaker", "idle", "loud"]);

    // One that does not come up is not there.
    plugins::core(&home, "twin", SPEAKER);
    let ran = home.aigis(&["add", &source("twin")]).exited(3);
    assert!(
        ran.stderr
            .contains("`text.loud` is offered by plugin `speaker`"),
        "{ran:?}"
    );
    assert_eq!(names(&host), ["speaker", "idle", "loud"]);
    assert!(!home.path().join("ext/twin").exists());

    home.aigis(&["remove", "loud"]).exited(0);
    home.aigis(&["add", &source("loud"), "restart=3", "--save"])
        .exited(0);
    assert!(status(&host, "loud").in_config);
    let saved = fs::read_to_string(&path).expect("is there");
    let line = format!(
        "loud = {{ source = {:?}, restart = 3 }}\n",
        home.source("loud")
    );
    assert_eq!(saved, format!("{written}{line}"));
    assert!(
        host.apply(&Config::load(&path).expect("is right"), true)
            .expect("is compared")
            .is_empty()
    );
    home.aigis(&["remove", "loud", "--save"]).exited(0);
    assert_eq!(fs::read_to_string(&path).expect("is there"), written);
    // Removed without that, it comes back with the next apply.
    let sleeping = pid(&host, "idle");
    home.aigis(&["remove", "idle"]).exited(0);
    assert!(!is_alive(sleeping));
    assert_eq!(names(&host), ["speaker"]);
    home.aigis(&["apply"]).exited(0);
    assert_eq!(names(&host), ["speaker", "idle"]);
    host.shutdown();
}

#[test]
fn what_others_were_compiled_for_is_not_taken_from_them() {
    use ApplyAction::{Add, Remove};
    use Outcome::{Done, Failed};
    let home = TestHome::new();
    plugins::core(&home, "speaker", SPEAKER);
    plugins::core(&home, "caller", CALLER);
    plugins::external(&home, "idle", "", SLEEP);
    home.config("[core]\nspeaker = \"{sources}/speaker\"\ncaller = \"{sources}/caller\"\n");
    let host = home.host();
    assert_eq!(ask(&host), "HEAR");
    for refused in [["stop", "speaker"], ["remove", "speaker"]] {
        let ran = home.aigis(&refused).exited(7);
        let needle = "text.loud: is not offered any more; imported by caller";
        assert!(ran.stderr.contains(needle), "{ran:?}");
    }
    let refused = host.stop("speaker");
    assert!(matches!(refused, Err(HostError::Refused(_))), "{refused:?}");
    assert_eq!(ask(&host), "HEAR");

    home.config("[core]\ncaller = \"{sources}/caller\"\n[external]\nidle = \"{sources}/idle\"\n");
    let applied = report(&home.aigis(&["apply", "--json"]).exited(3));
    assert_eq!(
        outcomes(&applied),
        [("speaker", Remove, Failed), ("idle", Add, Done)]
    );
    let error = applied.steps[0].error.clone().unwrap_or_default();
    assert!(error.contains("imported by caller"), "{error}");
    assert_eq!(ask(&host), "HEAR");
    // Whoever needs it may go together with it, or be changed.
    plugins::core(&home, "hummer", LONER);
    home.config("[core]\ncaller = \"{sources}/hummer\"\n");
    let applied = report(&home.aigis(&["apply", "--json"]).exited(0));
    assert_eq!(applied.failed(), [""; 0], "{applied:#?}");
    assert_eq!(names(&host), ["caller"]);
    assert_eq!(host.call("loner.hum", ()), Ok(7));

    home.config("[core]\nspeaker = \"{sources}/speaker\"\ncaller = \"{sources}/caller\"\n");
    home.aigis(&["apply"]).exited(0);
    assert_eq!(ask(&host), "HEAR");
    home.aigis(&["stop", "speaker", "--force"]).exited(0);
    let failed = host
        .call::<String>("caller.ask", ())
        .expect_err("has nobody to ask");
    assert!(failed.to_string().contains("text.loud"), "{failed}");
    home.aigis(&["start", "speaker"]).exited(0);
    assert_eq!(ask(&host), "HEAR");
    home.aigis(&["remove", "speaker", "--force"]).exited(0);
    assert_eq!(names(&host), ["caller"]);
    // Nobody needs what nobody imports.
    home.aigis(&["stop", "caller"]).exited(0);
    host.shutdown();
}

#[test]
fn a_replaced_plugin_comes_back_with_the_config() {
    let home = TestHome::new();
    plugins::core(&home, "speaker", SPEAKER);
    plugins::core(&home, "crier", &SPEAKER.replace("{mark}\"", "{mark}...\""));
    plugins::core(&home, "caller", CALLER);
    home.config("[core]\nspeaker = \"{sources}/speaker\"\ncaller = \"{sources}/caller\"\n");
    let host = home.host();
    let source = home.source("crier").display().to_string();
    let crier = host
        .replace("speaker", "crier", &source, false)
        .expect("takes over");
    assert!(!crier.in_config);
    assert_eq!(ask(&host), "HEAR...");
    let applied = report(&home.aigis(&["apply", "--json"]).exited(0));
    assert_eq!(
        outcomes(&applied),
        [
            ("crier", ApplyAction::Remove, Outcome::Done),
            ("speaker", ApplyAction::Add, Outcome::Done)
        ]
    );
    assert_eq!(applied.steps[1].replaces, ["crier"]);
    assert_eq!(ask(&host), "HEAR");
    assert_eq!(names(&host), ["speaker", "caller"]);
    host.shutdown();
}

#[test]
fn a_process_that_does_not_come_up_gives_its_place_back() {
    let home = TestHome::new();
    plugins::internal(&home, "pulse", PULSE);
    plugins::internal(&home, "stillborn", STILLBORN);
    let of = |name: &str| home.config(&format!("[internal]\npulse = \"{{sources}}/{name}\"\n"));
    of("pulse");
    let host = home.host();
    let first = pid(&host, "pulse");
    let config = Config::load(&of("stillborn")).expect("is right");
    let applied = host.apply(&config, false).expect("is tried");
    assert_eq!(
        outcomes(&applied),
        [("pulse", ApplyAction::Change, Outcome::Failed)]
    );
    let error = applied.steps[0].error.clone().unwrap_or_default();
    assert!(error.contains("it has not come up: "), "{error}");
    host.settled(Some(DEADLINE));
    let now = status(&host, "pulse");
    assert_eq!(now.state, State::Ready, "{now:#?}");
    assert!(now.pid.is_some_and(|pid| pid != first && is_alive(pid)));
    assert!(now.source.ends_with("/pulse"), "{now:#?}");
    assert!(home.read("ext/pulse/src/main.rs").contains("park"));

    // Added, it leaves nothing.
    let source = format!("other={}", home.source("stillborn").display());
    home.aigis(&["add", &source]).exited(3);
    assert_eq!(names(&host), ["pulse"]);
    assert!(!home.path().join("ext/other").exists());
    host.shutdown();
}

#[test]
fn plugins_come_and_go_after_the_start_is_through() {
    let home = TestHome::new();
    let gate = home.path().join("gate");
    let waits = format!(
        "REQUIREMENTS_COMMAND = \"until test -e {}; do sleep 0.05; done\"",
        gate.display()
    );
    plugins::external(&home, "slow", &waits, SLEEP);
    plugins::external(&home, "last", "", SLEEP);
    plugins::external(&home, "more", "", SLEEP);
    let path = home.config("[external]\nslow = \"{sources}/slow\"\nlast = \"{sources}/last\"\n");
    let host = home.builder().start().expect("the host starts");
    home.wait_for_log("slow", "requirements: until");
    thread::scope(|scope| {
        let added = scope.spawn(|| {
            let source = format!("more={}", home.source("more").display());
            home.aigis(&["add", &source])
        });
        let removed = scope.spawn(|| host.remove("last", false));
        // Neither is refused, and neither finds the start half done.
        fs::write(&gate, "").expect("is written");
        added.join().expect("no panic").exited(0);
        removed.join().expect("no panic").expect("is removed");
    });
    assert_eq!(
        statuses(&host),
        [
            ("slow".to_owned(), State::Ready),
            ("more".to_owned(), State::Ready)
        ]
    );
    let config = Config::load(&path).expect("is right");
    let applied = host.apply(&config, false).expect("is applied");
    assert_eq!(
        outcomes(&applied),
        [("last", ApplyAction::Add, Outcome::Done)]
    );
    // What was added comes after those of the config.
    assert_eq!(names(&host), ["slow", "last", "more"]);
    // A core that shuts down takes what was added with it.
    let added = pid(&host, "more");
    host.shutdown();
    assert!(!is_alive(added));
    let refused = host.apply(&config, false);
    assert!(matches!(refused, Err(HostError::Refused(_))), "{refused:?}");
}
