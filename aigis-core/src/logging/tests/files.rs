use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use jiff::Timestamp;
use jiff::tz::{self, TimeZone};
use tempfile::tempdir;

use super::{at, names, read};
use crate::logging::{CONTINUATION, Dropped, Level, LogError, LogFile, Rotation};

fn open(path: &Path, rotation: Rotation) -> LogFile {
    LogFile::open_in(path.to_owned(), rotation, TimeZone::UTC).expect("the log opens")
}

/// Returns the message of every record.
fn messages(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.splitn(3, " : ").nth(2).expect("a record").to_owned())
        .collect()
}

#[test]
fn a_record_is_time_level_and_message() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("log/plugins/x.log");
    let mut log = open(&path, Rotation::default());
    log.write(at(0, "08:53:00.123"), Level::Info, "hello");
    log.write(at(0, "08:53:01"), Level::Warn, "careful");
    log.write(at(0, "08:53:01.9999"), Level::Boot, "up");
    assert_eq!(
        read(&path),
        "2026-11-21 08:53:00,123 : INFO : hello\n\
         2026-11-21 08:53:01,000 : WARNING : careful\n\
         2026-11-21 08:53:01,999 : BOOT : up\n"
    );
}

#[test]
fn times_are_local() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let zone = TimeZone::fixed(tz::offset(5));
    let mut log = LogFile::open_in(path.clone(), Rotation::default(), zone).expect("the log opens");
    log.write(at(0, "18:59:59"), Level::Info, "today");
    log.write(at(0, "19:00:00"), Level::Info, "tomorrow");
    assert_eq!(read(&path), "2026-11-22 00:00:00,000 : INFO : tomorrow\n");
    assert_eq!(
        read(folder.path().join("x.log.2026-11-21")),
        "2026-11-21 23:59:59,000 : INFO : today\n"
    );
}

#[test]
fn no_message_can_look_like_another_record() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    let time = at(0, "00:00:00");
    let hostile: &[&[u8]] = &[
        b"a\n2026-11-21 00:00:00,000 : BOOT : forged\n",
        b"a\r2026-11-21 00:00:00,000 : BOOT : forged\r\n",
        b"\x1b[2K\x1b[31mred\x00\x7f\x0b\x0c",
        b"not \xff\xfe UTF-8, \xc3\xa9 is",
        "\u{85}\u{2028}\u{2029}\u{202e}\u{9b}2J".as_bytes(),
        b"tab\tstays",
        b"",
    ];
    for message in hostile {
        log.write(time, Level::Info, message);
    }
    let text = read(&path);
    let head = "2026-11-21 00:00:00,000 : INFO : ";
    let expected = [
        format!("{head}a"),
        format!("{CONTINUATION}2026-11-21 00:00:00,000 : BOOT : forged"),
        format!("{head}a\\r2026-11-21 00:00:00,000 : BOOT : forged"),
        format!("{head}\\x1b[2K\\x1b[31mred\\x00\\x7f\\x0b\\x0c"),
        format!("{head}not \\xff\\xfe UTF-8, é is"),
        format!("{head}\\x85\\u{{2028}}\\u{{2029}}\\u{{202e}}\\x9b2J"),
        format!("{head}tab\tstays"),
        head.to_owned(),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(text.ends_with('\n'));
}

#[test]
fn five_midnights_leave_the_current_file_and_three_days() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    for day in 0..6 {
        for clock in ["00:00:00", "12:00:00", "23:59:59.999"] {
            log.write(at(day, clock), Level::Info, format!("{day} {clock}"));
        }
    }
    assert_eq!(
        names(folder.path()),
        [
            "x.log",
            "x.log.2026-11-23",
            "x.log.2026-11-24",
            "x.log.2026-11-25",
            "x.log.lock"
        ]
    );
    for (day, suffix) in [
        (2, ".2026-11-23"),
        (3, ".2026-11-24"),
        (4, ".2026-11-25"),
        (5, ""),
    ] {
        let text = read(folder.path().join(format!("x.log{suffix}")));
        let expected = ["00:00:00", "12:00:00", "23:59:59.999"].map(|c| format!("{day} {c}"));
        assert_eq!(messages(&text), expected);
    }
}

#[test]
fn what_was_gathered_before_midnight_stays_before_it() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    log.push(at(0, "23:59:59"), Level::Info, "before");
    log.push(at(1, "00:00:00"), Level::Info, "after");
    log.flush();
    assert_eq!(messages(&read(&path)), ["after"]);
    let backup = folder.path().join("x.log.2026-11-21");
    assert_eq!(messages(&read(backup)), ["before"]);
}

#[test]
fn a_file_found_at_the_start_keeps_its_day() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    open(&path, Rotation::default()).write(at(0, "10:00:00"), Level::Info, "old");
    open(&path, Rotation::default()).write(at(0, "11:00:00"), Level::Info, "same day");
    assert_eq!(messages(&read(&path)), ["old", "same day"]);
    open(&path, Rotation::default()).write(at(4, "11:00:00"), Level::Info, "new");
    assert_eq!(messages(&read(&path)), ["new"]);
    let backup = folder.path().join("x.log.2026-11-21");
    assert_eq!(messages(&read(backup)), ["old", "same day"]);
}

#[test]
fn a_clock_set_back_rotates_nothing() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    log.write(at(1, "00:00:01"), Level::Info, "1");
    log.write(at(0, "23:59:59"), Level::Info, "2");
    log.write(at(1, "00:00:00"), Level::Info, "3");
    assert_eq!(names(folder.path()), ["x.log"]);
    assert_eq!(messages(&read(&path)), ["1", "2", "3"]);
}

#[test]
fn a_day_is_split_by_size_and_pruned_as_one() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let rotation = Rotation {
        max_bytes: Some(100),
        keep: 1,
        ..Rotation::default()
    };
    let mut log = open(&path, rotation);
    // A record takes 35 bytes, so two of them fill a file.
    for day in 0..3 {
        for number in 0..5 {
            log.push(at(day, "00:00:00"), Level::Info, format!("{day}{number}"));
        }
    }
    log.flush();
    assert_eq!(
        names(folder.path()),
        [
            "x.log",
            "x.log.2026-11-22",
            "x.log.2026-11-22.1",
            "x.log.2026-11-22.2",
            "x.log.2026-11-23.1",
            "x.log.2026-11-23.2",
            "x.log.lock"
        ]
    );
    let in_file = |suffix: &str| messages(&read(folder.path().join(format!("x.log{suffix}"))));
    assert_eq!(in_file(".2026-11-22.1"), ["10", "11"]);
    assert_eq!(in_file(".2026-11-22.2"), ["12", "13"]);
    assert_eq!(in_file(".2026-11-22"), ["14"]);
    assert_eq!(in_file(".2026-11-23.1"), ["20", "21"]);
    assert_eq!(in_file(""), ["24"]);
}

#[test]
fn pruning_touches_nothing_else() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let others = [
        "x.log.bak",
        "x.log.2020-13-01",
        "x.log.2020-01-01.gz.new",
        "x.log.2020-01-01.1.old",
        "xx.log.2020-01-01",
        "x.log2020-01-01",
    ];
    for name in others {
        fs::write(folder.path().join(name), "").expect("a file");
    }
    let gone = [
        "x.log.2020-01-01",
        "x.log.2019-01-01.gz",
        "x.log.2019-01-01.1.gz",
    ];
    for name in gone {
        fs::write(folder.path().join(name), "").expect("a file");
    }
    let rotation = Rotation {
        keep: 1,
        ..Rotation::default()
    };
    let mut log = open(&path, rotation);
    log.write(at(0, "00:00:00"), Level::Info, "1");
    log.write(at(1, "00:00:00"), Level::Info, "2");
    let left = names(folder.path());
    for name in gone {
        assert!(!left.contains(&name.to_owned()), "{name} is left: {left:?}");
    }
    for name in others {
        assert!(left.contains(&name.to_owned()), "{name} is gone: {left:?}");
    }
}

#[test]
fn two_writers_lose_nothing_over_rotations() {
    const RECORDS: usize = 2000;
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let rotation = Rotation {
        max_bytes: Some(10_000),
        ..Rotation::default()
    };
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for writer in ["a", "b"] {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                let mut log = open(path, rotation);
                start.wait();
                for number in 0..RECORDS {
                    // Both cross the midnight somewhere near the middle.
                    let day = (number / (RECORDS / 2)) as i64;
                    let message = format!("{writer} {number}\nmore of {writer} {number}");
                    log.write(at(day, "12:00:00"), Level::Info, message);
                }
                assert_eq!(log.dropped(), Dropped::default());
            });
        }
    });
    let mut seen = Vec::new();
    for name in names(folder.path()) {
        if name.ends_with(".lock") {
            continue;
        }
        let text = read(folder.path().join(name));
        let lines: Vec<&str> = text.lines().collect();
        for record in lines.chunks(2) {
            let first = record[0].splitn(3, " : ").nth(2).expect("a record");
            // The two lines of a record are never torn apart.
            assert_eq!(record[1], format!("{CONTINUATION}more of {first}"));
            seen.push(first.to_owned());
        }
    }
    seen.sort();
    let mut expected: Vec<String> = (0..RECORDS)
        .flat_map(|n| [format!("a {n}"), format!("b {n}")])
        .collect();
    expected.sort();
    assert_eq!(seen.len(), expected.len());
    assert!(seen == expected);
}

#[test]
fn a_full_disk_drops_counts_and_tells() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    symlink("/dev/full", &path).expect("a link");
    let mut log = open(&path, Rotation::default());
    for number in 0..3 {
        log.write(at(number, "00:00:00"), Level::Info, "lost");
    }
    let lost = Dropped {
        records: 3,
        bytes: 3 * 38,
    };
    assert_eq!(log.dropped(), lost);
    // Room again.
    fs::remove_file(&path).expect("the link is there");
    log.write(at(3, "00:00:00"), Level::Info, "kept");
    log.write(at(3, "00:00:01"), Level::Info, "kept too");
    let text = read(&path);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("WARNING : 3 records (114 bytes) are missing here"),
        "{text}"
    );
    assert!(lines[0].contains("No space left"), "{text}");
    assert!(lines[1].ends_with("INFO : kept"), "{text}");
    assert!(lines[2].ends_with("INFO : kept too"), "{text}");
    assert_eq!(log.dropped(), lost);
}

#[test]
fn a_removed_folder_is_made_again() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("log/x.log");
    let mut log = open(&path, Rotation::default());
    log.write(at(0, "00:00:00"), Level::Info, "1");
    fs::remove_dir_all(folder.path().join("log")).expect("the folder is there");
    log.write(at(0, "00:00:00"), Level::Info, "2");
    assert_eq!(messages(&read(&path)), ["2"]);
}

#[test]
fn half_a_record_of_a_dead_writer_is_closed() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    fs::write(&path, "2026-11-21 00:00:00,000 : INFO : ha").expect("a file");
    let mut log = open(&path, Rotation::default());
    log.write(at(0, "00:00:01"), Level::Info, "whole");
    assert_eq!(messages(&read(&path)), ["ha", "whole"]);
}

#[test]
fn dropping_the_file_writes_what_was_gathered() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    log.push(at(0, "00:00:00"), Level::Info, "gathered");
    assert_eq!(read(&path), "");
    drop(log);
    assert_eq!(messages(&read(&path)), ["gathered"]);
}

#[test]
fn what_cannot_be_a_log_file_is_refused() {
    let folder = tempdir().expect("a folder");
    let error = LogFile::open(folder.path(), Rotation::default()).expect_err("a folder");
    assert!(matches!(error, LogError::Open { .. }), "{error}");
    let error = LogFile::open("/", Rotation::default()).expect_err("no name");
    assert!(matches!(error, LogError::NotAFile { .. }), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let error = LogFile::open(file.join("x.log"), Rotation::default()).expect_err("no folder");
    assert!(matches!(error, LogError::Open { .. }), "{error}");
}

#[test]
fn levels_are_ordered_and_read_back() {
    assert!(Level::ALL.is_sorted());
    assert!(Level::Error < Level::Boot && Level::Boot < Level::Shutdown);
    for level in Level::ALL {
        assert_eq!(level.to_string().parse::<Level>().expect("a level"), level);
        let lower = level.to_string().to_lowercase();
        assert_eq!(lower.parse::<Level>().expect("a level"), level);
        let json = serde_json::to_string(&level).expect("JSON");
        assert_eq!(json, format!("\"{lower}\""));
    }
    assert_eq!("warn".parse::<Level>().expect("a level"), Level::Warn);
    assert!("loud".parse::<Level>().is_err());
}

#[test]
fn a_time_before_1970_is_written() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("x.log");
    let mut log = open(&path, Rotation::default());
    log.write(
        Timestamp::from_millisecond(-1).expect("a time"),
        Level::Info,
        "x",
    );
    assert_eq!(read(&path), "1969-12-31 23:59:59,999 : INFO : x\n");
}
