//! The proxy of a manager of Python's, in Python on both sides; see `manager.py`.

use std::env;
use std::process::Command;

use session_peers::Failed;

use crate::child::Child;

const PROGRAM: &str = include_str!("manager.py");

/// Says whether there is a Python.
pub(crate) fn is_installed() -> bool {
    let version = interpreter().arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Starts the manager and its caller.
pub(crate) fn start() -> Result<(Child, Child), Failed> {
    let (server, found) = Child::start(python().arg("serve"))?;
    let (port, key) = found
        .split_once(' ')
        .ok_or("the manager has not said where it is")?;
    let (client, module) = Child::start(python().args(["call", port, key]))?;
    println!("the manager is that of `{module}`");
    Ok((server, client))
}

fn python() -> Command {
    let mut command = interpreter();
    command.args(["-c", PROGRAM]);
    command
}

/// Returns the Python of the variable `PYTHON`, such as that of an environment with multiprocess; else the usual one.
fn interpreter() -> Command {
    Command::new(env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}
