//! The protocol from another language: the example client in Python, against a core; and what a core does with
//! clients that do not keep to the protocol.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aigis_plugin_api::session::frame::{self, HEADER, Kind};
use aigis_plugin_api::{
    CallError, Failure, FailureKind, Session, SkillFailure, Stream, Value as Vectors, connect,
};
use serde_json::{Value, json};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::python::{self, python};
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const WORKSHOP: &str = include_str!("fixtures/sessions/workshop.rs");

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("stands in a folder").join(path)
}

/// Starts a core with the workshop and the program in Python.
fn workshop(home: &TestHome) -> Core {
    plugins::core(home, "workshop", WORKSHOP);
    let script = format!(
        "export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{}'\nexec python3 '{}'",
        python::path().to_string_lossy(),
        file("tests/fixtures/python/prober.py").display()
    );
    plugins::external(home, "prober", "", &script);
    home.config(
        "[core]\nworkshop = \"{sources}/workshop\"\n\n[external]\nprober = \"{sources}/prober\"\n",
    );
    Core::start(home)
}

/// Waits until the program has found `name`, and returns everything that it has found.
fn findings(home: &TestHome, name: &str) -> HashMap<String, Value> {
    home.wait_for_log("prober", &format!("found {name}"));
    let text = home.read("data/prober/findings");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str::<(String, Value)>(line).expect("is a name and a value"))
        .collect()
}

#[test]
fn the_client_speaks_the_frozen_bytes() {
    let _deadline = Deadline::begin(DEADLINE);
    let checked = python()
        .args(["-m", "aigis_client", "--check"])
        .arg(file("docs/protocol-vectors.json"))
        .output()
        .expect("python3 is installed");
    assert!(checked.status.success(), "{checked:?}");
    let printed = String::from_utf8_lossy(&checked.stdout);
    let count = printed.split(' ').next().and_then(|n| n.parse().ok());
    assert!(count > Some(300), "{printed}");
    let tested = python()
        .args(["-m", "unittest", "-q"])
        .current_dir(python::example())
        .output()
        .expect("python3 is installed");
    assert!(tested.status.success(), "{tested:?}");
}

#[test]
fn python_calls_and_is_called() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    let core = workshop(&home);
    let found = findings(&home, "ready");
    calls_ended_as_they_should(&found, &core);

    // Others call what it serves.
    let session = connect(home.path()).expect("the core runs");
    assert_eq!(
        session.call("prober.reverse", ("zoé",)),
        Ok("éoz".to_owned())
    );
    let failed = session.call::<HashMap<String, Option<u32>>>("prober.saw", (0,));
    let Err(CallError::Skill(failure)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(failure.type_name, "__main__.Worn");
    assert_eq!(failure.message, "the saw is blunt");
    assert_eq!(failure.chain, ["no teeth"]);
    let payload = failure.payload().expect("was sent along");
    assert_eq!(payload.to_json(), r#"{"Worn":{"teeth":3}}"#);
    let ran = home.aigis(&["call", "prober.reverse", "abc"]).exited(0);
    assert_eq!(ran.stdout, "\"cba\"\n");
    let ran = home.aigis(&["skills"]).exited(0);
    assert!(ran.stdout.contains("prober.reverse"), "{ran:?}");

    streams_go_both_ways(&session);

    // It hears of a swap, and its import goes on with the new version.
    plugins::core(
        &home,
        "workshop",
        &WORKSHOP.replace("measure twice", "measure thrice"),
    );
    home.aigis(&["reload", "--fresh", "workshop"]).exited(0);
    session.call::<()>("prober.go_on", ()).expect("is served");
    let found = findings(&home, "again");
    assert_eq!(found["reloaded"], json!(true));
    assert_eq!(found["again"], json!(8));
    assert_eq!(
        session.call("workshop.MOTTO", ()),
        Ok("measure thrice".to_owned())
    );

    // What it served goes with it.
    session.call::<()>("prober.go_on", ()).expect("is served");
    let after = &findings(&home, "after")["after"];
    assert!(
        after
            .as_str()
            .is_some_and(|text| text.contains("has closed the session")),
        "{after}"
    );
    eventually("the end of what it served", || {
        let outcome: Result<String, CallError<SkillFailure>> =
            session.call("prober.reverse", ("a",));
        matches!(outcome, Err(CallError::NotFound { .. })).then_some(())
    });
    core.signal("TERM");
    core.wait().exited(0);
}

mod imports {
    use aigis_plugin_api::Stream;

    aigis_plugin_api::import! {
        pub(super) mod prober {
            fn spell(word: &str) -> Stream<String>;
            fn break_off() -> Stream<u64>;
            fn total(items: Stream<u64>) -> u64;
        }
    }
}

/// From and to the program, through the core.
fn streams_go_both_ways(session: &Session) {
    use imports::prober;
    session.scope(|| {
        let letters = prober::spell("xyz").expect("begins").take(4);
        let letters: Result<String, _> = letters.collect();
        assert_eq!(letters, Ok("xyz.".to_owned()));
        let mut breaks = prober::break_off().expect("begins");
        assert_eq!(breaks.next(), Some(Ok(1)));
        let Some(Err(CallError::Failed(failure))) = breaks.next() else {
            panic!("it breaks off");
        };
        assert_eq!(failure.message, "the saw is blunt");
        assert_eq!(prober::total(Stream::of(1..=500)), Ok(125_250));
    });
}

fn calls_ended_as_they_should(found: &HashMap<String, Value>, core: &Core) {
    let is = |name: &str, value: Value| assert_eq!(found.get(name), Some(&value), "{name}");
    let fails = |name: &str, kind: &str, part: &str| {
        let outcome = &found[name];
        let message = outcome[1].as_str().unwrap_or_default();
        assert_eq!(outcome[0], kind, "{name}: {outcome}");
        assert!(message.contains(part), "{name}: {outcome}");
    };
    is("core", json!(core.pid()));
    is("constant", json!("measure twice"));
    is("by_position", json!("2.5 cm"));
    is("by_name", json!("2.5 mm"));
    is("large", json!(true));
    is("empty", json!(true));
    let message = "101 is longer than 100";
    let payload = json!({"TooLong": {"limit": 100, "found": 101}});
    is(
        "skill",
        json!(["workshop.cut", "workshop::CutError", message, payload, []]),
    );
    is("chain", json!(["the teeth are worn"]));
    let nearest = found["nearest"].as_array().expect("is a list");
    assert!(nearest.contains(&json!("workshop.cut")), "{nearest:?}");
    assert_eq!(found["panicked"][0], "a vase is broken");
    let location = found["panicked"][1].as_str().expect("has a place");
    assert!(location.starts_with("src/lib.rs:"), "{location}");
    fails("arguments", "arguments", "length");
    fails("mixed", "arguments", "not both");
    fails("fog", "unserializable", "fog cannot be packed");
    fails("unserializable", "unserializable", "workshop.echo");
    fails("mismatch", "mismatch", "workshop.cut");
    is("differences", json!(2));

    fails("deadline", "timed_out", "workshop.wait");
    fails("of_core", "timed_out", "workshop.wait");
    assert_eq!(found["cancel"][0], true);
    assert_eq!(found["cancel"][1], false);
    assert_eq!(found["cancel"][2][0], "cancelled");
    is("quick", json!([true, true, true, true]));
    is("overtaken", json!(true));
    is("slow", json!(true));
    assert_eq!(found["in_callback"][0], true);
    assert_eq!(found["in_callback"][1][0][0], "would_block");

    is("reverse", json!("éoz"));
    is("saw", json!({"length": 7, "fits": null}));
    is(
        "worn",
        json!(["prober.saw", "__main__.Worn", "the saw is blunt", {"Worn": {"teeth": 3}}, ["no teeth"]]),
    );
    is("too_many", json!("arguments"));
    is("unsayable", json!("unserializable"));
    is("lingers", json!(true));
    is("told", json!(true));
    is("withdrawn", json!("not_found"));
    is("aigis", json!("refused"));
    is("still", json!("ba"));
    is("served", json!(true));
    is("generation", json!(1));
    is("imported", json!(7));

    is("counted", json!((0..300).collect::<Vec<u64>>()));
    is("first", json!([0, 1]));
    is("summed", json!([500_500]));
    is("made", json!(1000));
    fails("breaks", "skill", "the count breaks off at 2");
    is("no_stream", json!("mismatch"));
    is("of_nobody", json!("not_found"));
    is("spelled", json!(["a", "b", "c", ".", "."]));
    is("stopped", json!(true));
    is("total", json!([6]));
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex"))
        .collect()
}

/// Sends bytes on a connection of their own, and no more; returns the failure with which the core ends it, if it gives one.
fn sent(socket: &Path, what: &[u8]) -> Option<Failure> {
    let mut stream = UnixStream::connect(socket).expect("listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("can be set");
    // The core may have closed the connection before it has read everything.
    let _ = stream.write_all(what);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    // An end with unread bytes is an error on this side, after what was sent before it.
    let _ = stream.read_to_end(&mut answers);
    let mut rest = answers.as_slice();
    let mut last = None;
    while let Ok(Some((header, body))) = frame::read_frame(&mut rest) {
        assert!(last.is_none(), "something follows the end of a session");
        if header.kind == Kind::Error && header.call == 0 {
            last = Some(Failure::decode(&body));
        }
    }
    last
}

#[test]
fn who_breaks_a_rule_is_told_so_and_nobody_else_notices() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = TestHome::new();
    home.config("");
    let host = home.host();
    let socket = host.home().socket();
    let session = connect(home.path()).expect("the core runs");
    let text = std::fs::read_to_string(file("docs/protocol-vectors.json")).expect("is there");
    // Its nesting is more than serde_json reads.
    let vectors = Vectors::from_json(&text).expect("is JSON");
    let list = |name: &str| {
        let found = vectors.get(name).and_then(Vectors::as_list);
        found.expect("is a list")
    };
    let of = |vector: &Vectors, key: &str| {
        let text = vector.get(key).and_then(Vectors::as_str);
        text.expect("is a text").to_owned()
    };
    let hex = |vector: &Vectors| bytes(&of(vector, "hex"));
    let hello = hex(&list("frames")[0]);

    for vector in list("broken_rules") {
        let failure = sent(&socket, &hex(vector));
        let failure = failure.unwrap_or_else(|| panic!("{vector}: no reason was given"));
        assert_eq!(failure.kind, FailureKind::Refused, "{vector}: {failure}");
    }
    let mut refused = 0;
    for vector in list("malformed_frames") {
        let frame = hex(vector);
        let greets = frame.get(4) == Some(&(Kind::Hello as u8));
        let before = if greets { &[][..] } else { &hello };
        let failure = sent(&socket, &[before, &frame].concat());
        // An answer to a call that nobody waits for is not read, and half a frame is the end.
        let answers = frame.get(4) == Some(&(Kind::Error as u8)) && frame.len() > HEADER;
        if of(vector, "reason") != "truncated" && !answers {
            let failure = failure.unwrap_or_else(|| panic!("{vector}: no reason was given"));
            assert_eq!(failure.kind, FailureKind::Refused, "{vector}: {failure}");
            refused += 1;
        }
    }
    assert!(refused > 30, "only {refused}");
    assert_eq!(session.call("aigis.pid", ()), Ok(std::process::id()));
    host.shutdown();
}
