//! How many descriptors this process may have open: a core has one for every session. What it starts
//! keeps to what this process was started with, since there are programs that go through all numbers,
//! or that cannot deal with great ones.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// What this process was started with, if it has more now.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have as many as the system allows.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let more = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // Where this is refused there are fewer sessions.
    if before.current != before.maximum && setrlimit(Resource::Nofile, more).is_ok() {
        let _ = BEFORE.set(before);
    }
}

/// Has what `command` starts keep to what this process was started with.
pub(crate) fn keep_to_former(command: &mut Command) {
    let Some(before) = BEFORE.get() else {
        return;
    };
    let lower = move || Ok(setrlimit(Resource::Nofile, *before)?);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. This is one plain system
    // call on a value made before the fork; it neither allocates nor locks.
    unsafe { command.pre_exec(lower) };
}

/// Has a process that was just started, and has nothing open yet, keep to what this one was started with.
///
/// For what is started often: without anything to be done between fork and exec, nothing of this process has to be
/// copied for it.
pub(crate) fn lower_to_former(pid: u32) -> io::Result<()> {
    let Some(before) = BEFORE.get() else {
        return Ok(());
    };
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidInput)?;
    prlimit(Some(pid), Resource::Nofile, *before)?;
    Ok(())
}
