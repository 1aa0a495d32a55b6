//! Calls over a session: what a plugin's process and a tool find, whatever happens to a call.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::session::frame::{self, Hello, Kind, MAGIC, PROTOCOL};
use aigis_plugin_api::{CallError, SkillFailure, connect};
use serde_json::{Value, json};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, is_alive, plugins};

const WORKSHOP: &str = include_str!("fixtures/sessions/workshop.rs");
const PROBER: &str = include_str!("fixtures/sessions/prober.rs");

/// What a plugin has written down, by name.
fn findings(home: &TestHome, plugin: &str) -> HashMap<String, Value> {
    let text = home.read(&format!("data/{plugin}/findings"));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("is a name and a value"))
        .collect()
}

/// S-09: an internal plugin calls a path of depth 6 that does not exist, a constant, skills with an error of a
/// type of their own and its payload, with a result that cannot be sent, with a panic, and then a normal one. To
/// name a path never fails; errors are typed, with name and message; after each the session and the core work, and
/// the process of the skill is the core's and not the caller's.
#[test]
fn whatever_happens_to_a_call_the_session_lives_on() {
    let home = TestHome::new();
    plugins::core(&home, "workshop", WORKSHOP);
    plugins::internal(&home, "prober", PROBER);
    home.config(
        "[core]\nworkshop = \"{sources}/workshop\"\n\n[internal]\n\
         slow = { source = \"{sources}/prober\", settings = { role = \"slow\" } }\n\
         prober = { source = \"{sources}/prober\", settings = { role = \"prober\" } }\n",
    );
    let (host, pid) = (home.host(), std::process::id());
    home.wait_for_core_log("prober has terminated.");
    home.wait_for_core_log("slow has terminated.");
    let found = findings(&home, "prober");
    let log = home.plugin_log("prober");
    let is = |name: &str, value: Value| assert_eq!(found.get(name), Some(&value), "{name}\n{log}");
    let ok = |name: &str, value: Value| is(name, json!(["ok", value]));
    let fails = |name: &str, kind: &str, message: &str| is(name, json!([kind, message]));

    // Skills run in the core, whoever calls.
    ok("constant", json!("measure twice"));
    ok("pid", json!(pid));
    ok("core_pid", json!(pid));
    is("told", json!(pid));
    assert_ne!(found["own"], json!(pid));

    fails("deep", "not found", "no plugin offers `a.b.c.d.e.nothing`");
    let near = found["near"][1].as_str().expect("has a message");
    assert!(
        near.starts_with("no plugin offers `workshop.cutt`; did you mean `workshop.cut`"),
        "{near}"
    );
    for name in ["hidden", "machinery"] {
        assert_eq!(found[name][0], "not found", "{name}");
    }

    fails("typed", "skill", "TooLong { limit: 100, found: 101 }");
    ok("cut", json!(7));
    is(
        "dynamic",
        json!([
            "workshop.cut",
            "workshop::CutError",
            "the saw is blunt",
            "Blunt",
            ["the teeth are worn"],
            true
        ]),
    );
    fails(
        "fog",
        "unserializable",
        "workshop.fog: a value cannot cross: the result cannot be encoded: fog cannot be packed",
    );
    assert_eq!(found["shatter"][0], "panicked");
    let message = found["shatter"][1].as_str().expect("has a message");
    assert!(
        message.starts_with("workshop.shatter panicked: a vase is broken (at src/lib.rs:"),
        "{message}"
    );
    let location = found["location"].as_str().expect("has a place");
    assert!(location.starts_with("src/lib.rs:"), "{location}");
    let mismatch = found["mismatch"][1].as_str().expect("has a message");
    assert_eq!(found["mismatch"][0], "mismatch", "{mismatch}");
    for part in [
        "workshop.cut",
        "expected: fn(length: &str, unit: u8) -> u32",
        "offered:  fn(length: u32) -> Result<u32, CutError>",
    ] {
        assert!(mismatch.contains(part), "{mismatch}");
    }
    ok("after", json!(8));

    ok("by_position", json!("2.5 cm"));
    ok("by_name", json!("2.5 cm"));
    ok("left_out", json!("2.5 mm"));
    for (name, part) in [
        ("unknown", "width"),
        ("absent", "length"),
        ("wrong", "length"),
        ("too_many", "workshop.cut"),
        ("of_constant", "workshop.MOTTO"),
    ] {
        assert_eq!(found[name][0], "arguments", "{name}: {}", found[name]);
        let message = found[name][1].as_str().expect("has a message");
        assert!(message.contains(part), "{name}: {message}");
    }
    ok("large", json!(true));

    ok("in_between", json!(true));
    assert_eq!(found["impatient"][0], "timed out");
    ok("awaits", json!(null));
    ok("waited", json!(true));
    ok("callback", json!(true));
    assert_eq!(found["in_callback"][0], "would block");
    ok("chained", json!("9"));
    assert_eq!(found["failing"][0], "skill");
    assert_eq!(found["panicking"][0], "panicked");
    assert_eq!(found["cancelled"][0], "cancelled");
    is("threads", json!(true));
    is("kept", json!(true));

    // The other plugin was inside its call while this one made a hundred.
    ok("awaited", json!(true));
    ok("released", json!(null));
    ok("last", json!("measure twice"));
    assert_eq!(findings(&home, "slow")["slow"], json!(["ok", true]));

    // Standard output is everybody's own.
    assert!(log.contains("printed by the prober"), "{log}");
    assert!(!log.contains("printed by a skill"), "{log}");
    // A panic is in the log of the plugin whose code it was.
    let workshop = home.plugin_log("workshop");
    assert!(
        workshop.contains(" : ERROR : workshop.shatter panicked: a vase is broken"),
        "{workshop}"
    );
    // One call still waits, at a gate that nobody has opened; a shutdown must not wait for it long.
    assert_eq!(host.call("workshop.open", ("nobody opens this",)), Ok(()));
    host.shutdown();
}

#[test]
fn a_wrong_token_is_refused_and_nobody_else_may_look() {
    let home = TestHome::new();
    home.config("");
    let host = home.host();
    let socket = host.home().socket();
    let mode = fs::metadata(&socket)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        token: Some("guessed".to_owned()),
        client: "somebody".to_owned(),
        pid: std::process::id(),
        features: Vec::new(),
        imports: Vec::new(),
    };
    // The socket itself: a home's path may be too long for its address, a test's is not.
    let mut stream = UnixStream::connect(&socket).expect("listens");
    let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("is small");
    frame::write_frame(&mut stream, &hello).expect("is read");
    let (header, body) = frame::read_frame(&mut stream)
        .expect("answers")
        .expect("answers");
    assert_eq!(header.kind, Kind::Error);
    let failure = Failure::decode(&body);
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("token"), "{failure}");
    assert_eq!(frame::read_frame(&mut stream).expect("ends well"), None);

    // Without one, a tool of the same user may call.
    let session = connect(home.path()).expect("is let in");
    assert_eq!(session.call("aigis.pid", ()), Ok(std::process::id()));
    host.shutdown();
}

#[test]
fn a_core_that_is_gone_ends_every_call_that_waits() {
    let home = TestHome::new();
    plugins::core(&home, "workshop", WORKSHOP);
    home.config("[core]\nworkshop = \"{sources}/workshop\"\n");
    let absent = connect(home.path()).expect_err("no core runs yet");
    assert!(
        matches!(absent, CallError::NotConnected { .. }),
        "{absent:?}"
    );
    assert!(
        absent
            .to_string()
            .contains("start one there with `aigis build-and-run`")
    );

    let core = Core::start(&home);
    let session = connect(home.path()).expect("the core runs");
    assert_eq!(session.core_pid(), core.pid());
    assert_eq!(session.call("workshop.pid", ()), Ok(core.pid()));

    // The skill's output is the core's, not that of the tool that calls it.
    let ran = home
        .aigis(&["call", "workshop.print", "printed by a skill"])
        .exited(0);
    assert_eq!((&*ran.stdout, &*ran.stderr), ("null\n", ""));

    let (sender, outcomes) = channel();
    for gate in ["first", "second"] {
        let (caller, sender) = (session.clone(), sender.clone());
        thread::spawn(move || {
            let outcome = caller.call_within("workshop.wait", (gate,), DEADLINE);
            sender.send(outcome).expect("is received");
        });
        assert_eq!(session.call("workshop.awaited", (gate,)), Ok(true));
    }
    let command_line = home
        .command(&["call", "workshop.wait", "third", "--timeout", "200"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("aigis starts");
    assert_eq!(session.call("workshop.awaited", ("third",)), Ok(true));

    core.signal("KILL");
    for _ in 0..2 {
        let outcome: Result<bool, CallError<SkillFailure>> =
            outcomes.recv_timeout(DEADLINE).expect("a call ends");
        let error = outcome.expect_err("nobody is left to answer");
        assert!(
            matches!(&error, CallError::CoreGone { skill, .. } if skill == "workshop.wait"),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains("whether workshop.wait ran is unknown"),
            "{error}"
        );
    }
    let output = command_line.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(5), "{output:?}");

    // Later calls wait for the next core while their caller does; a new connection fails at once.
    let error = session
        .call_within::<u32>("workshop.pid", (), Duration::from_millis(50))
        .expect_err("the core is gone");
    assert!(matches!(error, CallError::CoreGone { .. }), "{error:?}");
    let pid = core.pid();
    assert_eq!(core.wait().code, None);
    assert!(!is_alive(pid));
    let absent = connect(home.path()).expect_err("the core is gone");
    assert!(
        matches!(absent, CallError::NotConnected { .. }),
        "{absent:?}"
    );

    // The next core takes the place of the one that left its socket behind.
    let core = Core::start(&home);
    let another = connect(home.path()).expect("the core runs");
    assert_eq!(another.call("workshop.pid", ()), Ok(core.pid()));
    // The session that lost the first one finds it by itself.
    let begin = Instant::now();
    let pid = loop {
        match session.call::<u32>("workshop.pid", ()) {
            Ok(pid) => break pid,
            Err(CallError::CoreGone { .. }) => assert!(begin.elapsed() < DEADLINE),
            Err(other) => panic!("expected an answer, found {other:?}"),
        }
    };
    assert_eq!(pid, core.pid());
    core.signal("TERM");
    core.wait().exited(0);
}
