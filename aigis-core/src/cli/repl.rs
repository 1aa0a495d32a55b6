//! `aigis repl`.

use std::io::{BufRead, IsTerminal};

use aigis_plugin_api::{CallError, Session, Value};

use super::arguments::Argument;
use super::call;
use super::context::{self, Context};
use super::error::{CliError, Exit};
use super::repl_line::{self, Line};
use super::table;

const HELP: &str = "\
greeter.greet zaltu           call a skill; each word is read by the parameter's type
greeter.greet(\"zaltu\")        call a skill; arguments are JSON
greeter.greet name=zaltu      give arguments by name, in either form
skills [PREFIX]               list the skills
status                        show the plugins
reload NAME                   build a plugin again and swap it
help                          show this
quit                          leave";

const PROMPT: &str = "aigis> ";

/// Read calls from standard input and print their results
///
/// A line is a call, `greeter.greet zaltu` or `greeter.greet("zaltu")`, or one of `skills [PREFIX]`, `status`, `reload
/// NAME`, `help` and `quit`. Results are JSON, one a line when the output is no terminal. A line that fails is reported
/// and the next one read; when the input is no terminal, the exit code is that of the last line that failed.
#[derive(Debug, clap::Args)]
pub(super) struct ReplArgs {}

pub(super) fn run(_args: &ReplArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    interact(&mut stdin.lock(), terminal, ctx)
}

/// Reads lines to the end of `input`.
///
/// # Errors
/// No core at the start, or the streams fail.
pub(super) fn interact(
    input: &mut dyn BufRead,
    terminal: bool,
    ctx: &mut Context,
) -> Result<Exit, CliError> {
    let mut link = Link {
        session: Some(ctx.session()?),
    };
    let mut exit = Exit::Ok;
    let mut bytes = Vec::new();
    loop {
        if terminal {
            // A prompt that nobody can see is not missed.
            let _ = write!(ctx.stderr(), "{PROMPT}").and_then(|()| ctx.stderr().flush());
        }
        bytes.clear();
        let read = input
            .read_until(b'\n', &mut bytes)
            .map_err(CliError::system("standard input cannot be read"))?;
        if read == 0 {
            if terminal {
                ctx.tell("");
            }
            return Ok(exit);
        }
        let line = String::from_utf8_lossy(&bytes);
        match one_line(&line, &mut link, ctx) {
            Ok(true) => {}
            Ok(false) => return Ok(exit),
            Err(error @ CliError::Output(_)) => return Err(error),
            Err(error) => {
                let failed = error.report(ctx.stderr());
                if !terminal {
                    exit = failed;
                }
            }
        }
    }
}

/// Does what a line asks for; says whether to go on.
fn one_line(line: &str, link: &mut Link, ctx: &mut Context) -> Result<bool, CliError> {
    match repl_line::parse(line).map_err(CliError::Line)? {
        Line::Empty => {}
        Line::Quit => return Ok(false),
        Line::Help => ctx.tell(HELP),
        Line::Status => {
            let statuses = link.ask(ctx, context::statuses)?;
            ctx.write(&table::plugins(&statuses, ctx.width()))?;
        }
        Line::Skills { prefix } => {
            let mut skills = link.ask(ctx, context::skills)?;
            skills.retain(|skill| skill.name.starts_with(&prefix));
            ctx.write(&table::skills(&skills))?;
        }
        Line::Reload { name } => {
            // The step has a session of its own; a core that is gone is noticed here.
            link.ask(ctx, context::statuses)?;
            ctx.step("aigis.reload", (&name, false), false)?;
        }
        Line::Call { name, arguments } => call_line(&name, &arguments, link, ctx)?,
    }
    Ok(true)
}

fn call_line(
    name: &str,
    arguments: &[Argument],
    link: &mut Link,
    ctx: &mut Context,
) -> Result<(), CliError> {
    // The question may be asked again of a new core; a call whose core went away may have run.
    let skills = link.ask(ctx, context::skills)?;
    let values = call::values(&skills, name, arguments, false)?;
    if call::is_streaming(&skills, name) {
        let items = link.session(ctx)?.stream(name, values)?;
        return call::print_items(items, ctx);
    }
    let result = link
        .session(ctx)?
        .call_within::<Value>(name, values, call::DEFAULT_TIMEOUT)
        .map_err(CliError::from);
    if let Err(error) = &result
        && is_gone(error)
    {
        link.session = None;
    }
    ctx.write_value(&result?)
}

/// The session of a REPL, made again when the core has been.
struct Link {
    session: Option<Session>,
}

impl Link {
    fn session(&mut self, ctx: &mut Context) -> Result<Session, CliError> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = ctx.session()?;
        ctx.tell(&format!(
            "connected again, to the core with process id {}",
            session.core_pid()
        ));
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Asks what may be asked twice: of a new core if the one that was known is gone.
    fn ask<T>(
        &mut self,
        ctx: &mut Context,
        question: impl Fn(&Session) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let session = self.session(ctx)?;
        match question(&session) {
            Err(error) if is_gone(&error) => {
                self.session = None;
                question(&self.session(ctx)?)
            }
            answer => answer,
        }
    }
}

fn is_gone(error: &CliError) -> bool {
    matches!(error, CliError::Call(call) if matches!(**call, CallError::CoreGone { .. }))
}
