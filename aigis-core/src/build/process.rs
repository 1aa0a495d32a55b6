//! Runs a program of the toolchain: its lines as they come, cancelled at any time.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::unix;
use crate::descriptors;

/// How often a waiting build looks whether it was cancelled.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How long lines are awaited after the program ended: something it left behind, such as a
/// compiler cache's server, may hold the pipes open for ever.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Where a longer line on standard error is cut. Lines on standard output are JSON, never cut.
const LONGEST_LINE: u64 = 64 * 1024;

/// A line that a program printed, without its end.
#[derive(Debug)]
pub(super) enum Printed {
    Out(String),
    Err(String),
}

/// Why a program gave no exit status.
#[derive(Debug)]
pub(super) enum RunError {
    Start(io::Error),
    Cancelled,
}

/// Runs `command` to its end and hands every line to `on_line` on this thread.
pub(super) fn run(
    mut command: Command,
    cancel: &AtomicBool,
    on_line: &mut dyn FnMut(Printed),
) -> Result<ExitStatus, RunError> {
    if cancel.load(Ordering::Relaxed) {
        return Err(RunError::Cancelled);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    unix::in_own_group(&mut command);
    descriptors::keep_to_former(&mut command);
    let mut running = Running {
        child: command.spawn().map_err(RunError::Start)?,
        status: None,
    };
    let lines = running.lines().map_err(RunError::Start)?;
    let mut ended_at = None;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled); // dropping `running` kills the whole group
        }
        match lines.recv_timeout(POLL) {
            Ok(line) => on_line(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if running.has_ended().map_err(RunError::Start)?
                    && ended_at.get_or_insert_with(Instant::now).elapsed() > AFTERMATH
                {
                    break;
                }
            }
        }
    }
    loop {
        if let Some(status) = running.status {
            return Ok(status);
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        if !running.has_ended().map_err(RunError::Start)? {
            // The pipes are closed, so the end is near: there is nothing else to wait on.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A program that is killed, with all its group, if it is let go before it ended.
struct Running {
    child: Child,
    status: Option<ExitStatus>,
}

impl Running {
    fn has_ended(&mut self) -> io::Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    /// Starts to read both pipes; the receiver disconnects once both are closed.
    fn lines(&mut self) -> io::Result<Receiver<Printed>> {
        let (sender, receiver) = sync_channel(256);
        if let Some(pipe) = self.child.stdout.take() {
            read_lines(pipe, u64::MAX, sender.clone(), Printed::Out)?;
        }
        if let Some(pipe) = self.child.stderr.take() {
            read_lines(pipe, LONGEST_LINE, sender, Printed::Err)?;
        }
        Ok(receiver)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            unix::kill_group(&self.child);
            let _ = self.child.wait(); // it was killed: this only reaps it
        }
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    longest: u64,
    sender: SyncSender<Printed>,
    wrap: fn(String) -> Printed,
) -> io::Result<()> {
    let mut pipe = BufReader::new(pipe);
    let read = move || {
        let mut line = Vec::new();
        loop {
            line.clear();
            match pipe.by_ref().take(longest).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
            {
                line.pop();
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send(wrap(text)).is_err() {
                return; // cancelled, or given up waiting for a process left behind
            }
        }
    };
    thread::Builder::new()
        .name("build-output".to_owned())
        .spawn(read)?;
    Ok(())
}
