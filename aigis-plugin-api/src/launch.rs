//! The start of an internal plugin's process.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend;
use crate::context::{Context, Grant};
use crate::error::Failure;
use crate::library;
use crate::logger::Logger;
use crate::session::{self, Address, Session};

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
        Ok((context, serving)) => {
            // Closed after a panic of `launch` as well.
            let outcome = launch(context).exit(&logger);
            drop(serving);
            outcome
        }
        Err(failure) => {
            logger.error(failure);
            ExitCode::from(2)
        }
    }
}

fn connect(logger: &Logger) -> Result<(&'static Context, Serving), Failure> {
    let (session, grant, launched) = match session::from_environment()? {
        Some(grant) => {
            let session = Session::open(grant.address())?;
            (session, grant.plugin, true)
        }
        // Run by hand, next to a core: a tool of the same user.
        None => {
            let (session, grant) = by_hand()?;
            (session, grant, false)
        }
    };
    backend::set_process(session.clone());
    let context = library::set_context(Context::new(grant, logger.clone()));
    let skills = library::open_program(context)?;
    let serving = Serving(session);
    if launched {
        serving.0.serve(&skills)?;
    } else if !skills.is_empty() {
        logger.warn(
            "its skills are not offered: only what a core has launched as a plugin can be called",
        );
    }
    Ok((context, serving))
}

/// The program's skills are open, and are closed with it.
struct Serving(Session);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.stop_serving();
        library::close_program();
    }
}

/// Offers the skills of a launched program that has no `launch`; they are never closed.
pub(crate) fn serve_unlaunched(session: &Session, grant: Grant) -> Result<(), Failure> {
    let context = library::set_context(Context::new(grant, Logger::to_stderr()));
    session.serve(&library::open_program(context)?)
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
    let address = Address {
        socket,
        token: None,
        client: plugin.clone(),
        reconnects: true,
        offers: false,
    };
    let session = Session::open(address).map_err(|failure| Failure {
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
        instance: 0,
        settings: None,
        brought: false,
    };
    Ok((session, grant))
}
