use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use jiff::tz::TimeZone;
use tempfile::tempdir;

use super::{at, names};
use crate::logging::compress::Compressor;
use crate::logging::{Entry, Follow, History, Level, LogFile, Rotation, last};

fn small() -> Rotation {
    Rotation {
        max_bytes: Some(200),
        ..Rotation::default()
    }
}

/// Writes records over three days, in files of five.
fn written(folder: &Path, rotation: Rotation) -> (PathBuf, Vec<String>) {
    let path = folder.join("x.log");
    let log = LogFile::open_in(path.clone(), rotation, TimeZone::system());
    let mut log = log.expect("the log opens");
    let mut all = Vec::new();
    for day in 0..3 {
        for number in 0..12 {
            let message = format!("{day}{number:02}");
            log.write(at(day, "12:00:00"), Level::Info, &message);
            all.push(message);
        }
    }
    (path, all)
}

fn gz(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

fn message(entry: &Entry) -> String {
    entry
        .as_str()
        .rsplit(" : ")
        .next()
        .expect("a record")
        .to_owned()
}

/// Compresses every second backup.
fn compress_some(folder: &Path) {
    let backups = names(folder)
        .into_iter()
        .filter(|name| name.starts_with("x.log.2"));
    for name in backups.step_by(2).collect::<Vec<_>>() {
        let path = folder.join(name);
        let mut encoder = flate2::write::GzEncoder::new(
            File::create(gz(&path)).expect("a file"),
            flate2::Compression::fast(),
        );
        let content = fs::read(&path).expect("it is there");
        encoder.write_all(&content).expect("it is written");
        encoder.finish().expect("it is written");
        fs::remove_file(path).expect("it is there");
    }
}

#[test]
fn history_goes_over_all_backups_in_order() {
    let folder = tempdir().expect("a folder");
    let (path, all) = written(folder.path(), small());
    for _ in 0..2 {
        let history = History::new(&path, None).expect("there is a log");
        let found: Vec<String> = history
            .map(|entry| message(&entry.expect("reads")))
            .collect();
        assert_eq!(found, all);
        for count in [1, 5, 13, 36, 100] {
            let from = all.len().saturating_sub(count);
            let found = last(&path, count, None).expect("reads");
            let found: Vec<String> = found.iter().map(message).collect();
            assert_eq!(found, all[from..], "the last {count}");
        }
        let even = |entry: &Entry| message(entry).ends_with(['0', '2', '4', '6', '8']);
        let found = last(&path, 10, Some(&even)).expect("reads");
        let expected: Vec<&String> = all
            .iter()
            .filter(|m| m.ends_with(['0', '2', '4', '6', '8']))
            .collect();
        let found: Vec<String> = found.iter().map(message).collect();
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            expected[expected.len() - 10..]
        );
        compress_some(folder.path());
    }
}

#[test]
fn history_begins_at_a_time() {
    let folder = tempdir().expect("a folder");
    let (path, all) = written(folder.path(), small());
    compress_some(folder.path());
    let since = |time| {
        let history = History::new(&path, Some(time)).expect("there is a log");
        history
            .map(|entry| message(&entry.expect("reads")))
            .collect::<Vec<_>>()
    };
    assert_eq!(since(at(1, "00:00:00")), all[12..]);
    assert_eq!(since(at(2, "12:00:00")), all[24..]);
    assert_eq!(since(at(2, "12:00:01")), [""; 0]);
}

#[test]
fn a_time_is_found_in_a_large_file() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let log = LogFile::open_in(path.clone(), Rotation::default(), TimeZone::system());
    let mut log = log.expect("the log opens");
    let begin = at(0, "08:00:00");
    let filler = "x".repeat(200);
    for second in 0..10_000 {
        let time = begin + Duration::from_secs(second);
        log.push(time, Level::Info, format!("{filler} : {second}\nmore"));
    }
    log.flush();
    for second in [0, 1, 4321, 9999] {
        let time = begin + Duration::from_secs(second);
        let mut history = History::new(&path, Some(time)).expect("there is a log");
        let first = history.next().expect("an entry").expect("reads");
        assert_eq!(first.time(), Some(time));
        assert!(first.as_str().ends_with("more"));
        assert_eq!(history.count() as u64, 9999 - second);
    }
}

#[test]
fn follow_reads_every_file_of_several_rotations() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let log = LogFile::open_in(path.clone(), small(), TimeZone::system());
    let mut log = log.expect("the log opens");
    log.write(at(0, "08:00:00"), Level::Info, "first");
    let mut follow = Follow::new(&path, 0).expect("there is a log");
    let mut expected = Vec::new();
    for turn in 0..3 {
        for number in 0..33 {
            let message = format!("{turn} {number}");
            log.write(at(turn, "12:00:00"), Level::Info, &message);
            expected.push(message);
        }
        if turn == 1 {
            compress_some(folder.path());
        }
        let mut found = Vec::new();
        while let Some(line) = follow.poll().expect("reads") {
            found.push(line.rsplit(" : ").next().expect("a record").to_owned());
        }
        assert_eq!(found, expected, "turn {turn}");
        expected.clear();
        let before = follow.history(None).expect("reads").count();
        assert_eq!(before, 1 + 33 * (turn as usize + 1));
    }
}

#[test]
fn backups_are_compressed_and_lose_nothing() {
    let folder = tempdir().expect("a folder");
    let compressor = Compressor::start().expect("a thread");
    let (path, all) = written(folder.path(), small());
    // One that is there already, of a log that is not to be compressed.
    fs::write(folder.path().join("y.log.2026-11-21"), "y").expect("a file");
    compressor.set(&path, true);
    let deadline = Instant::now() + Duration::from_secs(30);
    let left = || {
        let names = names(folder.path()).into_iter();
        names
            .filter(|name| name.starts_with("x.log.2") && !name.ends_with(".gz"))
            .count()
    };
    let wait = || {
        while left() > 0 {
            assert!(Instant::now() < deadline, "{:?}", names(folder.path()));
            thread::sleep(Duration::from_millis(1));
        }
    };
    wait();
    // Those that come later, too.
    let log = LogFile::open_in(path.clone(), small(), TimeZone::system());
    let mut log = log.expect("the log opens");
    let mut all = all;
    for number in 0..20 {
        let message = format!("late {number}");
        log.write(at(2, "13:00:00"), Level::Info, &message);
        all.push(message);
    }
    wait();
    assert!(folder.path().join("y.log.2026-11-21").exists());
    drop(compressor);
    let history = History::new(&path, None).expect("there is a log");
    let found: Vec<String> = history
        .map(|entry| message(&entry.expect("reads")))
        .collect();
    assert_eq!(found, all);
    let name = names(folder.path())
        .into_iter()
        .find(|name| name.ends_with(".gz"));
    let file = File::open(folder.path().join(name.expect("a backup"))).expect("opens");
    let mut text = String::new();
    MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("it is gzip");
    assert!(
        text.ends_with('\n') && text.contains(" : INFO : 0"),
        "{text}"
    );
}
