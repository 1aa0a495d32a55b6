//! `aigis logs`, without a core.

use std::fs;
use std::path::Path;

use clap::Parser as _;

use super::super::error::Exit;
use super::super::{Cli, run};

use super::{aigis, context};

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder for the test");
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("writable");
        fs::write(path, text).expect("writable");
    };
    let lines: String = (1..=9)
        .map(|n| format!("2026-11-21 08:53:0{n},000 : INFO : line {n}\n"))
        .collect();
    write("log/plugins/greeter.log", &lines);
    write("log/core.log", "2026-11-21 08:53:00,123 : BOOT : up\n");
    write(
        "config/config.aigis",
        "[external]\nsampler = \"../sampler\"\n",
    );
    home
}

fn last_words(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.rsplit(" : ").next())
        .collect()
}

fn check(home: &Path, arguments: &[&str], expected: &[&str]) {
    let ended = aigis(home, arguments);
    assert_eq!(last_words(&ended.out), expected, "{ended:?}");
    assert_eq!(ended.exit, Exit::Ok);
}

#[test]
fn the_last_five_entries_or_as_many_as_asked_for() {
    let home = home();
    let five = ["line 5", "line 6", "line 7", "line 8", "line 9"];
    check(home.path(), &["logs", "greeter"], &five);
    check(home.path(), &["logs", "greeter", "-n", "2"], &five[3..]);
    check(home.path(), &["logs", "greeter", "-n", "0"], &[]);
    check(home.path(), &["logs"], &["up"]);
    check(home.path(), &["logs", "core"], &["up"]);
}

#[test]
fn a_configured_plugin_that_has_not_logged_yet_is_a_warning() {
    let home = home();
    let ended = aigis(home.path(), &["logs", "sampler"]);
    assert_eq!((ended.exit, ended.out.as_str()), (Exit::Ok, ""));
    assert!(
        ended.err.starts_with("warning: there is no log file"),
        "{ended:?}"
    );
}

#[test]
fn an_unknown_plugin_is_named_with_the_nearest() {
    let home = home();
    let ended = aigis(home.path(), &["logs", "greter"]);
    assert_eq!(ended.exit, Exit::UnknownName);
    assert_eq!(
        ended.err,
        "error: there is no plugin `greter`\nhint: did you mean `greeter`?\n"
    );
    for outside in ["../core", "../../etc/passwd", "/etc/passwd", ""] {
        let ended = aigis(home.path(), &["logs", outside]);
        assert_eq!(ended.exit, Exit::UnknownName, "{outside}");
    }
}

/// Two plugins and the core, in turns; one of them in JSON, and with a backup.
fn several() -> tempfile::TempDir {
    let home = home();
    let write = |path: &str, text: &str| {
        fs::write(home.path().join("log").join(path), text).expect("writable");
    };
    let line = |clock: &str, level: &str, text: &str| {
        format!("2026-11-21 08:53:{clock},500 : {level} : {text}\n")
    };
    let sampler = [
        line("01", "WARNING", "careful\n    | more"),
        line("03", "ERROR", "bad"),
    ];
    write("plugins/sampler.log", &sampler.concat());
    write(
        "plugins/sampler.log.2026-11-20",
        &sampler[0].replace("-21", "-20"),
    );
    let zone = jiff::tz::TimeZone::system();
    let local: jiff::civil::DateTime = "2026-11-21T08:53:02.7".parse().expect("a time");
    let time = zone.to_timestamp(local).expect("a time");
    let json = format!(
        "{{\"time\":\"{time}\",\"level\":\"debug\",\"message\":\"hi\",\"fields\":{{\"n\":1}}}}\n"
    );
    write("plugins/json.log", &json);
    home
}

#[test]
fn several_logs_are_merged_by_time_with_their_names() {
    let home = several();
    let ended = aigis(
        home.path(),
        &["logs", "greeter", "sampler", "json", "core", "-n", "8"],
    );
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    let lines: Vec<String> = ended
        .out
        .lines()
        .map(|line| line.replace("2026-11-21 08:53:", ""))
        .collect();
    let expected = [
        "sampler | 01,500 : WARNING : careful",
        "sampler |     | more",
        "greeter | 02,000 : INFO : line 2",
        "json    | 02,700 : DEBUG : hi n=1",
        "greeter | 03,000 : INFO : line 3",
    ];
    let from = lines.iter().position(|line| line == expected[0]);
    assert_eq!(from, None, "eight entries are fewer than all: {lines:?}");
    let ended = aigis(
        home.path(),
        &["logs", "greeter", "sampler", "json", "core", "-n", "20"],
    );
    let lines: Vec<String> = ended
        .out
        .lines()
        .map(|line| line.replace("2026-11-21 08:53:", ""))
        .collect();
    let from = lines
        .iter()
        .position(|line| line == expected[0])
        .expect("it is there");
    assert_eq!(lines[from..from + 5], expected);
    assert_eq!(
        lines[0],
        "sampler | 2026-11-20 08:53:01,500 : WARNING : careful"
    );
    assert_eq!(lines[2], "core    | 00,123 : BOOT : up");
}

#[test]
fn entries_are_chosen_by_time_level_and_text() {
    let home = several();
    let home = home.path();
    check(home, &["logs", "sampler", "--level", "error"], &["bad"]);
    check(home, &["logs", "greeter", "--level", "error"], &[]);
    check(
        home,
        &["logs", "greeter", "--grep", "line [13]$"],
        &["line 1", "line 3"],
    );
    check(
        home,
        &["logs", "greeter", "--grep", "line", "-n", "1"],
        &["line 9"],
    );
    let since = ["logs", "greeter", "--since", "2026-11-21 08:53:07"];
    check(home, &since, &["line 7", "line 8", "line 9"]);
    let ended = aigis(home, &["logs", "sampler", "--since", "2026-11-20"]);
    assert_eq!(ended.out.matches("careful").count(), 2, "{ended:?}");
    check(
        home,
        &[
            "logs",
            "sampler",
            "--grep",
            "more",
            "-n",
            "9",
            "--since",
            "2026-11-21",
        ],
        &["careful", "    | more"],
    );
}

#[test]
fn entries_are_objects_on_request() {
    let home = several();
    let ended = aigis(
        home.path(),
        &["logs", "--json", "sampler", "json", "-n", "2"],
    );
    let objects: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(objects.len(), 2, "{ended:?}");
    assert_eq!(
        (&objects[0]["log"], &objects[0]["fields"]["n"]),
        (&"json".into(), &1.into())
    );
    assert_eq!(
        (&objects[1]["level"], &objects[1]["message"]),
        (&"error".into(), &"bad".into())
    );
}

#[test]
fn names_are_coloured_on_a_terminal_only() {
    let home = several();
    let words = ["aigis", "logs", "sampler", "core", "-n", "1"];
    let (mut ctx, out, _) = context(home.path(), true);
    let cli = Cli::try_parse_from(words).expect("the command line is right");
    run(&cli.command, &mut ctx).expect("it is shown");
    let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    assert_eq!(
        out.text().contains("\x1b[36msampler |\x1b[0m "),
        is_coloured
    );
    assert!(!aigis(home.path(), &words[1..]).out.contains('\x1b'));
}

#[test]
fn what_cannot_be_understood_is_refused() {
    for wrong in [
        ["logs", "--since", "soon"],
        ["logs", "--level", "loud"],
        ["logs", "--grep", "("],
        ["logs", "-n", "-1"],
    ] {
        let words = ["aigis"].iter().chain(&wrong);
        let error = Cli::try_parse_from(words).expect_err("it is wrong");
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
    }
}
