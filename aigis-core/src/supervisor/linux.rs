//! What only Linux has: process trees in `/proc`, pidfds, subreapers, and the launch itself.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::session::socket;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions, WaitOptions};

use super::cgroup::Cgroup;
use super::confinement::Entry;
use super::protocol::{INVOCATION_VARIABLE, LaunchSpec, SESSION_FD_VARIABLE};
use super::readiness::Invitation;
use super::{Exit, ProcessName};

/// How long [`kill_leftovers`] tries.
const KILL_FOR: Duration = Duration::from_secs(5);

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// In clock ticks since the machine started; with the pid it names one process for good.
    pub(super) start_time: u64,
    /// The CPU's time that it has used, in clock ticks.
    pub(super) ticks: u64,
    /// The same, of its children that it has collected.
    pub(super) collected_ticks: u64,
}

impl Process {
    /// Reads one process; none if it is gone.
    pub(super) fn read(pid: i32) -> Option<Process> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name may itself hold brackets and blanks; what follows the last one may not.
        let (head, fields) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let mut number = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
        Some(Process {
            pid,
            name: name.to_owned(),
            state,
            parent,
            group,
            session,
            ticks: number(7)? + number(0)?,
            collected_ticks: number(0)? + number(0)?,
            start_time: number(4)?,
        })
    }

    /// Reads all processes of the machine.
    pub(super) fn all() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Process::read)
            .collect()
    }

    /// Returns whether it has ended and only waits to be collected by its parent.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Sends a signal to exactly this process, or to none if it is gone.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                // The descriptor stands for whoever has the pid now; is that still the one?
                if Process::read(self.pid).is_some_and(|now| now.start_time == self.start_time) {
                    let _ = rustix::process::pidfd_send_signal(pidfd, signal);
                }
            }
            Err(Errno::SRCH) => {}
            // Some sandboxes know no pidfds.
            Err(_) => {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    pub(super) fn named(&self) -> ProcessName {
        ProcessName {
            pid: self.pid.unsigned_abs(),
            name: self.name.clone(),
        }
    }
}

/// Returns the living descendants of this process, parents before their children.
///
/// The list may lack a process that is just being forked; whoever needs all asks again. Dead children are collected
/// on the way, but for `leader`, whose exit is of interest: where every process starts another one and ends, there
/// are soon so many of them that looking at them all takes longer than the living need to become others.
pub(super) fn descendants(leader: i32) -> Vec<Process> {
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = match children(own) {
        Some(pids) => pids,
        None => return descendants_by_parent(own),
    };
    while let Some(pid) = pending.pop() {
        if !seen.insert(pid) {
            continue;
        }
        pending.extend(children(pid).unwrap_or_default());
        match Process::read(pid) {
            Some(process) if !process.is_dead() => found.push(process),
            Some(dead) if dead.parent == own && pid != leader => {
                // Should it fail, it is collected with all others.
                let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            }
            _ => {}
        }
    }
    found
}

/// Reads the children of every thread; none if the kernel was built without that file.
fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let Ok(task) = task else { continue };
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().flat_map(str::parse::<i32>)),
            // A thread that has just ended, or no such file at all.
            Err(error) if task.path().exists() && error.kind() == io::ErrorKind::NotFound => {
                return None;
            }
            Err(_) => {}
        }
    }
    Some(found)
}

fn descendants_by_parent(own: i32) -> Vec<Process> {
    let all = Process::all();
    let mut family = HashSet::from([own]);
    loop {
        let before = family.len();
        for process in &all {
            if family.contains(&process.parent) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    all.into_iter()
        .filter(|process| process.pid != own && family.contains(&process.pid))
        .filter(|process| !process.is_dead())
        .collect()
}

/// Sends a signal to every process of a group.
///
/// Only for a group that is known to have a member now: the number of an empty one may
/// belong to a stranger.
pub(super) fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Kills what is left of a launch whose shim is dead and waits until it is gone.
///
/// Its processes are known by its control group; where there is none, by the leader's session and group and, those
/// that have left both, by the mark in their environment. Returns what nothing could end.
pub(super) fn kill_leftovers(
    leader: Option<(u32, u64)>,
    invocation: &str,
    group: Option<&Cgroup>,
) -> Vec<Process> {
    let give_up = Instant::now() + KILL_FOR;
    loop {
        let mut left = leftovers(leader, invocation);
        if let Some(group) = group {
            group.kill();
            let known: HashSet<i32> = left.iter().map(|process| process.pid).collect();
            let more = group
                .processes()
                .into_iter()
                .filter(|pid| !known.contains(pid));
            left.extend(
                more.filter_map(Process::read)
                    .filter(|process| !process.is_dead()),
            );
        }
        if left.is_empty() {
            // Those that have died may be counted until they are collected.
            if let Some(group) = group
                && !group.is_empty()
                && Instant::now() < give_up
            {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            if let Some(group) = group {
                group.remove();
            }
            return left;
        }
        if Instant::now() >= give_up {
            return left;
        }
        for process in &left {
            process.signal(Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns what lives of a launch.
pub(super) fn leftovers(leader: Option<(u32, u64)>, invocation: &str) -> Vec<Process> {
    let mark = format!("{INVOCATION_VARIABLE}={invocation}");
    let own = std::process::id() as i32;
    let all = Process::all();
    // While a session or group has members, its number is given to nobody else. So if a
    // younger process has the leader's pid, nothing of the leader's is left there.
    let leader = leader.filter(|&(pid, start_time)| {
        !all.iter()
            .any(|process| process.pid == pid as i32 && process.start_time != start_time)
    });
    all.into_iter()
        .filter(|process| process.pid != own && !process.is_dead())
        .filter(|process| {
            leader.is_some_and(|(pid, start_time)| {
                (process.session == pid as i32 || process.group == pid as i32)
                    && process.start_time >= start_time
            }) || has_mark(process.pid, &mark)
        })
        .collect()
}

fn has_mark(pid: i32, mark: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| {
        all.split(|&byte| byte == 0)
            .any(|one| one == mark.as_bytes())
    })
}

/// Returns the id of the machine's current boot.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Returns a signal's name, for example `SIGKILL`.
pub(super) fn signal_name(signal: i32) -> Option<&'static str> {
    Some(nix::sys::signal::Signal::try_from(signal).ok()?.as_str())
}

/// What [`reap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// This child has ended and is collected now.
    Child(i32, Exit),
    /// There are children; none of them has ended.
    Nothing,
    /// There are no children at all.
    NoChildren,
}

/// Returns the signal of a number; the polite one if there is none of this number.
pub(super) fn signal_of(number: i32) -> Signal {
    if let Some(signal) = Signal::from_named_raw(number) {
        return signal;
    }
    if !(1..=64).contains(&number) {
        return Signal::TERM;
    }
    // SAFETY: it is a number of a signal on Linux, by the check above, and not 0. A shim only sends it, to processes
    // of its plugin: it handles and holds back none by this value.
    unsafe { Signal::from_raw_unchecked(number) }
}

/// Tells whether a process is of the tree below this one: alive or not yet collected.
pub(super) fn is_descendant(pid: i32) -> bool {
    let own = std::process::id() as i32;
    // As deep as a tree can be and no deeper: parents may change while they are followed.
    const DEEPEST: usize = 10_000;
    let parent = |pid: &i32| Process::read(*pid).map(|process| process.parent);
    let mut ancestors = std::iter::successors(parent(&pid), parent).take(DEEPEST);
    ancestors.any(|ancestor| ancestor == own)
}

/// Collects one ended child, if there is one.
pub(super) fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) => return Reaped::Nothing,
            Ok(Some((pid, status))) => {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    // Stopped or continued, which was not asked for.
                    (None, None) => continue,
                };
                return Reaped::Child(pid.as_raw_nonzero().get(), exit);
            }
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}

/// Opens a descriptor that becomes readable when the process ends.
pub(super) fn exit_descriptor(pid: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Returns whether the process that a descriptor stands for has ended, whoever its parent is.
pub(super) fn has_ended(descriptor: BorrowedFd<'_>) -> bool {
    let mut look = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    matches!(poll(&mut look, Some(&Timespec::default())), Ok(1))
}

/// Returns for how long the process has run that started at `start_time`, whatever was done to the clock.
pub(super) fn age(start_time: u64) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::try_from(now).unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let started = Duration::from_secs(start_time / ticks)
        + Duration::from_secs(1).mul_f64((start_time % ticks) as f64 / ticks as f64);
    now.saturating_sub(started)
}

/// Listens at `path`, however long that is, for this user alone. What lies there is replaced.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (folder, short) = socket::short_path(path)?;
    let name = path.file_name().unwrap_or_default();
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&short)?)?;
    // Nobody can connect before `listen`, so nobody finds another mode.
    rustix::fs::chmodat(&folder, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
    rustix::net::listen(&listener, 4)?;
    Ok(UnixListener::from(listener))
}

/// Returns the user and the process at the other end of a connection; for whoever connects the process is
/// the one that listens.
pub(super) fn peer(socket: &UnixStream) -> io::Result<(u32, i32)> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok((peer.uid.as_raw(), peer.pid.as_raw_nonzero().get()))
}

/// Tells whether the other end of a connection is this user's.
pub(super) fn is_own(socket: &UnixStream) -> bool {
    peer(socket).is_ok_and(|(uid, _)| uid == rustix::process::geteuid().as_raw())
}

/// Kills the process that a descriptor stands for.
pub(super) fn kill_by(descriptor: impl AsFd) {
    let _ = rustix::process::pidfd_send_signal(descriptor, Signal::KILL);
}

/// Collects the child that a descriptor stands for; returns whether it has ended.
pub(super) fn reap_by(descriptor: BorrowedFd<'_>) -> bool {
    let id = rustix::process::WaitId::PidFd(descriptor);
    !matches!(
        rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG),
        Ok(None) | Err(Errno::AGAIN | Errno::INTR)
    )
}

/// Makes this process independent of what started it: a session of its own, the adopter of
/// its descendants' orphans, no descriptor but the first three, at the root folder.
pub(super) fn detach() -> io::Result<()> {
    close_inherited_descriptors()?;
    // It fails if this process leads its group already, as when started from a shell's
    // prompt; then it is independent enough.
    let _ = rustix::process::setsid();
    // Whichever pid is given, it is this process that becomes the adopter.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::env::set_current_dir("/")
}

fn close_inherited_descriptors() -> io::Result<()> {
    // SAFETY: closing a descriptor is only wrong if some value in this process still uses
    // it. `detach` is called by `shim_main` alone, first of all, in a process that has
    // opened nothing yet (a documented condition of that function).
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The signals to this process, as something to read: all that can be are held back from
/// their usual effect.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

/// What a signal to the shim means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A child has ended.
    Child,
    /// The shim is asked to end.
    Terminate,
    /// Nothing to a shim.
    Other,
}

impl Signals {
    /// To be called once, by the only thread.
    pub(super) fn block() -> io::Result<Signals> {
        // SAFETY: setting the default effect runs no code of ours and replaces no handler:
        // a shim sets none. If its starter ignored this signal, children would vanish
        // without leaving their exit status.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let mut all = SigSet::all();
        // These report a fault of this very program; holding them back would hide it.
        for fault in [
            nix::sys::signal::SIGSEGV,
            nix::sys::signal::SIGBUS,
            nix::sys::signal::SIGILL,
            nix::sys::signal::SIGFPE,
            nix::sys::signal::SIGABRT,
            nix::sys::signal::SIGTRAP,
        ] {
            all.remove(fault);
        }
        all.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&all, flags)?))
    }

    /// Returns the next signal that has arrived.
    pub(super) fn next(&self) -> Option<Notice> {
        let signal = self.0.read_signal().ok()??;
        Some(match signal.ssi_signo as i32 {
            libc::SIGCHLD => Notice::Child,
            libc::SIGTERM => Notice::Terminate,
            _ => Notice::Other,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `path` as the plugin of `spec`, as the leader of a new session, and returns its pid.
///
/// It gets nothing of this process but what is given here: default effect for every
/// signal, none held back, `session` and that of the `invitation` as its only descriptors besides the first three. It is
/// killed when this thread ends, which is the only one of its process.
pub(super) fn spawn(
    spec: &LaunchSpec,
    path: &Path,
    stdout: OwnedFd,
    stderr: OwnedFd,
    session: Option<OwnedFd>,
    invitation: Invitation,
    confined: Entry,
) -> io::Result<u32> {
    let mut command = Command::new(path);
    command
        .arg0(&spec.program)
        .args(&spec.args)
        .current_dir(spec.cwd.as_path())
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(INVOCATION_VARIABLE, &spec.invocation)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    match &session {
        Some(session) => command.env(SESSION_FD_VARIABLE, session.as_raw_fd().to_string()),
        None => command.env_remove(SESSION_FD_VARIABLE),
    };
    if let Some((variable, value)) = &invitation.variable {
        command.env(variable, value);
    }
    let shim = rustix::process::getpid();
    let prepare = move || {
        let passed = [session.as_ref(), invitation.descriptor.as_ref()];
        prepare_child(shim, passed, &confined)
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed.
    // `prepare_child` makes plain system calls on values made before the fork, and
    // neither allocates nor locks; the shim has one thread, so no lock was held either.
    unsafe { command.pre_exec(prepare) };
    Ok(command.spawn()?.id())
}

/// Runs in the child, after its pipes and folder are in place and its mask is empty.
fn prepare_child(shim: Pid, passed: [Option<&OwnedFd>; 2], confined: &Entry) -> io::Result<()> {
    rustix::process::setsid()?;
    // First, since another user's process loses the signal that is asked for next.
    confined.enter()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(shim) {
        // The shim died before the signal was asked for, so it will not come.
        return Err(Errno::SRCH.into());
    }
    default_signals()?;
    // Every other descriptor above 2 is marked to be closed: the shim closed what it
    // inherited and opens none without the mark.
    for descriptor in passed.into_iter().flatten() {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(())
}

/// Gives every signal its default effect and holds none back.
///
/// What was ignored or held back when the core was started (by `nohup`, say) would be so
/// for all below it; and the shim itself holds back everything.
fn default_signals() -> io::Result<()> {
    /// The kernel's `struct sigaction` without a handler, flags and mask; on every
    /// architecture it is at most this long.
    const DEFAULT: [u64; 4] = [0; 4];
    /// The kernel's signals are one bit each in so many bytes.
    const SET_BYTES: usize = 8;
    for signal in 1..=64 {
        // The C library's own call refuses the two signals that it keeps for itself.
        // SAFETY: the kernel reads one `struct sigaction` from a constant that is as long,
        // and writes nothing; a default effect runs no code of ours. It refuses the
        // signals that cannot be changed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SET_BYTES,
            )
        };
    }
    // Last, since what was held back may arrive now.
    SigSet::empty().thread_set_mask()?;
    Ok(())
}
