//! Tries a library out in a process that may die of it.
//!
//! The process is this program again, `aigis __probe LIBRARY`; see [`child`] for its part. Its report
//! is a file without a name that it finds as its standard input: it costs no folder, a library that
//! closes what it did not open takes it away, and it does not fill up. What the report starts with is
//! known to the probe's own code alone, so a library that writes there itself proves nothing.

mod child;
mod elf;
mod linux;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, io};

use aigis_plugin_api::__private::Description;
use aigis_plugin_api::codec;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::LoadError;
use crate::descriptors;

pub(crate) use child::probe_main;

/// The hidden first argument of the program `aigis` that makes it a probe.
pub(crate) const PROBE_ARGUMENT: &str = "__probe";

/// What a report starts with.
type Nonce = [u8; 16];

/// The longest report that is read, in bytes.
const LONGEST_REPORT: u64 = 80 << 20;

/// What a library offers, known before the core has opened it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probed {
    /// Its skills, in the order of their numbers.
    pub(crate) description: Description,
    /// The minor version of its ABI; the major one is ours.
    pub(crate) minor: u32,
    /// The compiler that built it.
    pub(crate) rustc: String,
    /// The version of `aigis-plugin-api` in it.
    pub(crate) api_version: String,
    /// How many keys for thread-local values its constructors have created; a library that has some
    /// leaves destructors behind.
    pub(crate) thread_keys: u32,
    /// How many threads its constructors have left running.
    pub(crate) threads: usize,
}

impl Probed {
    /// Says what its author may not know of it, for its log.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.thread_keys > 0 {
            notes.push(format!(
                "its static constructors create keys for thread-local values ({})",
                self.thread_keys
            ));
        }
        if self.threads > 0 {
            notes.push(format!(
                "its static constructors leave threads running ({})",
                self.threads
            ));
        }
        notes
    }
}

/// How far a probe has come; the one byte of a report that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Describing,
}

impl Stage {
    const ALL: [Self; 2] = [Self::Opening, Self::Describing];

    fn mark(self) -> u8 {
        match self {
            Self::Opening => b'o',
            Self::Describing => b'd',
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Opening => "opened",
            Self::Describing => "asked for its description",
        }
    }
}

/// Opens `library` in a process of its own and reads what it offers.
pub(crate) async fn probe(
    program: &Path,
    library: &Path,
    deadline: Duration,
) -> Result<Probed, LoadError> {
    let nonce = linux::random().map_err(LoadError::Probe)?;
    let report = linux::nameless_file("aigis-probe").map_err(LoadError::Probe)?;
    report.write_all_at(&nonce, 0).map_err(LoadError::Probe)?;
    let input = report.try_clone().map_err(LoadError::Probe)?;
    let mut sacrificed = Command::new(program);
    descriptors::keep_to_former(&mut sacrificed);
    let child = sacrificed
        .arg(PROBE_ARGUMENT)
        .arg(library)
        .stdin(Stdio::from(OwnedFd::from(input)))
        // A constructor that prints must not disturb who reads the core's output.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(LoadError::Probe)?;
    let mut process = Process {
        child,
        ended: false,
    };
    let ending = match tokio::time::timeout(deadline, process.wait()).await {
        Ok(status) => ending(status.map_err(LoadError::Probe)?),
        Err(_) => Ending::Killed(format!("did not come back within {deadline:?}")),
    };
    // Whatever its constructors have started is gone before the report is read.
    drop(process);
    read(&report, &nonce, ending, program)
}

/// A probe that runs; with its end all that it has started ends.
struct Process {
    child: Child,
    /// Whether it has been waited for: from then on its number may be another process's.
    ended: bool,
}

impl Process {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let ended = linux::end_of(&self.child)?;
        // SAFETY: an `OwnedFd` has one number, which is its own until it is dropped.
        let ended = unsafe { AsyncFd::register_with_interest(ended, Interest::READABLE) }?;
        let _ = ended.readable().await?;
        // Not waited for yet, it keeps the number of its group from being given away.
        self.end()
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may be gone already, with all of its group.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // It may have left its group.
        let _ = self.child.kill();
        self.ended = true;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

/// How a probe has ended.
enum Ending {
    /// As one that has written its report.
    Well,
    /// In another way.
    Killed(String),
}

fn ending(status: ExitStatus) -> Ending {
    Ending::Killed(match (status.code(), status.signal()) {
        (Some(child::DONE), _) => return Ending::Well,
        (Some(child::CLOSED), _) => "closed files of the process that it had not opened".to_owned(),
        (Some(code), _) => format!("ended the process with exit code {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("killed the process with {name}"),
            Err(_) => format!("killed the process with signal {signal}"),
        },
        (None, None) => "ended the process".to_owned(),
    })
}

fn read(
    report: &fs::File,
    nonce: &Nonce,
    ending: Ending,
    program: &Path,
) -> Result<Probed, LoadError> {
    let len = report.metadata().map_err(LoadError::Probe)?.len();
    let mut bytes = vec![0; usize::try_from(len.min(LONGEST_REPORT)).unwrap_or(0)];
    report
        .read_exact_at(&mut bytes, 0)
        .map_err(LoadError::Probe)?;
    if bytes == nonce {
        // The first thing that a probe does is to take the nonce away.
        let message = format!(
            "`{}` did not act as one; is it the program `aigis` of this version?",
            program.display()
        );
        return Err(LoadError::Probe(io::Error::other(message)));
    }
    let crashed = |what: String, stage: Stage| LoadError::Crashed {
        what,
        asked: stage.words(),
    };
    let stage = Stage::ALL.into_iter().find(|stage| bytes == [stage.mark()]);
    match (bytes.strip_prefix(nonce), ending) {
        (Some(report), Ending::Well) => {
            let report: Result<Probed, String> = codec::from_slice(report)
                .map_err(|error| LoadError::Probe(io::Error::other(error.to_string())))?;
            report.map_err(LoadError::Unfit)
        }
        (Some(_), Ending::Killed(what)) => Err(crashed(what, Stage::Describing)),
        (None, Ending::Killed(what)) => match stage {
            Some(stage) => Err(crashed(what, stage)),
            None => Err(crashed(
                format!("wrote into files that it had not opened and {what}"),
                Stage::Opening,
            )),
        },
        (None, Ending::Well) => Err(crashed(
            "ended the process as if it had been tried out".to_owned(),
            stage.unwrap_or(Stage::Opening),
        )),
    }
}
