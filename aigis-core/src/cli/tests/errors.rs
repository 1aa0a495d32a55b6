//! Exit codes and how errors are printed.

use std::io;
use std::time::Duration;

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::{CallError, SkillFailure};

use super::super::error::{CliError, Exit};
use super::Sink;
use crate::config::{Config, Diagnostics};
use crate::host::StartError;

fn report(error: &CliError) -> (Exit, String) {
    let mut sink = Sink::default();
    let exit = error.report(&mut sink);
    (exit, sink.text())
}

fn call(error: CallError<SkillFailure>) -> CliError {
    CliError::from(error)
}

fn other(kind: FailureKind) -> CliError {
    call(CallError::Other(Box::new(Failure::new(kind, "x"))))
}

fn mistakes(text: &str) -> Diagnostics {
    Config::parse(text.as_bytes(), "/tmp/config.aigis".as_ref()).expect_err("mistakes")
}

#[test]
fn the_numbers_are_the_documented_ones() {
    let numbers = [
        (Exit::Ok, 0),
        (Exit::Internal, 1),
        (Exit::Usage, 2),
        (Exit::PluginsFailed, 3),
        (Exit::Skill, 4),
        (Exit::NoCore, 5),
        (Exit::UnknownName, 6),
        (Exit::Refused, 7),
        (Exit::TimedOut, 8),
        (Exit::HomeInUse, 9),
    ];
    for (exit, number) in numbers {
        assert_eq!(exit.code(), number);
        assert_eq!(Exit::of_code(Some(number.into())), exit);
    }
    for unknown in [None, Some(10), Some(-1), Some(256), Some(101)] {
        assert_eq!(Exit::of_code(unknown), Exit::Internal);
    }
}

#[test]
fn every_kind_of_error_has_its_exit_code() {
    let skill = || "a.b".to_owned();
    let message = || "m".to_owned();
    let cases = [
        (CliError::NoConfig { path: "c".into() }, Exit::Usage),
        (CliError::Config(mistakes("[core]\nx = 3")), Exit::Usage),
        (
            CliError::from(CallError::<std::convert::Infallible>::NotConnected {
                message: message(),
            }),
            Exit::NoCore,
        ),
        (
            call(CallError::CoreGone {
                skill: skill(),
                message: message(),
            }),
            Exit::NoCore,
        ),
        (
            call(CallError::Panicked {
                skill: skill(),
                message: message(),
                location: None,
            }),
            Exit::Skill,
        ),
        (
            call(CallError::Unserializable {
                skill: skill(),
                message: message(),
            }),
            Exit::Skill,
        ),
        (
            call(CallError::NotFound {
                skill: skill(),
                nearest: vec![],
            }),
            Exit::UnknownName,
        ),
        (
            call(CallError::Mismatch {
                skill: skill(),
                message: message(),
                differences: vec![],
            }),
            Exit::Usage,
        ),
        (
            call(CallError::Arguments {
                skill: skill(),
                message: message(),
            }),
            Exit::Usage,
        ),
        (
            call(CallError::TimedOut {
                skill: skill(),
                after: Duration::ZERO,
            }),
            Exit::TimedOut,
        ),
        (other(FailureKind::Refused), Exit::Refused),
        (
            call(CallError::Disconnected {
                skill: skill(),
                message: message(),
            }),
            Exit::PluginsFailed,
        ),
        (
            call(CallError::Unavailable {
                skill: skill(),
                message: message(),
            }),
            Exit::PluginsFailed,
        ),
        (
            call(CallError::Overloaded {
                skill: skill(),
                message: message(),
            }),
            Exit::Refused,
        ),
        (
            call(CallError::TooLarge {
                skill: skill(),
                message: message(),
            }),
            Exit::Refused,
        ),
        (other(FailureKind::Internal), Exit::Internal),
        (
            CliError::UnknownSkill {
                name: skill(),
                nearest: vec![],
            },
            Exit::UnknownName,
        ),
        (
            StartError::HomeInUse {
                home: "h".into(),
                pid: Some(1),
            }
            .into(),
            Exit::HomeInUse,
        ),
        (
            CliError::PluginsFailed {
                names: vec![skill()],
            },
            Exit::PluginsFailed,
        ),
        (
            CliError::NotSettled {
                names: vec![skill()],
                after: Duration::ZERO,
            },
            Exit::TimedOut,
        ),
        (
            CliError::DaemonEnded {
                exit: Exit::HomeInUse,
                how: message(),
                lines: vec![],
            },
            Exit::HomeInUse,
        ),
        (
            CliError::DaemonEnded {
                exit: Exit::Ok,
                how: message(),
                lines: vec![],
            },
            Exit::NoCore,
        ),
        (
            CliError::Output(io::ErrorKind::StorageFull.into()),
            Exit::Internal,
        ),
    ];
    for (error, exit) in cases {
        let (found, text) = report(&error);
        assert_eq!(found, exit, "{error:?}");
        assert!(text.starts_with("error: "), "{text}");
        assert!(text.ends_with('\n'), "{text}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let error = CliError::Output(io::ErrorKind::BrokenPipe.into());
    assert_eq!(report(&error), (Exit::Ok, String::new()));
}

#[test]
fn causes_and_hints_have_lines_of_their_own() {
    let error = CliError::system("`x` cannot be opened")(io::Error::other("the disk is gone"));
    assert_eq!(
        report(&error).1,
        "error: `x` cannot be opened\ncaused by: the disk is gone\n"
    );
    let error = CliError::UnknownSkill {
        name: "gret".to_owned(),
        nearest: vec!["greet".to_owned(), "great".to_owned()],
    };
    assert_eq!(
        report(&error).1,
        "error: no plugin offers `gret`\nhint: did you mean `greet` or `great`?\n"
    );
}

#[test]
fn mistakes_in_the_config_are_printed_as_they_are() {
    let mistakes = mistakes("[cor]\nx = 'y'\n");
    let expected = format!("{mistakes}\n");
    assert_eq!(report(&CliError::Config(mistakes)), (Exit::Usage, expected));
}
