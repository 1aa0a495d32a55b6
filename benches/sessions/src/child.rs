//! Processes of this benchmark, seen from the one that measures.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use session_peers::{Failed, orders};

use crate::role;

/// How long a child may take for one answer; the first one may have to build a plugin.
const ANSWERING: Duration = Duration::from_mins(5);

/// How long a child may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// A process that is asked for one thing after the other, a line each. It ends with this value.
pub(crate) struct Child {
    process: process::Child,
    /// Its end tells the child to end.
    orders: Option<ChildStdin>,
    answers: Receiver<io::Result<String>>,
}

impl Child {
    /// Starts this program in a role, and waits until it is ready.
    pub(crate) fn in_role(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self, Failed> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(role::MARK).args(arguments);
        Ok(Self::start(command.envs(variables.iter().copied()))?.0)
    }

    /// Starts a process and waits until it is ready; returns what else it says then.
    pub(crate) fn start(command: &mut Command) -> Result<(Self, String), Failed> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let output = process.stdout.take().expect("it is a pipe");
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let child = Self {
            process,
            orders,
            answers,
        };
        let ready = child.answer()?;
        Ok((child, ready))
    }

    /// Gives an order and returns the answer.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String, Failed> {
        let orders = self.orders.as_mut().expect("it is closed at the end only");
        writeln!(orders, "{order}")?;
        self.answer()
            .map_err(|error| format!("asked for `{order}`: {error}").into())
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn answer(&self) -> Result<String, Failed> {
        let line = self
            .answers
            .recv_timeout(ANSWERING)
            .map_err(|_| "a process of the benchmark ended, or has not answered")??;
        match line.split_once(' ').unwrap_or((&line, "")) {
            (orders::DONE, answer) => Ok(answer.to_owned()),
            _ => Err(line.into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.orders = None;
        let begun = Instant::now();
        while begun.elapsed() < ENDING {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        // It is stuck, and nothing of it is wanted any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
