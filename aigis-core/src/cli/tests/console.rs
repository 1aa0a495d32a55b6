//! What a core in the foreground shows.

use super::super::console::Console;
use super::{Sink, status};
use crate::host::{Event, Observer, State};
use crate::logging::Level;
use crate::source::{Phase, Progress};

fn console(terminal: bool, quiet: bool) -> (Console, Sink) {
    let sink = Sink::default();
    (Console::new(Box::new(sink.clone()), terminal, quiet), sink)
}

fn log(console: &Console, plugin: Option<&str>, level: Level, message: &str) {
    console.event(&Event::Log {
        plugin,
        level,
        message,
    });
}

fn fetch(console: &Console, phase: Phase, done: u64) {
    console.event(&Event::Fetch {
        plugin: "web",
        progress: Progress {
            phase,
            done,
            total: Some(50),
            bytes: 2048,
        },
    });
}

#[test]
fn log_lines_say_where_they_come_from_and_stay_what_they_are() {
    let (console, sink) = console(false, false);
    log(&console, None, Level::Boot, "home /x");
    log(&console, Some("web"), Level::Warn, "one\ntwo\x1b[2J");
    console.event(&Event::Output {
        plugin: "web",
        line: "\x1b[1mwarning\x1b[0m: unused",
    });
    assert_eq!(
        sink.text(),
        "core : BOOT : home /x\n\
         web : WARNING : one\n    | two\\u{1b}[2J\n\
         \x1b[1mwarning\x1b[0m: unused\n"
    );
}

#[test]
fn a_quiet_console_shows_errors_only() {
    let (console, sink) = console(false, true);
    log(&console, None, Level::Boot, "up");
    log(&console, Some("web"), Level::Error, "broken");
    log(&console, Some("web"), Level::Stderr, "chatter");
    fetch(&console, Phase::Receiving, 1);
    console.event(&Event::Output {
        plugin: "web",
        line: "Compiling",
    });
    console.settled(&[status("greeter", State::Ready)]);
    assert_eq!(sink.text(), "web : ERROR : broken\n");
}

#[test]
fn without_a_terminal_progress_is_a_line_now_and_then() {
    let (console, sink) = console(false, false);
    for done in 0..50 {
        fetch(&console, Phase::Receiving, done);
    }
    fetch(&console, Phase::CheckingOut, 50);
    for done in 0..9 {
        console.event(&Event::Build {
            plugin: "web",
            done,
            total: None,
        });
    }
    assert_eq!(
        sink.text(),
        "fetching web (0/50, 2 KiB)\nchecking out web (50/50, 2 KiB)\nbuilding web\n"
    );
}

#[test]
fn on_a_terminal_progress_is_one_line_that_gives_way() {
    let (console, sink) = console(true, false);
    fetch(&console, Phase::Receiving, 1);
    // Too soon to be drawn again.
    fetch(&console, Phase::Receiving, 2);
    log(&console, None, Level::Info, "x");
    console.event(&Event::State {
        plugin: "web",
        state: State::Ready,
    });
    assert_eq!(
        sink.text(),
        "\r\x1b[2Kfetching web (1/50, 2 KiB)\
         \r\x1b[2Kcore : INFO : x\n\
         \r\x1b[2Kfetching web (2/50, 2 KiB)\
         \r\x1b[2K"
    );
}

#[test]
fn failed_plugins_are_named_with_their_errors() {
    let (console, sink) = console(false, true);
    let mut broken = status("web", State::Failed);
    broken.error = Some("failed to build\nerror[E0425]: x".to_owned());
    console.settled(&[status("greeter", State::Ready), broken]);
    assert_eq!(
        sink.text(),
        "error: the plugin `web` has failed\n    failed to build\n    error[E0425]: x\n\
         1 of 2 plugins failed; the others go on\n"
    );
}
