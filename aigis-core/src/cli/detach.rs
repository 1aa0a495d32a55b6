//! The core in the background: how it is started, and how the one who started it learns how it went.
//!
//! `aigis build-and-run --detach` starts `aigis` again with a hidden flag. The new process takes its standard output, a
//! pipe, for saying once that the host answers, leads a session of its own, and prints to `log/aigis.out` from then on.
//! The pipe's end without that word means that it has ended, so that nothing needs to be polled.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::CallError;

use super::console::Console;
use super::context::Context;
use super::error::{CliError, Exit};
use super::table;
use crate::host::{MetricsAddress, PluginStatus};

/// The hidden flag of the process in the background.
pub(super) const DAEMON: &str = "daemon";

/// What it writes once its host answers.
const READY: u8 = b'+';

/// How much longer a call is waited for than what it waits for itself.
const GRACE: Duration = Duration::from_secs(10);

/// How often the line on the terminal changes while plugins come up.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// The most lines shown of what a core printed that did not come up.
const LAST_LINES: usize = 20;

/// The most bytes read for them.
const LAST_BYTES: u64 = 16 * 1024;

/// The pipe to the process that waits for this one.
pub(super) struct Readiness {
    pipe: File,
}

impl Readiness {
    /// Says that the host answers.
    pub(super) fn report(mut self) {
        // Whoever started this process may have stopped waiting; the core runs all the same.
        let _ = self.pipe.write_all(&[READY]);
    }
}

/// Makes this process the one in the background.
///
/// # Errors
/// The system's.
pub(super) fn become_daemon() -> Result<Readiness, CliError> {
    // Taken from its number, so that no plugin prints into it or inherits it.
    let pipe = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(CliError::system("standard output cannot be kept"))?;
    rustix::stdio::dup2_stdout(io::stderr())
        .map_err(io::Error::from)
        .map_err(CliError::system("standard output cannot be redirected"))?;
    match rustix::process::setsid() {
        // Somebody else has made it the leader of a session already.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => {
            return Err(CliError::system(
                "the process cannot leave its terminal's session",
            )(error.into()));
        }
    }
    Ok(Readiness { pipe: pipe.into() })
}

/// Starts a core in the background and waits until its plugins have come to rest.
///
/// # Errors
/// It has not come up, some plugins have failed, or `timeout` is over.
pub(super) fn start(
    ctx: &mut Context,
    config: &Path,
    timeout: Duration,
    quiet: bool,
    takeover: bool,
    metrics: Option<&MetricsAddress>,
) -> Result<Exit, CliError> {
    let start = Instant::now();
    let left = || timeout.saturating_sub(start.elapsed());
    let mut daemon = Daemon::start(ctx.home(), config, quiet, takeover, metrics)?;
    daemon.wait_ready(left(), timeout)?;
    let session = match ctx.session() {
        Ok(session) => session,
        // It has gone away since.
        Err(CliError::Connect(error)) if matches!(*error, CallError::NotConnected { .. }) => {
            return Err(daemon.ended());
        }
        Err(error) => return Err(error),
    };
    let console = Console::of_process(quiet);
    let statuses = loop {
        let step = match console.is_terminal() {
            true => left().min(SHOW_EVERY),
            false => left(),
        };
        let milliseconds = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        let asked = session.call_within("aigis.settled", (milliseconds,), step + GRACE);
        let statuses: Vec<PluginStatus> = match asked {
            Ok(statuses) => statuses,
            Err(CallError::CoreGone { .. }) => {
                console.clear();
                return Err(daemon.ended());
            }
            Err(error) => {
                console.clear();
                return Err(error.into());
            }
        };
        let waiting: Vec<String> = statuses
            .iter()
            .filter(|status| !status.state.is_settled())
            .map(|status| format!("{} ({})", status.name, status.state))
            .collect();
        if waiting.is_empty() {
            break statuses;
        }
        if left().is_zero() {
            console.clear();
            ctx.write(&table::plugins(&statuses, ctx.width()))?;
            return Err(CliError::NotSettled {
                names: waiting,
                after: timeout,
            });
        }
        console.show(&format!("waiting for {}", waiting.join(", ")));
    };
    console.clear();
    ctx.write(&table::plugins(&statuses, ctx.width()))?;
    let failed: Vec<String> = statuses
        .into_iter()
        .filter(|status| status.state.is_failure())
        .map(|status| status.name)
        .collect();
    match failed.is_empty() {
        true => Ok(Exit::Ok),
        false => Err(CliError::PluginsFailed { names: failed }),
    }
}

/// A core in the background, while it is waited for.
struct Daemon {
    child: Child,
    output: File,
    /// Where its own output begins.
    begin: u64,
}

impl Daemon {
    fn start(
        home: &Path,
        config: &Path,
        quiet: bool,
        takeover: bool,
        metrics: Option<&MetricsAddress>,
    ) -> Result<Self, CliError> {
        let folder = home.join("log");
        let path = folder.join("aigis.out");
        let cannot_open = || CliError::system(format!("`{}` cannot be opened", path.display()));
        fs::create_dir_all(&folder).map_err(cannot_open())?;
        let mut output = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .map_err(cannot_open())?;
        let begin = output.seek(SeekFrom::End(0)).map_err(cannot_open())?;
        let cannot_start = || CliError::system("the core cannot be started");
        let program = std::env::current_exe().map_err(cannot_start())?;
        let mut command = Command::new(program);
        command.arg("--home").arg(home).arg("build-and-run");
        command
            .arg(format!("--{DAEMON}"))
            .arg("--config")
            .arg(config);
        if quiet {
            command.arg("--quiet");
        }
        if takeover {
            command.arg("--takeover");
        }
        if let Some(metrics) = metrics {
            command.arg("--metrics").arg(metrics.to_string());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output.try_clone().map_err(cannot_open())?)
            .spawn()
            .map_err(cannot_start())?;
        Ok(Self {
            child,
            output,
            begin,
        })
    }

    /// Waits for the word that the host answers.
    fn wait_ready(&mut self, left: Duration, timeout: Duration) -> Result<(), CliError> {
        let Some(pipe) = self.child.stdout.take() else {
            return Err(CliError::system("the core cannot be waited for")(
                io::ErrorKind::BrokenPipe.into(),
            ));
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("aigis-readiness".to_owned())
            .spawn(move || {
                // Nobody listens any more once the time is over.
                let _ = sender.send(is_ready(pipe));
            })
            .map_err(CliError::system("a thread cannot be started"))?;
        match receiver.recv_timeout(left) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.ended()),
            Err(_) => {
                // No half a core is left behind: nothing has been launched yet that could not be ended with it.
                let _ = self.child.kill();
                let _ = self.child.wait();
                Err(CliError::DaemonSilent {
                    after: timeout,
                    lines: self.last_lines(),
                })
            }
        }
    }

    /// Returns the error for a core that has ended or is about to.
    fn ended(&mut self) -> CliError {
        match self.child.wait() {
            Ok(status) => CliError::DaemonEnded {
                exit: Exit::of_code(status.code()),
                how: status.to_string(),
                lines: self.last_lines(),
            },
            Err(error) => CliError::system("the core cannot be waited for")(error),
        }
    }

    fn last_lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let end = self.output.seek(SeekFrom::End(0)).unwrap_or(self.begin);
        let from = self.begin.max(end.saturating_sub(LAST_BYTES));
        // What cannot be read cannot be shown; how the core ended is said all the same.
        let _ = self
            .output
            .seek(SeekFrom::Start(from))
            .and_then(|_| self.output.read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

fn is_ready(mut pipe: ChildStdout) -> bool {
    let mut word = [0];
    pipe.read_exact(&mut word).is_ok() && word == [READY]
}
