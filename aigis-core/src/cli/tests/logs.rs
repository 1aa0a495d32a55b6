//! `aigis logs`, without a core.

use std::fs;
use std::path::Path;

use super::super::error::Exit;
use super::aigis;

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
