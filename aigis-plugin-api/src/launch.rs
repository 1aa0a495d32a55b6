//! The start of an internal plugin's process.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend;
use crate::context::{Context, Grant};
use crate::error::Failure;
use crate::library;
use crate::logger::Logger;
use crate::session::{self, Session};

/// What a `launch` function may return.
#[diagnostic::on_unimplemented(
    message = "`launch` cannot return `{Self}`: it says how the process ends",
    label = "is neither `()`, an `ExitCode`, nor a `Result` with one of these",
    note = "return `()`, `ExitCode` or `Result<(), E>` with an error that implements `Display`"
)]
pub trait LaunchOutcome {
    /// Makes the process's exit code.
    fn exit(self, logger: &Logger) -> ExitCode;
}

impl LaunchOutcome for () {
    fn exit(self, _: &Logger) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl LaunchOutcome for ExitCode {
    fn exit(self, _: &Logger) -> ExitCode {
        self
    }
}

impl<T: LaunchOutcome, E: Display> LaunchOutcome for Result<T, E> {
    fn exit(self, logger: &Logger) -> ExitCode {
        match self {
            Ok(outcome) => outcome.exit(logger),
            Err(error) => {
                logger.error(format_args!("launch failed: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Connects this process to its core and runs `launch`; `#[launch]` makes a `main` that calls it.
pub fn run<R: LaunchOutcome>(launch: impl FnOnce(&'static Context) -> R) -> ExitCode {
    let logger = Logger::to_stderr();
    match connect(&logger) {
        Ok(context) => launch(context).exit(&logger),
        Err(failure) => {
            logger.error(failure);
            ExitCode::from(2)
        }
    }
}

fn connect(logger: &Logger) -> Result<&'static Context, Failure> {
    let (session, grant) = match session::from_environment()? {
        Some(grant) => {
            let name = grant.plugin.plugin.clone();
            let session = Session::open(&grant.endpoint, Some(grant.token), name)?;
            (session, grant.plugin)
        }
        // Run by hand, next to a core: a tool of the same user.
        None => by_hand()?,
    };
    backend::set_process(session);
    Ok(library::set_context(Context::new(grant, logger.clone())))
}

fn by_hand() -> Result<(Session, Grant), Failure> {
    let home = std::env::var_os("AIGIS_HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let program = std::env::current_exe().ok();
    let plugin = program
        .as_deref()
        .and_then(|path| path.file_name())
        .map_or_else(
            || "plugin".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
    let socket = home.join("run").join("core.sock");
    let session = Session::open(&socket, None, plugin.clone()).map_err(|failure| Failure {
        message: format!(
            "this program is an internal plugin, which a core launches (`aigis build-and-run`); \
             run by hand it looks for a core in `{}`: {}",
            home.display(),
            failure.message
        ),
        ..failure
    })?;
    let grant = Grant {
        data: home.join("data").join(&plugin),
        plugin,
        generation: 1,
        home,
        core_pid: session.core_pid(),
        settings: None,
    };
    Ok((session, grant))
}
