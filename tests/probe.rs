//! Libraries that are as old as can be, and libraries that must not get into the core.

use std::fs;
use std::path::Path;

use aigis_core::State;
use aigis_plugin_api::{CallError, FailureKind};

use crate::support::home::TestHome;
use crate::support::{is_alive, plugins};

const CARGO: &str = include_str!("fixtures/abi-1.0/Cargo.toml");
const MANIFEST: &str = include_str!("fixtures/abi-1.0/AIGIS/AIGIS.config");
const ABI: &str = include_str!("fixtures/abi-1.0/src/abi.rs");
const LIBRARY: &str = include_str!("fixtures/abi-1.0/src/lib.rs");

/// A plugin of today that imports the skills of the old one.
const READER: &str = r#"
use aigis_plugin_api::skills;

aigis_plugin_api::import! {
    mod frozen {
        fn add(a: i64, b: i64) -> i64;
        fn greet(name: &str) -> String;
        fn lengths(words: &[String], least: Option<u64>) -> Vec<(String, u64)>;
    }
}

#[skills]
pub mod reader {
    pub fn sum(a: i64, b: i64) -> Result<i64, String> {
        super::frozen::add(a, b).map_err(|error| error.to_string())
    }

    pub fn greeting(name: &str) -> Result<String, String> {
        super::frozen::greet(name).map_err(|error| error.to_string())
    }

    pub fn lengths(words: &[String], least: Option<u64>) -> Result<Vec<(String, u64)>, String> {
        super::frozen::lengths(words, least).map_err(|error| error.to_string())
    }
}
"#;

/// Writes the plugin of ABI 1.0; `more` is added to its library.
fn write_frozen(home: &TestHome, name: &str, more: &str) {
    let library = format!("{LIBRARY}\n{more}");
    let files = [
        ("Cargo.toml", CARGO),
        ("AIGIS/AIGIS.config", MANIFEST),
        ("src/abi.rs", ABI),
        ("src/lib.rs", &*library),
    ];
    plugins::write(home, name, &files);
}

#[test]
fn a_plugin_of_abi_1_0_is_loaded_and_called() {
    let home = TestHome::new();
    write_frozen(&home, "old", "");
    plugins::core(&home, "reader", READER);
    home.config("[core]\nold = \"{sources}/old\"\nreader = \"{sources}/reader\"\n");
    let host = home.host();
    let status = host.status();
    assert!(
        status.iter().all(|plugin| plugin.state == State::Ready),
        "{status:#?}"
    );
    home.wait_for_log("old", "frozen: open since ABI 1.0");

    // From the host, and from a session.
    assert_eq!(host.call("frozen.add", (-2, 44)), Ok(42_i64));
    let greeting = "Hello, Zaltu, from ABI 1.0!".to_owned();
    assert_eq!(host.call("frozen.greet", ("Zaltu",)), Ok(greeting.clone()));
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    assert_eq!(session.call("frozen.add", (300, 70_000)), Ok(70_300_i64));
    assert_eq!(
        session.call("frozen.greet", ("Zaltu",)),
        Ok(greeting.clone())
    );
    let refused = session.call::<i64>("frozen.add", (i64::MAX, 1));
    let Err(CallError::Other(failure)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("its encoded form"), "{failure}");
    let words = ["a", "word", "of four"].map(str::to_owned).to_vec();
    let measured = vec![("word".to_owned(), 4_u64), ("of four".to_owned(), 7)];
    assert_eq!(
        session.call("frozen.lengths", (&words, Some(2_u64))),
        Ok(measured.clone())
    );

    // From a plugin of today: what can be direct is.
    assert_eq!(host.call("reader.sum", (-2, 44)), Ok(42_i64));
    assert_eq!(host.call("reader.greeting", ("Zaltu",)), Ok(greeting));
    let error = host
        .call::<i64>("reader.sum", (i64::MAX, 1))
        .expect_err("does not fit");
    assert!(
        error.to_string().contains("says the direct entry"),
        "{error}"
    );
    assert_eq!(
        host.call("reader.lengths", (&words, Some(2_u64))),
        Ok(measured)
    );
    let all: Vec<(String, u64)> = host
        .call("reader.lengths", (&words, None::<u64>))
        .expect("without a limit");
    assert_eq!(all.len(), words.len());
    let error = host
        .call::<Vec<(String, u64)>>("reader.lengths", (vec![String::new()], None::<u64>))
        .expect_err("is empty");
    assert!(
        error.to_string().contains("says the direct entry"),
        "{error}"
    );
    host.shutdown();
}

/// A constructor that leaves its process's number in a file and then does what `body` says.
fn marking(mark: &Path, body: &str) -> String {
    format!(
        "#[used]\n#[unsafe(link_section = \".init_array\")]\n\
         static CONSTRUCTOR: extern \"C\" fn() = construct;\n\n\
         extern \"C\" fn construct() {{\n\
             use std::io::Write;\n\
             let mut mark = std::fs::OpenOptions::new();\n\
             let mut mark = mark.create(true).append(true).open({mark:?}).unwrap();\n\
             writeln!(mark, \"{{}}\", std::process::id()).unwrap();\n\
             {body}\n\
         }}\n"
    )
}

#[test]
fn what_fails_in_the_probe_never_gets_into_the_core() {
    let home = TestHome::new();
    let mark = home.path().join("mark");
    let marks = || -> Vec<u32> {
        let text = fs::read_to_string(&mark).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let own = std::process::id();
    write_frozen(&home, "old", &marking(&mark, ""));
    home.config("[core]\nold = \"{sources}/old\"\n");
    let host = home.host();
    // One that passes is opened twice: in the probe, which is gone by then, and in the core.
    let [probe, core] = marks()[..] else {
        panic!("{:?} in {:#?}", marks(), host.status());
    };
    assert_eq!(core, own);
    assert!(probe != own && !is_alive(probe));

    for (body, said) in [
        ("std::process::abort()", "killed the process with SIGABRT"),
        (
            "std::process::exit(0)",
            "ended the process with exit code 0",
        ),
    ] {
        let before = marks().len();
        write_frozen(&home, "old", &marking(&mark, body));
        let error = host.reload("old", true).expect_err("does not pass");
        let error = format!("{error:#?} {error}");
        assert!(error.contains(said), "{error}");
        let after = marks();
        assert_eq!(after.len(), before + 1, "{after:?}");
        assert_ne!(after.last(), Some(&own));
        // What ran before runs on.
        assert_eq!(host.call("frozen.add", (1, 2)), Ok(3_i64));
    }
    host.shutdown();
}

#[test]
fn a_plugin_of_a_newer_core_is_refused_with_the_remedy() {
    let home = TestHome::new();
    let newer = LIBRARY.replace(
        "minor: if cfg!(newer_minor)",
        "minor: if !cfg!(newer_minor)",
    );
    assert_ne!(newer, LIBRARY);
    write_frozen(&home, "old", "");
    plugins::write(&home, "old", &[("src/lib.rs", &newer)]);
    home.config("[core]\nold = \"{sources}/old\"\n");
    let host = home.host();
    let status = host.status().remove(0);
    assert_eq!(status.state, State::Failed);
    let error = status.error.unwrap_or_default();
    for part in [
        "ABI version 1.4000",
        "rustc 1.95.0 (a compiler of old)",
        "aigis-plugin-api 0.1.0",
        "`aigis reload --fresh`",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    host.shutdown();
}
