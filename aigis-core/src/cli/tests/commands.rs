//! Commands that ask a running core.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::signature::{Parameter, Shape, Signature};
use aigis_plugin_api::{CallError, Value};

use super::super::error::Exit;
use super::fake_core::{FakeCore, Outcome, failure, not_found, result};
use super::{aigis, status};
use crate::host::{SkillInfo, State};

fn skill(name: &str, parameters: &[(&str, Shape)]) -> SkillInfo {
    let types = Signature {
        parameters: parameters
            .iter()
            .map(|(name, shape)| Parameter {
                name: (*name).to_owned(),
                shape: shape.clone(),
            })
            .collect(),
        result: Shape::Text,
        error: None,
        constant: false,
    };
    SkillInfo {
        name: name.to_owned(),
        plugin: "greeter".to_owned(),
        signature: types.to_string(),
        doc: "Does it.\nAt length.".to_owned(),
        types,
        available: true,
    }
}

/// A core with one plugin.
pub(super) fn answer(name: &str, arguments: Value) -> Outcome {
    let given = |index: usize| arguments.at(index).cloned().unwrap_or_default();
    match name {
        "aigis.status" => result(&[status("greeter", State::Ready)]),
        "aigis.skills" => result(&[
            skill(
                "greeter.echo",
                &[("value", Shape::Text), ("times", Shape::U8)],
            ),
            skill("greeter.fail", &[]),
            skill("greeter.panic", &[]),
            skill("greeter.slow", &[]),
            skill("greeter.vanish", &[]),
        ]),
        "aigis.reload" | "aigis.stop" | "aigis.start" => match given(0).as_str() {
            Some("greeter") => result(&status("greeter", State::Ready)),
            Some("loop") => result(&status("loop", State::CrashLoop)),
            Some("held") => Some(Err(Failure::new(FailureKind::Refused, "it is needed"))),
            Some("broken") => failure("aigis::StepFailed", "failed to build `broken`", &["E0425"]),
            other => failure(
                "aigis::UnknownPlugin",
                &format!("there is no plugin `{}`", other.unwrap_or_default()),
                &[],
            ),
        },
        "greeter.echo" => result(&arguments),
        "greeter.fail" => failure("greeter::GreetError", "no name", &["it is empty"]),
        "greeter.panic" => Some(Err(Failure::new(FailureKind::Panicked, "boom"))),
        "greeter.slow" => Some(Err(aigis_plugin_api::__private::timed_out(
            name,
            std::time::Duration::from_secs(1),
        ))),
        "greeter.vanish" => None,
        other => not_found(other),
    }
}

fn with_core(body: impl FnOnce(&Path)) {
    let home = tempfile::tempdir().expect("a folder for the test");
    let _core = FakeCore::start(home.path(), std::process::id(), answer);
    body(home.path());
}

fn check(home: &Path, arguments: &[&str], exit: Exit, out: &str, err: &str) {
    let ended = aigis(home, arguments);
    assert_eq!(ended.exit, exit, "{arguments:?}: {ended:?}");
    assert_eq!(
        (ended.out.as_str(), ended.err.as_str()),
        (out, err),
        "{arguments:?}"
    );
}

#[test]
fn without_a_core_every_command_says_so_in_one_line() {
    let home = tempfile::tempdir().expect("a folder for the test");
    for arguments in [
        &["status"][..],
        &["top", "-n", "1"],
        &["skills", "--json"],
        &["call", "a.b"],
        &["reload", "a"],
        &["stop", "a"],
        &["stop", "a", "b"],
        &["start", "a"],
        &["restart", "a"],
        &["shutdown"],
        &["repl"],
    ] {
        let ended = aigis(home.path(), arguments);
        assert_eq!(ended.exit, Exit::NoCore, "{ended:?}");
        assert!(
            ended.err.starts_with("error: no core is running in"),
            "{ended:?}"
        );
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        assert_eq!(ended.out, "");
    }
}

#[test]
fn lists_as_json_have_exactly_the_documented_keys() {
    with_core(|home| {
        let ended = aigis(home, &["status", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!([{
                "name": "greeter", "kind": "core", "state": "ready", "pid": 4711, "restarts": 0,
                "generation": 1, "source": "../greeter", "error": null, "generations": [],
                "crash": null, "slow_calls": [], "overdue_calls": [], "serving": [],
                "isolated": null, "processes": [], "in_config": true, "waits_for": [], "cpu_ms": null, "cpu_percent": null,
                "memory_bytes": null, "tree": null, "started": null, "last_exit": null
            }])
        );
        let ended = aigis(home, &["skills", "--json", "--plugin", "greeter"]);
        let json: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
        assert_eq!(
            json[0],
            serde_json::json!({
                "name": "greeter.echo", "plugin": "greeter",
                "signature": "fn(value: &str, times: u8) -> String", "doc": "Does it.\nAt length."
            })
        );
    });
}

#[test]
fn results_are_json_on_standard_output() {
    with_core(|home| {
        let echo = |arguments: &[&str], out: &str| {
            let words = [&["call", "greeter.echo"], arguments].concat();
            check(home, &words, Exit::Ok, out, "");
        };
        echo(&["zaltu", "3"], "[\"zaltu\",3]\n");
        echo(&["times=3", "value=-1"], "[\"-1\",3]\n");
        echo(&["-1", "3", "--timeout", "5"], "[\"-1\",3]\n");
        echo(&["--json-args", "\"a\"", "3"], "[\"a\",3]\n");
    });
}

#[test]
fn a_call_that_fails_says_why_and_with_which_code() {
    with_core(|home| {
        let call = |words: &[&str], exit, err: &str| {
            check(home, &[&["call"], words].concat(), exit, "", err);
        };
        let hint =
            "hint: the signature of `greeter.echo` is `fn(value: &str, times: u8) -> String`\n";
        call(
            &["greeter.fail"],
            Exit::Skill,
            "error: greeter.fail failed: no name (greeter::GreetError)\ncaused by: it is empty\n",
        );
        call(
            &["greeter.panic"],
            Exit::Skill,
            "error: greeter.panic panicked: boom\n",
        );
        call(
            &["greeter.slow"],
            Exit::TimedOut,
            "error: greeter.slow has not answered within 1s\n",
        );
        call(
            &["greeter.vanish"],
            Exit::NoCore,
            "error: the core is gone (it closed the connection); whether greeter.vanish ran is unknown\n",
        );
        call(
            &["echo"],
            Exit::UnknownName,
            "error: no plugin offers `echo`\nhint: did you mean `greeter.echo`?\n",
        );
        call(
            &["greeter.echo", "a"],
            Exit::Usage,
            &format!("error: `greeter.echo` cannot be called so: `times` is missing\n{hint}"),
        );
        call(
            &["greeter.echo", "a", "b"],
            Exit::Usage,
            &format!(
                "error: `greeter.echo` cannot be called so: `times` has the type `u8`: expected a \
                 whole number from 0 to 255, found `b`\n{hint}"
            ),
        );
    });
}

#[test]
fn the_core_s_own_skills_are_called_without_a_signature() {
    with_core(|home| {
        let ended = aigis(home, &["call", "aigis.stop", "greeter"]);
        assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
        assert!(ended.out.starts_with("{\"name\":\"greeter\""), "{ended:?}");
        let ended = aigis(home, &["call", "aigis.stp", "greeter"]);
        assert_eq!(ended.exit, Exit::UnknownName, "{ended:?}");
    });
}

#[test]
fn steps_of_a_plugin_and_how_they_fail() {
    with_core(|home| {
        let up = "greeter: ready (generation 1)\n";
        check(home, &["reload", "greeter", "--fresh"], Exit::Ok, "", up);
        check(home, &["stop", "greeter"], Exit::Ok, "", up);
        check(
            home,
            &["start", "greeter", "--json"],
            Exit::Ok,
            "{\"name\":\"greeter\",\"kind\":\"core\",\"state\":\"ready\",\"pid\":4711,\
             \"restarts\":0,\"generation\":1,\"source\":\"../greeter\",\"error\":null,\
             \"generations\":[],\"crash\":null,\"slow_calls\":[],\"overdue_calls\":[],\"serving\":[],\
             \"isolated\":null,\"processes\":[],\"in_config\":true,\"waits_for\":[],\"cpu_ms\":null,\"cpu_percent\":null,\
             \"memory_bytes\":null,\"tree\":null,\"started\":null,\"last_exit\":null}\n",
            "",
        );
        check(
            home,
            &["reload", "broken"],
            Exit::PluginsFailed,
            "",
            "error: failed to build `broken`\n",
        );
        check(
            home,
            &["stop", "held"],
            Exit::Refused,
            "",
            "error: it is needed\n",
        );
        check(
            home,
            &["start", "greter"],
            Exit::UnknownName,
            "",
            "error: there is no plugin `greter`\n",
        );
        let ended = aigis(home, &["start", "loop"]);
        assert_eq!(ended.exit, Exit::PluginsFailed, "{ended:?}");
        assert!(
            ended.err.contains("error: the plugin `loop` has failed"),
            "{ended:?}"
        );
        let ended = aigis(home, &["skills", "--plugin", "greter"]);
        assert_eq!(ended.exit, Exit::UnknownName, "{ended:?}");
    });
}

#[test]
fn shutdown_waits_for_the_end_of_the_process() {
    let home = tempfile::tempdir().expect("a folder for the test");
    let process = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep starts");
    let pid = process.id();
    let process = Mutex::new(process);
    let _core = FakeCore::start(home.path(), pid, move |name, _| match name {
        "aigis.shutdown" => {
            let mut process = process.lock().expect("no test panicked here");
            process.kill().expect("it can be killed");
            process.wait().expect("it can be waited for");
            result(&())
        }
        other => not_found(other),
    });
    check(home.path(), &["shutdown"], Exit::Ok, "", "");
}

#[test]
fn a_core_that_does_not_end_is_reported() {
    let home = tempfile::tempdir().expect("a folder for the test");
    // The process of the test lives on.
    let _core = FakeCore::start(home.path(), std::process::id(), |_, _| result(&()));
    let ended = aigis(home.path(), &["shutdown", "--timeout", "0.01"]);
    assert_eq!(ended.exit, Exit::TimedOut, "{ended:?}");
    assert!(
        ended.err.contains("is still running after 10ms"),
        "{ended:?}"
    );
}

#[test]
fn a_missing_config_is_answered_with_an_example_that_works() {
    let home = tempfile::tempdir().expect("a folder for the test");
    for detach in [&["build-and-run"][..], &["build-and-run", "--detach"]] {
        let ended = aigis(home.path(), detach);
        assert_eq!(ended.exit, Exit::Usage, "{ended:?}");
        assert!(ended.err.contains("there is no config file"), "{ended:?}");
        assert!(ended.err.contains("config/config.aigis"), "{ended:?}");
        let example = ended.err.split_once("for example:").expect("an example").1;
        let config = crate::config::Config::parse(example.as_bytes(), "/c.aigis".as_ref());
        assert_eq!(config.expect("it is right").plugins.len(), 3);
        assert!(!home.path().join("log").exists(), "nothing was started");
    }
}

#[test]
fn mistakes_in_the_config_start_nothing() {
    let home = tempfile::tempdir().expect("a folder for the test");
    let config = home.path().join("mine.aigis");
    std::fs::write(&config, "[core]\nx = 3\n[cor]\n").expect("writable");
    let config = config.to_str().expect("text");
    for words in [
        &["build-and-run", "-c", config][..],
        &["build-and-run", "--detach", "-c", config],
    ] {
        let ended = aigis(home.path(), words);
        assert_eq!(ended.exit, Exit::Usage, "{ended:?}");
        assert!(ended.err.contains("mine.aigis:2:5"), "{ended:?}");
        assert!(ended.err.contains("mine.aigis:3:2"), "{ended:?}");
        assert!(!home.path().join("log").exists(), "nothing was started");
    }
}

#[test]
fn a_stream_of_a_core_that_knows_none_is_refused_at_once() {
    let home = tempfile::tempdir().expect("a home");
    let _core = FakeCore::start(home.path(), std::process::id(), |_, _| None);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let refused = session.stream::<u64>("greeter.count", ());
    let Err(CallError::Other(failure)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.skill, "greeter.count");
    assert!(
        failure.message.contains("does not know streams"),
        "{failure}"
    );
}
