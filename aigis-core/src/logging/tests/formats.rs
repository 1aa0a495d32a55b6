use std::fs;

use jiff::tz::{self, TimeZone};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::{at, read};
use crate::logging::{Entry, Format, Level, LogFile, Rotation, Stream};

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect()
}

#[test]
fn a_record_in_json_has_all_that_is_known() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let zone = TimeZone::fixed(tz::offset(-5));
    let log = LogFile::open_in(path.clone(), Rotation::default(), zone).expect("the log opens");
    let mut log = log.in_format(Format::Json, "abc").labelled("[1]");
    let time = at(0, "08:53:00.123");
    log.push(time, Level::Warn, "one\ntwo \x1b \"");
    let lines: [&[u8]; 4] = [
        br#"{"level":"error","msg":"hi","n":1,"deep":{"a":[null]}}"#,
        br#"{"n":1}"#,
        b"{\"n\":1",
        b"\xff text\r",
    ];
    for line in lines {
        log.push_line(time, Level::Error, Some(Stream::Stderr), line);
    }
    log.flush();
    let same = |mut object: Value| {
        for (key, value) in [
            ("time", "2026-11-21T03:53:00.123-05:00"),
            ("invocation", "abc"),
            ("label", "[1]"),
        ] {
            object[key] = value.into();
        }
        object
    };
    let of_stream = |mut object: Value| {
        object["stream"] = "stderr".into();
        object["level"] = "error".into();
        same(object)
    };
    let expected = [
        same(json!({"level": "warning", "message": "one\ntwo \u{1b} \""})),
        of_stream(json!({
            "message": "hi",
            "fields": {"level": "error", "n": 1, "deep": {"a": [null]}},
        })),
        of_stream(json!({"message": "", "fields": {"n": 1}})),
        of_stream(json!({"message": "{\"n\":1"})),
        of_stream(json!({"message": "\\xff text"})),
    ];
    assert_eq!(objects(&read(&path)), expected);
}

#[test]
fn a_file_in_json_keeps_its_day() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let open = || {
        let log = LogFile::open_in(path.clone(), Rotation::default(), TimeZone::UTC);
        log.expect("the log opens").in_format(Format::Json, "")
    };
    open().write(at(0, "10:00:00"), Level::Info, "old");
    open().write(at(4, "10:00:00"), Level::Info, "new");
    let backup = read(folder.path().join("x.log.2026-11-21"));
    assert_eq!(objects(&backup)[0]["message"], "old");
    assert_eq!(objects(&read(&path))[0]["message"], "new");
}

#[test]
fn entries_are_read_back_from_both_forms() {
    let text = "2026-11-21 08:53:00,123 : WARNING : a : b\n    | more";
    let entry = Entry::read_in(text.to_owned(), &TimeZone::UTC);
    assert_eq!(entry.time(), Some(at(0, "08:53:00.123")));
    assert_eq!(entry.level(), Some(Level::Warn));
    assert_eq!(entry.to_text(&TimeZone::UTC), text);
    let object = json!({
        "log": "x",
        "time": "2026-11-21T08:53:00.123Z",
        "level": "warning",
        "message": "a : b\nmore",
    });
    assert_eq!(entry.to_json("x"), object);

    let line = r#"{"time":"2026-11-21T09:53:00.123+01:00","level":"error","label":"[1]","message":"a\n\u001bb","fields":{"k":"v w","n":1}}"#;
    let entry = Entry::read_in(line.to_owned(), &TimeZone::UTC);
    assert_eq!(entry.time(), Some(at(0, "08:53:00.123")));
    assert_eq!(entry.level(), Some(Level::Error));
    assert_eq!(
        entry.to_text(&TimeZone::UTC),
        "2026-11-21 08:53:00,123 : ERROR : [1] a\n    | \\x1bb k=\"v w\" n=1"
    );
    assert_eq!(entry.to_json("x")["fields"]["n"], 1);
}

#[test]
fn what_is_no_record_is_an_entry_all_the_same() {
    for text in [
        "",
        "text",
        "é2026-11-21 08:53:00,12 : INFO : x",
        "2026-11-21 08:53:00,123 : LOUD : x",
        "{\"time\":\"",
        "{\"time\":\"never\",\"level\":\"info\"}",
    ] {
        let entry = Entry::read_in(text.to_owned(), &TimeZone::UTC);
        assert_eq!(
            (entry.time(), entry.to_text(&TimeZone::UTC).as_str()),
            (None, text)
        );
        assert_eq!(entry.to_json("x")["log"], "x");
    }
}

#[test]
fn lines_taken_at_once_are_the_records_of_each() {
    let folder = tempdir().expect("a folder");
    let [fast, slow] = ["fast.log", "slow.log"].map(|name| folder.path().join(name));
    let open = |path: &std::path::Path, limit| {
        let rotation = Rotation {
            max_bytes: limit,
            ..Rotation::default()
        };
        LogFile::open_in(path.to_owned(), rotation, TimeZone::UTC).expect("the log opens")
    };
    let lines: Vec<String> = (0..30_000)
        .map(|number| match number % 7 {
            0 => format!("WARN number {number}"),
            1 => "ERROR".to_owned(),
            2 => String::new(),
            3 => format!("\t{}", "x".repeat(number % 300)),
            _ => format!("info: {number}"),
        })
        .collect();
    let text = lines.join("\n") + "\n";
    let time = at(0, "12:00:00");
    let mut log = open(&fast, None);
    let taken = log.push_plain_lines(time, Level::Info, Stream::Stdout, text.as_bytes());
    assert_eq!(taken, text.len());
    log.flush();
    let mut log = open(&slow, None);
    for line in &lines {
        let stated = crate::logging::levels::stated(line.as_bytes());
        let (level, said) = stated.unwrap_or((Level::Info, 0));
        log.push_line(time, level, Some(Stream::Stdout), &line.as_bytes()[said..]);
    }
    log.flush();
    assert!(read(&fast) == read(&slow));
    // What has to be looked at line by line is left.
    for odd in ["a\x1b\n", "é\n", "a\r\n"] {
        let taken = log.push_plain_lines(time, Level::Info, Stream::Stdout, odd.as_bytes());
        assert_eq!(taken, 0, "{odd:?}");
    }
    let long = format!("a\n{}\nb\n", "x".repeat(60_000));
    let taken = log.push_plain_lines(time, Level::Info, Stream::Stdout, long.as_bytes());
    assert_eq!(taken, 2);
    drop(log);
    fs::remove_file(&fast).expect("it is there");
    let mut log = open(&fast, Some(1000));
    let taken = log.push_plain_lines(time, Level::Info, Stream::Stdout, text.as_bytes());
    assert_eq!(taken, 0);
}
