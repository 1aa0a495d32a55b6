//! What every command works with: the home, the streams, and the way to the running core.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aigis_plugin_api::{Session, Value, codec};
use serde::Serialize;

use super::error::{CliError, Exit};
use super::units;
use crate::home::Home;
use crate::host::{CoreStatus, PluginStatus, SkillInfo};
use crate::registry::nearest;

/// How long a command waits for a step of a plugin's life: a build takes as long as it takes, and a core that goes
/// away ends the wait at once.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_hours(24);

/// The home, the streams and what kind of streams they are.
pub(super) struct Context {
    home: PathBuf,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    pretty: bool,
}

impl Context {
    /// Returns the context of this process.
    pub(super) fn of_process(home: PathBuf) -> Self {
        let stdout = io::stdout();
        let pretty = stdout.is_terminal();
        Self {
            home,
            out: Box::new(stdout.lock()),
            err: Box::new(io::stderr()),
            pretty,
        }
    }

    /// Returns a context that writes elsewhere.
    #[cfg(test)]
    pub(super) fn with_streams(
        home: PathBuf,
        out: Box<dyn Write>,
        err: Box<dyn Write>,
        pretty: bool,
    ) -> Self {
        Self {
            home,
            out,
            err,
            pretty,
        }
    }

    /// Returns the folder that the core works in.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns where things are in that folder.
    ///
    /// # Errors
    /// The current folder, which a relative path starts from, cannot be found.
    pub(super) fn places(&self) -> Result<Home, CliError> {
        Home::new(&self.home).map_err(CliError::system("the home cannot be found"))
    }

    /// Returns where people's output goes.
    pub(super) fn stderr(&mut self) -> &mut dyn Write {
        &mut self.err
    }

    /// Tells whether standard output is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.pretty
    }

    /// Returns how many columns standard output has, if it is a terminal.
    pub(super) fn width(&self) -> Option<usize> {
        let (columns, _) = units::screen().filter(|_| self.pretty)?;
        Some(columns)
    }

    /// Writes a line for people.
    pub(super) fn tell(&mut self, line: &str) {
        // Nobody is left to tell when standard error is gone; what the command does is not affected.
        let _ = writeln!(self.err, "{line}");
    }

    /// Writes text to standard output.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(super) fn write(&mut self, text: &str) -> Result<(), CliError> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(CliError::Output)
    }

    /// Writes a value as JSON and a line break: on one line, or for people on a terminal.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(super) fn write_value(&mut self, value: &Value) -> Result<(), CliError> {
        let mut text = match self.pretty {
            true => value.to_json_pretty(),
            false => value.to_json(),
        };
        text.push('\n');
        self.write(&text)
    }

    /// Writes anything as JSON.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(super) fn write_json<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let value = codec::to_value(value)
            .map_err(|error| CliError::Output(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        self.write_value(&value)
    }

    /// Connects to the running core.
    ///
    /// # Errors
    /// [`CliError::Connect`].
    pub(super) fn session(&self) -> Result<Session, CliError> {
        Ok(aigis_plugin_api::connect(&self.home)?)
    }

    /// Asks the core for a step of a plugin's life, and shows how the plugin is then.
    ///
    /// # Errors
    /// Why it was not done, or that the plugin has failed now.
    pub(super) fn step(
        &mut self,
        skill: &str,
        arguments: impl Serialize,
        json: bool,
    ) -> Result<Exit, CliError> {
        let session = self.session()?;
        let status: PluginStatus = session.call_within(skill, arguments, STEP_TIMEOUT)?;
        if json {
            self.write_json(&status)?;
        }
        self.stepped(&[status], json)
    }

    /// Does the same for several plugins at once.
    ///
    /// # Errors
    /// Why it was not done, or that one of them has failed now.
    pub(super) fn steps(
        &mut self,
        skill: &str,
        arguments: impl Serialize,
        json: bool,
    ) -> Result<Exit, CliError> {
        let session = self.session()?;
        let all: Vec<PluginStatus> = session.call_within(skill, arguments, STEP_TIMEOUT)?;
        if json {
            self.write_json(&all)?;
        }
        self.stepped(&all, json)
    }

    /// Tells people how plugins are after a step, unless it was `told` otherwise.
    fn stepped(&mut self, all: &[PluginStatus], told: bool) -> Result<Exit, CliError> {
        for status in all.iter().filter(|_| !told) {
            self.tell(&format!(
                "{}: {} (generation {})",
                status.name, status.state, status.generation
            ));
        }
        let failed = all.iter().filter(|status| status.state.is_failure());
        let names: Vec<String> = failed.map(|status| status.name.clone()).collect();
        if names.is_empty() {
            return Ok(Exit::Ok);
        }
        Err(CliError::PluginsFailed { names })
    }
}

/// Returns the error for a plugin that is not among `all`.
pub(super) fn unknown_plugin(name: &str, all: &[PluginStatus]) -> CliError {
    CliError::UnknownPlugin {
        name: name.to_owned(),
        nearest: nearest(name, all.iter().map(|status| status.name.as_str())),
    }
}

/// Asks the core how its plugins are.
///
/// # Errors
/// Whatever ended the call.
pub(super) fn statuses(session: &Session) -> Result<Vec<PluginStatus>, CliError> {
    Ok(session.call("aigis.status", ())?)
}

/// Asks the core how it is itself; one of an earlier version does not say.
pub(super) fn core(session: &Session) -> Option<CoreStatus> {
    session.call("aigis.core", ()).ok()
}

/// Asks the core what it offers.
///
/// # Errors
/// Whatever ended the call.
pub(super) fn skills(session: &Session) -> Result<Vec<SkillInfo>, CliError> {
    Ok(session.call("aigis.skills", ())?)
}

/// Reads `NAME=SOURCE`.
pub(super) fn name_and_source(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, source)) if !name.trim().is_empty() && !source.trim().is_empty() => {
            Ok((name.trim().to_owned(), source.trim().to_owned()))
        }
        _ => Err("expected a name and a source, such as `greeter2=../greeter2`".to_owned()),
    }
}

/// Makes a source that is a folder one from the root: it is meant from here, not from the core's folder.
///
/// # Errors
/// The current folder cannot be found.
pub(super) fn source_from_here(source: &str) -> Result<String, CliError> {
    let folder = Path::new(source);
    Ok(match folder.is_dir() {
        true => std::path::absolute(folder)
            .map_err(CliError::system("the source's folder cannot be found"))?
            .display()
            .to_string(),
        false => source.to_owned(),
    })
}
