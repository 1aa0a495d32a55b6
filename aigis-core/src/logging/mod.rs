//! The log files: how a record looks, how a file rotates, how people read it back.
//!
//! Start at [`LogFile`] for writing and at [`tail`], [`History`] and [`Follow`] for reading;
//! [`LineSplitter`] turns what a program prints into lines, and `levels` finds the level that a line
//! states. `redact` keeps the values of secrets out, `compress` makes backups small.
//!
//! A record is `2026-11-21 08:53:00,123 : INFO : message`, in local time. The second and
//! later lines of one message start with [`CONTINUATION`], so that every line of a file
//! either opens a record or visibly belongs to the record above it. Whatever a program
//! prints, it cannot open a record of its own making: line breaks inside a message become
//! continuation lines and control bytes are written out as text (`\x1b`).
//!
//! On request records are JSON objects instead ([`Format::Json`]), one a line. Both forms may stand in
//! one file, as after a change of the option.
//!
//! Several processes may write one file: the shims of a plugin's processes, the core, and the
//! process of an isolated library. Each write is whole
//! records in one `O_APPEND` write, each writer notices when another has rotated the
//! file, and a lock file next to it makes sure that only one of them rotates.
//!
//! What a record was written under, spans of plugins and of the program around the core, is in
//! `spans`; what of it reaches that program's own `tracing` subscriber, and how, in `twin`.

mod compress;
mod entry;
mod file;
mod history;
pub(crate) mod levels;
mod lines;
mod reader;
mod record;
pub(crate) mod redact;
mod rotation;
pub(crate) mod spans;
#[cfg(test)]
mod tests;
pub(crate) mod twin;
mod zone;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::LogOptions;

pub(crate) use compress::Compressor;
pub use entry::Entry;
pub use file::{Dropped, LogFile};
pub use history::History;
pub use lines::{CUT_MARKER, Line, LineEnd, LineSplitter, MAX_LINE_BYTES};
pub use reader::{Follow, last, tail};
pub use record::CONTINUATION;
pub use redact::SecretValue;
pub use rotation::Rotation;

/// How much a record matters, from least to most.
///
/// `Boot` and `Shutdown` rank above every error, so that no threshold hides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Detail for whoever follows one call through the code.
    Trace,
    /// Detail for the author of the code.
    Debug,
    /// What happens when all is well; also what a plugin prints on its standard output.
    Info,
    /// What a plugin prints on its standard error.
    ///
    /// It ranks with `Info`, not with `Error`, because many programs print everything
    /// there; it has a name of its own so that the two streams can be told apart.
    Stderr,
    /// Something unexpected that was dealt with.
    #[serde(rename = "warning")]
    Warn,
    /// Something failed.
    Error,
    /// A launch begins; opens one invocation of a plugin.
    Boot,
    /// A plugin or the core ends.
    Shutdown,
}

impl Level {
    /// Every level, from least to most.
    pub const ALL: [Level; 8] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Stderr,
        Level::Warn,
        Level::Error,
        Level::Boot,
        Level::Shutdown,
    ];

    /// Returns the level's name as it stands in a log file.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Stderr => "STDERR",
            Level::Warn => "WARNING",
            Level::Error => "ERROR",
            Level::Boot => "BOOT",
            Level::Shutdown => "SHUTDOWN",
        }
    }
}

/// How the records of a log file are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people: `2026-11-21 08:53:00,123 : INFO : message`.
    #[default]
    Text,
    /// One JSON object a line: `time` (RFC 3339), `level`, `message`; of what a launched program has
    /// printed also `stream`, `invocation` and, if the line was a JSON object, its other `fields`.
    Json,
}

impl Format {
    /// Returns the format that a plugin's log is to have.
    pub(crate) fn of(options: &LogOptions) -> Format {
        match options.json {
            true => Format::Json,
            false => Format::Text,
        }
    }
}

/// Which of its two streams a program has printed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Stream {
    /// Returns the stream's name as it stands in a log file.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = LogError;

    /// Reads a level's name in upper or lower case; `WARN` is read as `WARNING`.
    fn from_str(text: &str) -> Result<Self, LogError> {
        if text.eq_ignore_ascii_case("warn") {
            return Ok(Level::Warn);
        }
        Level::ALL
            .into_iter()
            .find(|level| text.eq_ignore_ascii_case(level.as_str()))
            .ok_or_else(|| LogError::UnknownLevel { found: text.into() })
    }
}

/// Why a log file could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file does not exist.
    #[error("there is no log file `{path}` yet; it appears with the first line logged")]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// The path has no file name that backups could be named after.
    #[error("`{path}` is not the path of a log file: it ends without a file name")]
    NotAFile {
        /// The path that was given.
        path: PathBuf,
    },
    /// The file could not be opened for appending.
    #[error("failed to open the log file `{path}` for writing")]
    Open {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("failed to read the log file `{path}`")]
    Read {
        /// The file that was being read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A word is no level's name.
    #[error(
        "`{found}` is no log level; expected one of trace, debug, info, stderr, warning, error, boot, shutdown"
    )]
    UnknownLevel {
        /// The word that was found.
        found: String,
    },
}
