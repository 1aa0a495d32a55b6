//! What ends a command: the one place that prints errors and decides exit codes.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::{CallError, SkillFailure};

use super::arguments::ArgumentError;
use super::repl_line::LineError;
use crate::config::Diagnostics;
use crate::host::{CONFIG_INVALID, STEP_FAILED, StartError, UNKNOWN_PLUGIN};
use crate::logging::LogError;

/// A config to start from, shown when there is none.
const EXAMPLE: &str = r#"    [core]
    greeter = "../greeter"                      # a folder, relative to this file

    [internal]
    web = "https://git.example.org/web.git"     # a git repository

    [external]
    sampler = { source = "../sampler", restart = 3 }"#;

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// All went well.
    Ok = 0,
    /// A part of AIGIS or the system failed.
    Internal = 1,
    /// The command line, a line of the REPL or the config cannot be used.
    Usage = 2,
    /// Some plugins have failed.
    PluginsFailed = 3,
    /// A skill returned an error or panicked.
    Skill = 4,
    /// No core is running, or it went away.
    NoCore = 5,
    /// No skill or plugin has this name.
    UnknownName = 6,
    /// The core refuses to do it.
    Refused = 7,
    /// The time was over.
    TimedOut = 8,
    /// Another core works in this home.
    HomeInUse = 9,
}

impl Exit {
    const ALL: [Self; 10] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::PluginsFailed,
        Self::Skill,
        Self::NoCore,
        Self::UnknownName,
        Self::Refused,
        Self::TimedOut,
        Self::HomeInUse,
    ];

    /// Returns the number that the process ends with.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// Returns the exit of another `aigis` that ended with `code`; no code stands for a signal.
    pub(super) fn of_code(code: Option<i32>) -> Self {
        Self::ALL
            .into_iter()
            .find(|exit| code == Some(i32::from(exit.code())))
            .unwrap_or(Self::Internal)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// There is no config file.
    #[error("there is no config file `{}`", path.display())]
    NoConfig { path: PathBuf },
    /// The config has mistakes.
    #[error("{0}")]
    Config(Diagnostics),
    /// No core could be reached.
    #[error("{0}")]
    Connect(Box<CallError>),
    /// A call has no result.
    #[error("{}", call_message(.0))]
    Call(Box<CallError<SkillFailure>>),
    /// The arguments that were typed do not fit the skill's parameters.
    #[error("`{skill}` cannot be called so: {error}")]
    Arguments {
        skill: String,
        signature: String,
        error: Box<ArgumentError>,
    },
    /// A line of the REPL makes no sense.
    #[error("{0}")]
    Line(LineError),
    /// No plugin offers the skill.
    #[error("no plugin offers `{name}`")]
    UnknownSkill { name: String, nearest: Vec<String> },
    /// The config lists no such plugin.
    #[error("there is no plugin `{name}`")]
    UnknownPlugin { name: String, nearest: Vec<String> },
    /// The host could not be started.
    #[error("{0}")]
    Start(StartError),
    /// A log could not be read.
    #[error("{0}")]
    Log(LogError),
    /// Some plugins have failed; the others run.
    #[error("{}", plugins_failed(names))]
    PluginsFailed { names: Vec<String> },
    /// What a config says of some plugins could not be done.
    #[error("the config could not be applied to: {}", names.join(", "))]
    NotApplied { names: Vec<String> },
    /// Some plugins took longer than the caller waits.
    #[error("after {after:?}, these plugins are still on their way: {}", names.join(", "))]
    NotSettled { names: Vec<String>, after: Duration },
    /// The core is still there.
    #[error("the core (process {pid}) is still running after {after:?}")]
    StillRunning { pid: u32, after: Duration },
    /// The core in the background ended instead of coming up.
    #[error(
        "the core ended before all plugins were up ({how}){}",
        last_lines(lines)
    )]
    DaemonEnded {
        exit: Exit,
        how: String,
        lines: Vec<String>,
    },
    /// The core in the background did not get as far as answering.
    #[error(
        "the core has not come up within {after:?} and was ended{}",
        last_lines(lines)
    )]
    DaemonSilent { after: Duration, lines: Vec<String> },
    /// The output could not be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// The system refused something else.
    #[error("{what}")]
    System { what: String, source: io::Error },
}

impl CliError {
    /// Returns a function that says what the system refused.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// Returns the code that the process ends with because of this error.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NoConfig { .. } | Self::Config(_) | Self::Arguments { .. } | Self::Line(_) => {
                Exit::Usage
            }
            Self::Connect(error) => exit_of_call(error, |never| match *never {}),
            Self::Call(error) => exit_of_call(error, exit_of_skill),
            Self::UnknownSkill { .. } | Self::UnknownPlugin { .. } => Exit::UnknownName,
            Self::Start(StartError::HomeInUse { .. }) => Exit::HomeInUse,
            Self::PluginsFailed { .. } | Self::NotApplied { .. } => Exit::PluginsFailed,
            Self::NotSettled { .. } | Self::StillRunning { .. } | Self::DaemonSilent { .. } => {
                Exit::TimedOut
            }
            // Ended well, but not by the wish of whoever waits for it.
            Self::DaemonEnded { exit: Exit::Ok, .. } => Exit::NoCore,
            Self::DaemonEnded { exit, .. } => *exit,
            // Whoever read the output has seen enough: `aigis skills | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Start(_) | Self::Log(_) | Self::Output(_) | Self::System { .. } => Exit::Internal,
        }
    }

    /// Says what to do next.
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoConfig { .. } => Some(format!(
                "name another file with `-c FILE`, or write this one, for example:\n\n{EXAMPLE}\n"
            )),
            Self::Arguments {
                skill, signature, ..
            } => Some(format!("the signature of `{skill}` is `{signature}`")),
            Self::UnknownSkill { nearest, .. } => Some(match did_you_mean(nearest) {
                Some(question) => question,
                None => "`aigis skills` lists what is offered".to_owned(),
            }),
            Self::UnknownPlugin { nearest, .. } => Some(match did_you_mean(nearest) {
                Some(question) => question,
                None => "`aigis status` lists the plugins".to_owned(),
            }),
            Self::PluginsFailed { .. } => {
                Some("`aigis logs NAME` shows what happened before".to_owned())
            }
            Self::NotApplied { .. } => Some(
                "these plugins are as they were; `aigis logs NAME` shows what happened".to_owned(),
            ),
            Self::NotSettled { .. } => {
                Some("the core goes on with them in the background; see `aigis status`".to_owned())
            }
            Self::Connect(error) => match **error {
                CallError::CoreGone { .. } => Some("see `aigis logs`".to_owned()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Prints the error for people and returns the exit code.
    pub(super) fn report(&self, out: &mut dyn Write) -> Exit {
        let exit = self.exit();
        if exit != Exit::Ok {
            // When this cannot be written either, the exit code still tells.
            let _ = self.print(out);
        }
        exit
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Self::Config(diagnostics) = self {
            // They have their own `error:`, place and hint.
            return writeln!(out, "{diagnostics}");
        }
        if let Self::Call(error) = self
            && let CallError::Skill(failure) = &**error
            && failure.type_name == CONFIG_INVALID
        {
            return writeln!(out, "{}", failure.message);
        }
        writeln!(out, "error: {self}")?;
        for cause in self.causes() {
            writeln!(out, "caused by: {cause}")?;
        }
        if let Some(hint) = self.hint() {
            writeln!(out, "hint: {hint}")?;
        }
        out.flush()
    }

    fn causes(&self) -> Vec<String> {
        let inner: Option<&dyn Error> = match self {
            Self::Call(error) => match &**error {
                // The core's own errors are whole messages.
                CallError::Skill(failure) if is_of_core(failure) => return Vec::new(),
                CallError::Skill(failure) | CallError::Failed(failure) => {
                    return failure.chain.clone();
                }
                error => error.source(),
            },
            // What they say is this error's message; only their causes come below it.
            Self::Start(error) => error.source(),
            Self::Log(error) => error.source(),
            error => error.source(),
        };
        std::iter::successors(inner, |cause| (*cause).source())
            .map(ToString::to_string)
            .collect()
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl From<CallError<SkillFailure>> for CliError {
    fn from(error: CallError<SkillFailure>) -> Self {
        Self::Call(Box::new(error))
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// Says whether this is an error of the core's own skills.
fn is_of_core(failure: &SkillFailure) -> bool {
    matches!(
        failure.type_name.as_str(),
        UNKNOWN_PLUGIN | STEP_FAILED | CONFIG_INVALID
    )
}

fn exit_of_skill(failure: &SkillFailure) -> Exit {
    match failure.type_name.as_str() {
        UNKNOWN_PLUGIN => Exit::UnknownName,
        STEP_FAILED => Exit::PluginsFailed,
        CONFIG_INVALID => Exit::Usage,
        _ => Exit::Skill,
    }
}

fn exit_of_call<E>(error: &CallError<E>, exit_of_author: impl FnOnce(&E) -> Exit) -> Exit {
    match error {
        CallError::Skill(author) => exit_of_author(author),
        // A value that cannot be encoded is the skill's: all that is sent from here can be.
        CallError::Failed(_) | CallError::Panicked { .. } | CallError::Unserializable { .. } => {
            Exit::Skill
        }
        CallError::NotFound { .. } => Exit::UnknownName,
        CallError::Mismatch { .. } | CallError::Arguments { .. } => Exit::Usage,
        CallError::TimedOut { .. } => Exit::TimedOut,
        CallError::NotConnected { .. } | CallError::CoreGone { .. } => Exit::NoCore,
        // The core runs; the process of a plugin does not.
        CallError::Disconnected { .. } | CallError::Unavailable { .. } => Exit::PluginsFailed,
        CallError::Overloaded { .. } | CallError::TooLarge { .. } => Exit::Refused,
        CallError::Superseded { .. } => Exit::PluginsFailed,
        CallError::Other(failure) if failure.kind == FailureKind::Refused => Exit::Refused,
        _ => Exit::Internal,
    }
}

fn call_message(error: &CallError<SkillFailure>) -> String {
    match error {
        // The core's own errors say all there is to say; the skill's name and type add nothing.
        CallError::Skill(failure) if is_of_core(failure) => failure.message.clone(),
        error => error.to_string(),
    }
}

fn plugins_failed(names: &[String]) -> String {
    match names {
        [name] => format!("the plugin `{name}` has failed"),
        names => format!("{} plugins have failed: {}", names.len(), names.join(", ")),
    }
}

fn last_lines(lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        lines => format!("; the last that it wrote:\n    {}", lines.join("\n    ")),
    }
}

fn did_you_mean(nearest: &[String]) -> Option<String> {
    let (first, rest) = nearest.split_first()?;
    let mut question = format!("did you mean `{first}`");
    for name in rest {
        question.push_str(&format!(" or `{name}`"));
    }
    question.push('?');
    Some(question)
}
