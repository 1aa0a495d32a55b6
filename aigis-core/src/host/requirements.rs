//! What a plugin needs on the machine before it can run.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::Manifest;
use crate::descriptors;
use crate::notify;

/// Why a plugin's requirements are not met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequirementsError {
    /// Programs that SYSTEM_REQUIREMENTS names are not installed.
    #[error("Fatal error. Host has no {} installed; install it, or take it out of SYSTEM_REQUIREMENTS", Names(.0))]
    Missing(Vec<String>),
    /// The command cannot be run.
    #[error("the requirements command `{command}` cannot be started in `{folder}`")]
    Start {
        /// The command.
        command: String,
        /// Its working directory.
        folder: String,
        /// What the system says.
        source: io::Error,
    },
    /// The command failed.
    #[error(
        "Requirement install exited with error code {code} (`{command}`); its last lines:{last}"
    )]
    Failed {
        /// The command.
        command: String,
        /// Its exit code, or minus the signal that ended it.
        code: i32,
        /// The last lines that it printed, each on a line of its own.
        last: String,
    },
    /// The core is shutting down.
    #[error("the requirements command was cancelled")]
    Cancelled,
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// How many lines of a failed command are shown.
const LAST_LINES: usize = 20;

/// How long what a finished command printed is waited for: something that it left running in the
/// background may hold its output open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// Checks SYSTEM_REQUIREMENTS.
///
/// # Errors
/// Everything that is missing, at once.
pub(crate) fn check_system(manifest: &Manifest) -> Result<(), RequirementsError> {
    let missing: Vec<String> = manifest
        .system_requirements
        .iter()
        .filter(|name| which::which(name).is_err())
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(RequirementsError::Missing(missing))
    }
}

/// Runs a command in a shell; each line it prints goes to `output`.
///
/// # Errors
/// A non-zero exit, with the last lines.
pub(crate) fn run(
    command: &str,
    folder: &Path,
    cancel: &AtomicBool,
    output: &mut dyn FnMut(&str),
) -> Result<(), RequirementsError> {
    let start = |source| RequirementsError::Start {
        command: command.to_owned(),
        folder: folder.display().to_string(),
        source,
    };
    let mut shell = Command::new("sh");
    descriptors::keep_to_former(&mut shell);
    for variable in notify::VARIABLES {
        shell.env_remove(variable);
    }
    let mut child = shell
        .arg("-c")
        .arg(command)
        .current_dir(folder)
        .env_remove("AIGIS_SESSION_FD")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let (sender, lines) = mpsc::channel();
    for stream in [
        child
            .stdout
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>),
    ] {
        let sender = sender.clone();
        thread::spawn(move || read_lines(stream, &sender));
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = sender;
    let waiter = thread::spawn(move || {
        let status = child.wait();
        // Wakes the loop below even if the output is held open.
        let _ = ended.send(None);
        status
    });
    let mut last = VecDeque::new();
    let mut take = |line: String, output: &mut dyn FnMut(&str)| {
        output(&line);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    };
    let mut cancelled = false;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(Some(line)) => take(line, output),
            Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if cancel.load(Ordering::Relaxed) && !cancelled {
            cancelled = true;
            if let Some(group) = group {
                // It may have ended just now.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
    while let Ok(Some(line)) = lines.recv_timeout(DRAIN) {
        take(line, output);
    }
    let status = waiter
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that waits for it panicked")))
        .map_err(start)?;
    if cancelled {
        return Err(RequirementsError::Cancelled);
    }
    if status.success() {
        return Ok(());
    }
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Err(RequirementsError::Failed {
        command: command.to_owned(),
        code: status.code().unwrap_or_else(|| -signal.unwrap_or(0)),
        last: last
            .iter()
            .fold(String::new(), |all, line| all + "\n  " + line),
    })
}

fn read_lines(stream: Option<Box<dyn Read + Send>>, sender: &mpsc::Sender<Option<String>>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                if sender.send(Some(text.trim_end().to_owned())).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(command: &str) -> (Result<(), RequirementsError>, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lines = Vec::new();
        let outcome = run(
            command,
            folder.path(),
            &AtomicBool::new(false),
            &mut |line| lines.push(line.to_owned()),
        );
        (outcome, lines)
    }

    #[test]
    fn a_shell_runs_it() {
        let (outcome, lines) = shell("echo one && echo two");
        outcome.expect("succeeds");
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn its_failure_shows_the_last_lines() {
        let (outcome, _) = shell("for i in $(seq 50); do echo line $i; done; exit 3");
        let message = outcome.expect_err("fails").to_string();
        assert!(message.contains("error code 3"), "{message}");
        assert!(
            message.contains("line 50") && !message.contains("line 30\n"),
            "{message}"
        );
    }

    #[test]
    fn what_it_leaves_running_is_not_waited_for() {
        let (outcome, lines) = shell("echo done; sleep 30 & exit 0");
        outcome.expect("succeeds");
        assert_eq!(lines, ["done"]);
    }

    #[test]
    fn it_can_be_cancelled() {
        let folder = tempfile::tempdir().expect("a folder");
        let cancel = AtomicBool::new(false);
        let outcome = run("echo on; sleep 600", folder.path(), &cancel, &mut |_| {
            cancel.store(true, Ordering::Relaxed);
        });
        assert!(matches!(outcome, Err(RequirementsError::Cancelled)));
    }
}
