//! The command line against a running core: calls, lists, the REPL, exit codes.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::home::{Ran, TestHome};
use crate::support::{eventually, plugins};

const DESK: &str = include_str!("fixtures/terminal/desk.rs");

#[test]
fn the_command_line_calls_lists_and_steers() {
    let home = TestHome::new();
    plugins::core(&home, "desk", DESK);
    home.config("[core]\ndesk = { source = \"{sources}/desk\", restart = 2 }\n");
    let host = home.host();
    let log = home.plugin_log("desk");
    assert!(log.contains("Skills acquired."), "{log}");

    arguments_are_read_by_type(&home);
    what_fails_has_its_exit_code(&home);
    lists_have_their_form(&home);
    the_time_can_be_limited(&home);
    a_script_of_lines_is_read_to_its_end(&home);
    steps_say_how_they_went(&home);
    host.shutdown();

    let ran = home.aigis(&["call", "desk.greet", "zaltu"]).exited(5);
    assert!(ran.stdout.is_empty(), "{ran:?}");
    assert!(ran.stderr.contains("no core is running in"), "{ran:?}");
    for command in ["status", "skills", "repl", "shutdown"] {
        home.aigis(&[command]).exited(5);
    }
}

fn call(home: &TestHome, arguments: &[&str]) -> Ran {
    home.aigis(&[&["call"], arguments].concat())
}

fn arguments_are_read_by_type(home: &TestHome) {
    for (arguments, printed) in [
        (&["desk.greet", "zaltu"][..], r#""Hello, zaltu!""#),
        // A text stays a text, whatever it looks like.
        (&["desk.greet", "12"], r#""Hello, 12!""#),
        (&["desk.greet", r#""q""#], r#""Hello, \"q\"!""#),
        (&["desk.greet", "a=b"], r#""Hello, a=b!""#),
        (&["desk.greet", "name=b"], r#""Hello, b!""#),
        (&["desk.greet", "--", "--json"], r#""Hello, --json!""#),
        (&["desk.add", "-2", "44"], "42"),
        (&["desk.add", "b=2", "a=40"], "42"),
        (
            &["desk.scale", r#"{"x": 1, "y": -2}"#, "0.5"],
            r#"{"x":0.5,"y":-1.0}"#,
        ),
        (&["desk.paint", "Red", "true"], r#""Red twice""#),
        (
            &[
                "desk.paint",
                r#"{"Mixed": {"red": 1, "blue": 2}}"#,
                "twice=false",
            ],
            r#""Mixed { red: 1, blue: 2 } once""#,
        ),
        (&["desk.repeat"], "null"),
        (&["desk.repeat", "null"], "null"),
        (&["desk.repeat", "ab"], r#""abab""#),
        (&["desk.repeat", "times=3", "text=ab"], r#""ababab""#),
        (&["desk.code", "é"], "233"),
        (&["desk.bytes", "hi"], r#"{"$bytes":"aGk="}"#),
        (
            &["desk.bytes", r#"{"$bytes": "aGk="}"#],
            r#"{"$bytes":"aGk="}"#,
        ),
        (&["desk.ratio", "1"], r#"{"$float":"inf"}"#),
        (&["desk.LIMIT"], "64"),
        (&["desk.unlock", "zoé"], "null"),
        (
            &["--json-args", "desk.greet", r#""zaltu""#],
            r#""Hello, zaltu!""#,
        ),
    ] {
        let ran = call(home, arguments);
        assert_eq!(
            (ran.code, ran.stdout.trim_end(), &*ran.stderr),
            (Some(0), printed, ""),
            "{arguments:?}"
        );
    }
}

fn what_fails_has_its_exit_code(home: &TestHome) {
    for (arguments, code, part) in [
        (&["desk.add", "1"][..], 2, "`b` is missing"),
        (&["desk.add", "1", "two"], 2, "`b` has the type `i64`"),
        (
            &["desk.add", "1", "2", "3"],
            2,
            "it takes 2 arguments, found 3",
        ),
        (&["desk.add", "a=1", "2"], 2, "must be given by name too"),
        (&["desk.LIMIT", "1"], 2, "it takes no arguments"),
        (&["desk.scale", "{", "1"], 2, "`point`"),
        (&["desk.paint", "Blue", "true"], 2, "`colour`"),
        (&["desk.unlock", "zaltu"], 4, "locked by zaltu"),
        (&["desk.fall"], 4, "desk.fall panicked: it fell"),
        (&["desk.gret", "zaltu"], 6, "did you mean `desk.greet`"),
        (&["aigis.reload", "dask"], 6, "there is no plugin `dask`"),
    ] {
        let ran = call(home, arguments).exited(code);
        assert!(ran.stdout.is_empty(), "{ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
    let ran = call(home, &["desk.add", "1"]);
    assert!(ran.stderr.contains("fn(a: i64, b: i64) -> i64"), "{ran:?}");
    let ran = call(home, &["desk.unlock", "zaltu"]);
    assert!(ran.stderr.contains("DeskError"), "{ran:?}");
}

fn lists_have_their_form(home: &TestHome) {
    let list = |command: &str| -> Value {
        let ran = home.aigis(&[command, "--json"]).exited(0);
        serde_json::from_str(&ran.stdout).expect("is JSON")
    };
    let source = home.source("desk");
    let mut status = list("status");
    let bytes = status[0]["generations"][0]["bytes"].take();
    assert!(bytes.as_u64().is_some_and(|bytes| bytes > 0), "{bytes}");
    let started = status[0]["started"].take();
    assert!(
        started.as_str().is_some_and(|time| time.ends_with('Z')),
        "{started}"
    );
    assert_eq!(
        status,
        json!([{
            "name": "desk",
            "kind": "core",
            "state": "ready",
            "pid": std::process::id(),
            "restarts": 0,
            "generation": 1,
            "source": source,
            "error": null,
            "generations": [
                { "number": 1, "state": "serving", "bytes": null, "reason": null },
            ],
            "crash": null,
            "slow_calls": [],
            "overdue_calls": [],
            "serving": [],
            "isolated": null,
            "processes": [],
            "in_config": true, "waits_for": [],
            "cpu_ms": null,
            "cpu_percent": null,
            "memory_bytes": null,
            "tree": null,
            "started": null,
            "last_exit": null,
        }])
    );
    let skills = list("skills");
    let skills = skills.as_array().expect("is a list");
    assert_eq!(skills.len(), 12);
    let find = |name: &str| skills.iter().find(|skill| skill["name"] == name);
    assert_eq!(
        find("desk.greet"),
        Some(&json!({
            "name": "desk.greet",
            "plugin": "desk",
            "signature": "fn(name: &str) -> String",
            "doc": "Greets `name`.\n\nIn one word.",
        }))
    );
    assert_eq!(
        find("desk.LIMIT"),
        Some(&json!({
            "name": "desk.LIMIT",
            "plugin": "desk",
            "signature": "const usize",
            "doc": "The longest name.",
        }))
    );
    // For people.
    let ran = home.aigis(&["status"]).exited(0);
    assert!(ran.stdout.starts_with("NAME"), "{ran:?}");
    let core = format!("aigis {}: process ", env!("CARGO_PKG_VERSION"));
    assert!(ran.stdout.contains(&core), "{ran:?}");
    let ran = home.aigis(&["skills"]).exited(0);
    assert!(ran.stdout.contains("desk.greet"), "{ran:?}");
    assert!(ran.stdout.contains("Greets `name`."), "{ran:?}");
    home.aigis(&["skills", "--plugin", "dask"]).exited(6);
}

fn the_time_can_be_limited(home: &TestHome) {
    let pipe = home.path().join("pipe");
    let made = Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let path = pipe.to_string_lossy();
    let ran = call(home, &["desk.hold", &path, "--timeout", "0.05"]).exited(8);
    assert!(
        ran.stderr
            .contains("desk.hold has not answered within 50ms"),
        "{ran:?}"
    );
    // The skill is still running; it ends when the pipe is written.
    let mut writer = File::create(&pipe).expect("is read");
    writer.write_all(b"late").expect("is read");
}

/// Gives lines to the REPL.
fn repl(home: &TestHome, lines: &str) -> Ran {
    let mut child = home
        .command(&["repl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("aigis starts");
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(lines.as_bytes()).expect("is read");
    drop(stdin);
    Ran::new(child.wait_with_output().expect("it ends"))
}

fn a_script_of_lines_is_read_to_its_end(home: &TestHome) {
    let ran = repl(
        home,
        "# a script\n\
         desk.greet zaltu\n\
         desk.greet(\"za ltu\")\n\
         desk.LIMIT\n\
         desk.LIMIT()\n\
         desk.add b=2 a=40\n\
         desk.scale {\"x\": 1, \"y\": 2} 2\n\
         \n\
         desk.nothing\n\
         desk.add 1 two\n\
         desk.unlock zaltu\n\
         reload desk\n\
         desk.paint Red true\n\
         quit\n\
         desk.greet nobody\n",
    )
    // That of the last line that failed.
    .exited(4);
    assert_eq!(
        ran.stdout,
        "\"Hello, zaltu!\"\n\"Hello, za ltu!\"\n64\n64\n42\n{\"x\":2.0,\"y\":4.0}\n\"Red twice\"\n"
    );
    let errors: Vec<&str> = ran
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    assert_eq!(errors.len(), 3, "{ran:?}");
    assert_eq!(errors[0], "no plugin offers `desk.nothing`");
    assert!(errors[1].contains("`b` has the type `i64`"), "{ran:?}");
    assert!(errors[2].contains("locked by zaltu"), "{ran:?}");
    assert!(ran.stderr.contains("desk: ready (generation 2)"), "{ran:?}");

    let ran = repl(home, "status\nskills desk.g\nhelp").exited(0);
    assert!(ran.stdout.starts_with("NAME"), "{ran:?}");
    assert!(ran.stdout.contains("desk.greet"), "{ran:?}");
    assert!(!ran.stdout.contains("desk.add"), "{ran:?}");
    let ran = repl(home, "desk.greet(\n").exited(2);
    assert!(
        ran.stderr
            .contains("expected an argument, found the end of the line"),
        "{ran:?}"
    );
}

fn steps_say_how_they_went(home: &TestHome) {
    let ran = home.aigis(&["reload", "dask"]).exited(6);
    assert!(ran.stderr.contains("did you mean `desk`?"), "{ran:?}");
    let ran = home.aigis(&["start", "desk"]).exited(7);
    assert!(ran.stderr.contains("is ready already"), "{ran:?}");

    home.aigis(&["stop", "desk"]).exited(0);
    call(home, &["desk.LIMIT"]).exited(6);
    home.aigis(&["start", "desk"]).exited(0);
    let ran = home.aigis(&["reload", "desk", "--json"]).exited(0);
    let status: Value = serde_json::from_str(&ran.stdout).expect("is JSON");
    assert_eq!(
        (&status["state"], &status["generation"]),
        (&json!("ready"), &json!(4))
    );

    // A version that cannot be used changes nothing.
    fs::write(
        home.source("desk").join("AIGIS/AIGIS.config"),
        "ENTRYPOINT = 3\n",
    )
    .expect("writes");
    let ran = home.aigis(&["reload", "--fresh", "desk"]).exited(3);
    assert!(ran.stderr.contains("ENTRYPOINT"), "{ran:?}");
    call(home, &["desk.LIMIT"]).exited(0);
    let ran = home.aigis(&["status"]).exited(0);
    assert!(
        ran.stdout.contains("ready") && ran.stdout.contains("error: "),
        "{ran:?}"
    );
    let ran = home.aigis(&["logs", "desk"]).exited(0);
    eventually("the reason in the log", || {
        ran.stdout
            .contains("Could not get configuration for plugin")
            .then_some(())
    });
}
