//! What only Linux has for trying out a library.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, set_parent_process_death_signal,
    setrlimit,
};
use rustix::rand::{GetRandomFlags, getrandom};

/// Returns bytes that nobody can guess.
pub(super) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if got < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Makes a file that stands in no folder and is gone with its last user.
pub(super) fn nameless_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Returns a file that can be read from once `child` has ended.
pub(super) fn end_of(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Moves the standard input to another number, which the process's own children do not get, and
/// leaves nothing in its place.
pub(super) fn take_standard_input() -> io::Result<File> {
    let taken = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(File::from(taken))
}

/// Tells which files the three standard numbers stand for: device and inode.
pub(super) fn standard_files() -> [Option<(u64, u64)>; 3] {
    use rustix::stdio::{stderr, stdin, stdout};
    [stdin(), stdout(), stderr()].map(|file| {
        let found = rustix::fs::fstat(file).ok()?;
        Some((found.st_dev, found.st_ino))
    })
}

/// Makes an end of this process cheap, and lets it not outlive the core that waits for it.
pub(super) fn be_sacrificed() {
    // A picture of its memory would be written for nobody. Neither is worth giving up for.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// Returns the number that the next key for thread-local values will have: the lowest that is free.
pub(super) fn next_thread_key() -> Option<u32> {
    let mut key = 0;
    // SAFETY: `key` is written before the function returns 0; there is no destructor to be run.
    if unsafe { libc::pthread_key_create(&raw mut key, None) } != 0 {
        return None;
    }
    // SAFETY: the key was created above, and nobody else knows it.
    unsafe { libc::pthread_key_delete(key) };
    Some(key)
}

/// Counts the threads of this process apart from the calling one.
pub(super) fn other_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task");
    threads.map_or(0, |threads| threads.count().saturating_sub(1))
}

/// Ends this process without running anything more in it.
pub(super) fn exit_at_once(code: i32) -> ! {
    // SAFETY: nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}
