//! Skills: who can call them, under which names, and what goes into the log.

use aigis_core::{HostError, State};
use serde_json::Value;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::plugins::{self, CORE, cargo_toml};

const WORDS: &str = include_str!("fixtures/skills/words.rs");
const NUMBERS: &str = include_str!("fixtures/skills/numbers.rs");
const RIVAL: &str = include_str!("fixtures/skills/rival.rs");
const CALLER: &str = include_str!("fixtures/skills/caller.rs");

/// What every caller finds, wherever it is.
const SURVEY: [&str; 5] = [
    "A",
    "64",
    "b-c",
    "d",
    "no plugin offers `words.hidden`; did you mean `words.descend` or `words.join` or `words.aware`?",
];

fn write_words(home: &TestHome) {
    let library = "tracing = { version = \"0.1\", default-features = false, features = [\"std\"] }\n\
                   log = \"0.4\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n";
    let files = [
        ("Cargo.toml", &*cargo_toml("words", library)),
        ("AIGIS/AIGIS.config", CORE),
        ("src/lib.rs", WORDS),
    ];
    plugins::write(home, "words", &files);
}

#[test]
fn skills_are_the_same_from_everywhere() {
    let home = TestHome::new();
    write_words(&home);
    plugins::core(&home, "numbers", NUMBERS);
    plugins::internal(&home, "caller", CALLER);
    // Not by the names of the plugins: a namespace comes from the skills.
    home.config(
        "[internal]\nlast = \"{sources}/caller\"\n\n\
         [core]\nsecond = \"{sources}/words\"\nfirst = \"{sources}/numbers\"\n",
    );
    let core = Core::start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let second = home.plugin_log("second");
    assert!(
        second.contains("has left threads running in the core (2)"),
        "{second}"
    );
    assert!(second.contains("Skills acquired."), "{second}");

    from_a_core_plugin_a_process_and_the_command_line(&home);
    only_what_is_listed_can_be_called(&home);

    // Before it was loaded, and after.
    let early: String = session.call("words.at_the_start", ()).expect("answers");
    assert_eq!(early, "numbers.double is not there");
    assert_eq!(session.call("words.quadruple", (3,)), Ok(12_u32));
    assert_eq!(
        session.call("words.descend", (4,)),
        Ok(vec![4_u32, 3, 2, 1, 0])
    );
    assert_eq!(
        session.call("numbers.descend", (3,)),
        Ok(vec![3_u32, 2, 1, 0])
    );

    what_is_logged(&home, &session);

    drop(session);
    core.signal("TERM");
    core.wait().exited(0);
}

fn from_a_core_plugin_a_process_and_the_command_line(home: &TestHome) {
    let call = |arguments: &[&str]| -> Value {
        let ran = home.aigis(&[&["call"], arguments].concat()).exited(0);
        serde_json::from_str(&ran.stdout).expect("is JSON")
    };
    assert_eq!(call(&["numbers.survey"]), serde_json::json!(SURVEY));
    home.wait_for_core_log("last has terminated.");
    assert_eq!(home.read("data/last/survey"), SURVEY.join("\n"));
    assert_eq!(call(&["shout", "a"]), SURVEY[0]);
    assert_eq!(call(&["words.LONGEST"]), 64);
    assert_eq!(call(&["words.join", r#"["b", "c"]"#, "-"]), SURVEY[2]);
    assert_eq!(call(&["words.case.simple.lower", "D"]), SURVEY[3]);
    // Of another plugin, in the same namespace.
    assert_eq!(call(&["words.reverse", "abc"]), "cba");
}

fn only_what_is_listed_can_be_called(home: &TestHome) {
    for name in [
        "words.hidden",
        "words.skipped",
        "words.unlisted",
        "unlisted",
        "words.new",
        "words.Early.new",
        "words.case",
        "second.join",
        "aigis.registry",
        "aigis.__plugin_manager__",
    ] {
        let ran = home.aigis(&["call", name]).exited(6);
        assert!(
            ran.stderr.contains(&format!("no plugin offers `{name}`")),
            "{ran:?}"
        );
    }
    let ran = home.aigis(&["skills", "--json"]).exited(0);
    let skills: Vec<Value> = serde_json::from_str(&ran.stdout).expect("is a list");
    let mut listed: Vec<&str> = skills.iter().filter_map(|s| s["name"].as_str()).collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            "numbers.descend",
            "numbers.double",
            "numbers.survey",
            "shout",
            "words.LONGEST",
            "words.at_the_start",
            "words.aware",
            "words.case.simple.lower",
            "words.descend",
            "words.join",
            "words.quadruple",
            "words.reverse",
            "words.unaware",
        ]
    );
}

fn what_is_logged(home: &TestHome, session: &aigis_plugin_api::Session) {
    for count in 1..=3_u32 {
        // Run once each time, with the logger and without it.
        assert_eq!(session.call("words.aware", ()), Ok(count));
        assert_eq!(session.call("words.unaware", ()), Ok(count));
    }
    let log = home.plugin_log("second");
    let records =
        |needle: &str| -> Vec<&str> { log.lines().filter(|line| line.ends_with(needle)).collect() };
    for count in 1..=3 {
        let aware = records(&format!("aware, call {count}"));
        assert_eq!(aware.len(), 1, "{log}");
        let (time, message) = aware[0].split_once(" : ").expect("has a time");
        assert_eq!(message, format!("INFO : aware, call {count}"));
        // 2026-11-21 08:53:00,250
        let digits: String = time.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(digits, "0000-00-00 00:00:00,000");
    }
    assert_eq!(
        records(" : WARNING : from another thread").len(),
        3,
        "{log}"
    );
    assert_eq!(records("traced count=3 colour=red").len(), 1, "{log}");
    let logged = records(": logged");
    assert_eq!(logged.len(), 3, "{log}");
    assert!(logged[0].contains(" : ERROR : "), "{log}");
    assert!(!log.contains("below the threshold"), "{log}");
    // One warning for all that know nothing of the log, at the load.
    let unaware: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("Functions called without AIGIS logging"))
        .collect();
    assert_eq!(unaware.len(), 1, "{log}");
    assert!(unaware[0].contains("words.unaware"), "{log}");
    assert!(!unaware[0].contains("words.aware,"), "{log}");
    assert_eq!(records(" : BOOT : Skills acquired.").len(), 1, "{log}");
    let registered = records(" : BOOT : Registered words.case.simple.lower...");
    assert_eq!(registered.len(), 1, "{log}");
    assert!(
        !home.core_log().contains("aware, call"),
        "{}",
        home.core_log()
    );
}

#[test]
fn a_name_that_is_taken_refuses_the_later_plugin() {
    let home = TestHome::new();
    plugins::core(&home, "numbers", NUMBERS);
    plugins::core(&home, "rival", RIVAL);
    home.config("[core]\nnumbers = \"{sources}/numbers\"\nrival = \"{sources}/rival\"\n");
    let host = home.host();

    let status = host.status();
    assert_eq!(status[0].state, State::Ready);
    assert_eq!(status[1].state, State::Failed);
    let error = status[1].error.clone().expect("has an error");
    assert!(
        error.contains("skill `words.reverse` is offered by plugin `numbers` already"),
        "{error}"
    );
    let line = home.wait_for_core_log("Could not load plugin rival!");
    assert!(line.contains("`numbers`"), "{line}");
    // Nothing of it has been run, and nothing can be called.
    assert!(host.call::<()>("rival.fine", ()).is_err());
    assert_eq!(host.call("words.reverse", ("abc",)), Ok("cba".to_owned()));

    // When the name is free, it may have it; then the other one may not.
    host.stop("numbers").expect("stops");
    assert!(host.call::<String>("words.reverse", ("abc",)).is_err());
    let started = host.start_plugin("rival").expect("starts");
    assert_eq!(started.state, State::Ready);
    assert_eq!(
        host.call("words.reverse", ("abc",)),
        Ok("not abc reversed".to_owned())
    );
    let refused = host.start_plugin("numbers").expect_err("the name is taken");
    assert!(matches!(refused, HostError::Step(_)), "{refused}");
    assert!(refused.to_string().contains("plugin `rival`"), "{refused}");
    host.shutdown();
}
