//! The lines around fork: what the new process has of this one is only what was meant for it.

use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::{process, ptr};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Resource, Signal, getrlimit};

unsafe extern "C" {
    /// Of the C library that std is linked to.
    fn syscall(number: c_long, ...) -> c_long;
}

/// `rt_sigaction`; the C library's own function refuses the two signals that it keeps for itself.
#[cfg(target_arch = "x86_64")]
const SIGACTION: c_long = 13;
/// `rt_sigaction` where numbers were given out anew: aarch64, riscv64, loongarch64.
#[cfg(not(target_arch = "x86_64"))]
const SIGACTION: c_long = 134;
/// The kernel's `struct sigaction` without a handler, flags and mask; on every architecture it is at most this long.
const DEFAULT: [u64; 4] = [0; 4];
/// The kernel's signals are one bit each in so many bytes.
const SET_BYTES: usize = 8;
/// The same on every architecture that Rust has Linux for.
const CLOSE_RANGE: c_long = 436;
/// Not to close them now, but when the program is replaced: std still needs one of its own until then.
const CLOSE_RANGE_CLOEXEC: c_uint = 4;
/// The first number after those of the standard streams.
const FIRST: c_int = 3;
const LAST_SIGNAL: c_int = 64;
/// Two that the C library keeps for itself.
const RESERVED_SIGNALS: [c_int; 2] = [32, 33];

/// What a process is to be, apart from what std knows of.
#[derive(Debug, Default)]
pub(super) struct Traits {
    /// What it gets beyond the standard streams, under the numbers that these have here.
    pub(super) passed: Vec<OwnedFd>,
    /// Whether it leads a process group of its own.
    pub(super) own_group: bool,
    /// Whether it is killed when the thread ends that starts it.
    pub(super) dies_with_thread: bool,
}

/// Returns a descriptor whose number is not that of a standard stream: the child's own would take its place.
pub(super) fn beyond_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    match fd.as_raw_fd() < FIRST {
        true => Ok(fcntl_dupfd_cloexec(&fd, FIRST)?),
        false => Ok(fd),
    }
}

/// Starts `command` as a process that has nothing of this one but what is given here: default effect for every signal,
/// none held back, no descriptor but the standard streams and those that are passed.
///
/// std empties the mask a moment before the effects are reset: a signal to the whole process group that comes just then
/// may run a handler of this process in the copy. Signals to the child itself cannot: nobody knows its number yet.
pub(super) fn spawn(mut command: process::Command, traits: Traits) -> io::Result<process::Child> {
    if traits.own_group {
        command.process_group(0);
    }
    let parent = rustix::process::getpid();
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = c_int::try_from(most).unwrap_or(c_int::MAX);
    let prepare = move || prepare(&traits, parent, most);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `prepare` makes plain system calls on
    // values made before the fork, and neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Runs in the child, with its streams, group and folder in place and an empty mask.
fn prepare(traits: &Traits, parent: Pid, most: c_int) -> io::Result<()> {
    if traits.dies_with_thread {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // It died before the signal was asked for, so the signal will not come.
            return Err(rustix::io::Errno::SRCH.into());
        }
    }
    // What has a handler loses it with the program; what is ignored would stay so.
    for number in 1..=LAST_SIGNAL {
        // SAFETY: the kernel reads one `struct sigaction` from a constant that is as long, and writes nothing. The
        // default effect runs no code and replaces handlers of this copy alone, which is about to be another program.
        // Signals that cannot be changed are refused.
        unsafe {
            syscall(
                SIGACTION,
                c_long::from(number),
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                SET_BYTES,
            )
        };
    }
    // SAFETY: the call takes three numbers and touches no memory; it closes nothing now.
    let marked = unsafe {
        syscall(
            CLOSE_RANGE,
            c_long::from(FIRST),
            c_long::from(c_uint::MAX),
            c_long::from(CLOSE_RANGE_CLOEXEC),
        )
    };
    if marked != 0 {
        // Before Linux 5.11: one by one.
        for number in FIRST..most {
            // SAFETY: the number is used for one system call that changes a flag; if nothing is open under it, the
            // call fails. This copy of the process runs nothing else that could close it meanwhile.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
    }
    for fd in &traits.passed {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}

/// Sends a signal to the process that a descriptor stands for; tells whether it was still there.
///
/// # Errors
/// There is no such signal, or the process has become somebody else's.
pub(super) fn send(pidfd: impl AsFd, number: i32) -> io::Result<bool> {
    if !(1..=LAST_SIGNAL).contains(&number) || RESERVED_SIGNALS.contains(&number) {
        let message = format!(
            "there is no signal {number} to send: it is a number from 1 to {LAST_SIGNAL} other than 32 and 33"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: it is a signal of the kernel's, as just checked, and none that the C library keeps for itself.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
