use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use jiff::tz::TimeZone;
use tempfile::tempdir;

use super::at;
use crate::logging::{Follow, Level, LogError, LogFile, Rotation, tail};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("the file opens");
    file.write_all(text.as_bytes()).expect("it is written");
}

fn poll(follow: &mut Follow) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = follow.poll().expect("the file can be read") {
        lines.push(line);
    }
    lines
}

#[test]
fn tail_returns_the_last_records() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    append(&path, "one\ntwo\n    | more\n    | and more\nthree\n");
    let check = |count, expected: &[&str]| {
        assert_eq!(tail(&path, count).expect("it can be read"), expected);
    };
    check(0, &[]);
    check(1, &["three"]);
    check(2, &["two\n    | more\n    | and more", "three"]);
    check(3, &["one", "two\n    | more\n    | and more", "three"]);
    check(100, &["one", "two\n    | more\n    | and more", "three"]);
    append(&path, "unfinished");
    check(2, &["three", "unfinished"]);
    append(&path, "\n\n");
    check(2, &["unfinished", ""]);
}

#[test]
fn tail_of_a_large_file() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let records: Vec<String> = (0..20_000)
        .map(|n| match n % 10 {
            0 => format!("{n}\n    | {}\n    | c", "b".repeat(n / 4)),
            _ => format!("{n}"),
        })
        .collect();
    append(&path, &(records.join("\n") + "\n"));
    for count in [1, 5, 9, 10, 11, 500, 19_999, 20_000, 20_001] {
        let found = tail(&path, count).expect("it can be read");
        let from = records.len().saturating_sub(count);
        assert!(found == records[from..], "the last {count}");
    }
}

#[test]
fn tail_of_nothing() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let error = tail(&path, 5).expect_err("there is no file");
    assert!(matches!(error, LogError::Missing { .. }), "{error}");
    assert!(matches!(
        Follow::new(&path, 5).expect_err("there is no file"),
        LogError::Missing { .. }
    ));
    fs::write(&path, "").expect("a file");
    assert_eq!(tail(&path, 5).expect("it can be read"), [""; 0]);
    fs::write(&path, "\n").expect("a file");
    assert_eq!(tail(&path, 5).expect("it can be read"), [""]);
    fs::write(&path, "    | an orphan\nx\n").expect("a file");
    assert_eq!(
        tail(&path, 5).expect("it can be read"),
        ["    | an orphan", "x"]
    );
}

#[test]
fn follow_starts_with_the_last_and_goes_on() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    append(&path, "one\ntwo\n    | more\n");
    let mut follow = Follow::new(&path, 1).expect("it can be read");
    assert_eq!(poll(&mut follow), ["two", "    | more"]);
    append(&path, "three\nfo");
    assert_eq!(poll(&mut follow), ["three"]);
    append(&path, "ur\n");
    assert_eq!(poll(&mut follow), ["four"]);
    assert_eq!(poll(&mut follow), [""; 0]);
}

#[test]
fn follow_survives_rotation() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log =
        LogFile::open_in(path.clone(), Rotation::default(), TimeZone::UTC).expect("the log opens");
    log.write(at(0, "00:00:00"), Level::Info, "0");
    let mut follow = Follow::new(&path, 0).expect("it can be read");
    for day in 0..5 {
        log.write(at(day, "12:00:00"), Level::Info, format!("{day} noon"));
        log.write(at(day, "23:00:00"), Level::Info, format!("{day} night"));
        log.write(at(day + 1, "00:00:00"), Level::Info, format!("{day} over"));
        let lines = poll(&mut follow);
        let messages: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.rsplit(" : ").next())
            .collect();
        let expected = ["noon", "night", "over"].map(|word| format!("{day} {word}"));
        assert_eq!(messages, expected);
    }
}

#[test]
fn follow_takes_an_emptied_file_from_its_start() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    append(&path, "one\ntwo\n");
    let mut follow = Follow::new(&path, 0).expect("it can be read");
    fs::write(&path, "new\n").expect("the file is emptied");
    assert_eq!(poll(&mut follow), ["new"]);
}

#[test]
fn follow_waits_as_an_iterator() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    append(&path, "one\n");
    let mut follow = Follow::new(&path, 1).expect("it can be read");
    assert_eq!(follow.next().expect("endless").expect("a line"), "one");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || append(&path, "two\n")
    });
    assert_eq!(follow.next().expect("endless").expect("a line"), "two");
    writer.join().expect("it was written");
}
