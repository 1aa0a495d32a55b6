//! The handler of the signals that processes die of. All of it is safe to run in a signal handler: it
//! reads atomics and thread-locals without destructors, copies bytes, and calls what the system allows
//! there.

use std::ffi::c_void;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::libc::{self, c_int, sigaction, siginfo_t};

use super::record::{Cause, Line};
use super::{Entry, SIGNALS, Whose, find};
use crate::loader::follow;
use crate::loader::guard::seats;

/// What handled each signal before, in the order of [`SIGNALS`].
static BEFORE: [OnceLock<sigaction>; SIGNALS.len()] = [const { OnceLock::new() }; SIGNALS.len()];

/// Whether a record is written: not yet, just now, or already.
static WRITTEN: AtomicU32 = AtomicU32::new(NOTHING);
const NOTHING: u32 = 0;
const WRITING: u32 = 1;
const DONE: u32 = 2;

/// How close to the stack pointer a fault is that comes from using up the stack.
const STACK_REACH: usize = 64 * 1024;

/// How often and for how long a thread waits for another one to have written.
const WAITS: u32 = 1000;
const WAIT: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// Handles the signals that processes die of, from now on to the end of the process. Whoever handled
/// them before still does, afterwards. A signal that is ignored stays ignored.
///
/// # Errors
/// What the system says.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    for ((signal, _), before) in SIGNALS.iter().zip(&BEFORE) {
        if before.get().is_some() {
            continue;
        }
        let found = current(*signal)?;
        if found.sa_sigaction == libc::SIG_IGN {
            continue;
        }
        // First, so that a signal that comes at once finds it.
        let _ = before.set(found);
        set(*signal, &ours(*signal))?;
    }
    Ok(())
}

fn ours(signal: c_int) -> sigaction {
    // SAFETY: zeros are an empty mask, no flags and the default action.
    let mut ours: sigaction = unsafe { mem::zeroed() };
    ours.sa_sigaction = address();
    ours.sa_flags = libc::SA_SIGINFO;
    if matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
        // On the thread's stack for handlers, if it has one: its own may be used up. That is a small
        // one, so what may be handled on the thread's own is.
        ours.sa_flags |= libc::SA_ONSTACK;
    }
    ours
}

/// Gives the signals other than `signal` back to who handled them before, or takes them again.
fn give_others_back(signal: c_int, back: bool) {
    for ((other, _), before) in SIGNALS.iter().zip(&BEFORE) {
        if let Some(before) = before.get().filter(|_| *other != signal) {
            // Should it fail, there is nobody left to be told.
            let _ = if back {
                set(*other, before)
            } else {
                set(*other, &ours(*other))
            };
        }
    }
}

fn address() -> libc::sighandler_t {
    let handle: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
    handle as libc::sighandler_t
}

fn current(signal: c_int) -> io::Result<sigaction> {
    // SAFETY: as in `install`.
    let mut found: sigaction = unsafe { mem::zeroed() };
    // SAFETY: `found` is a place for the answer.
    match unsafe { libc::sigaction(signal, ptr::null(), &raw mut found) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(signal: c_int, action: &sigaction) -> io::Result<()> {
    // SAFETY: `action` is the default action, or names a function that is one for signals.
    match unsafe { libc::sigaction(signal, action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the system passes what is valid while the handler runs.
    let fault = unsafe { Fault::new(signal, info, context) };
    let first = WRITTEN
        .compare_exchange(NOTHING, WRITING, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok();
    if first {
        fault.write();
        // Who is called now may abort: that is the same death, and a second handler may be more than
        // the stack for handlers holds.
        give_others_back(signal, true);
        WRITTEN.store(DONE, Ordering::SeqCst);
    } else {
        // This thread would end the process under the one that writes.
        for _ in 0..WAITS {
            if WRITTEN.load(Ordering::SeqCst) != WRITING {
                break;
            }
            // SAFETY: reads a time, and is told of nothing that is left.
            unsafe { libc::nanosleep(&WAIT, ptr::null_mut()) };
        }
    }
    let handled = pass_on(signal, info, context, fault.is_sent);
    if handled && first {
        give_others_back(signal, false);
        take_back();
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Does what would have been done without this handler. Returns whether the process goes on.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, is_sent: bool) -> bool {
    let at = SIGNALS.iter().position(|(known, _)| *known == signal);
    let before = at.and_then(|at| BEFORE.get(at)).and_then(OnceLock::get);
    let before = before.filter(|before| before.sa_sigaction != libc::SIG_DFL);
    let Some(before) = before else {
        // SAFETY: as in `install`.
        let _ = set(signal, &unsafe { mem::zeroed() });
        // It comes when this handler returns, which ends the process.
        // SAFETY: takes a number.
        unsafe { libc::raise(signal) };
        return false;
    };
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: who set it has said that it is such a function.
        let handle: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { mem::transmute(before.sa_sigaction) };
        handle(signal, info, context);
    } else {
        // SAFETY: as above.
        let handle: extern "C" fn(c_int) = unsafe { mem::transmute(before.sa_sigaction) };
        handle(signal);
    }
    let now = current(signal).map_or(libc::SIG_DFL, |now| now.sa_sigaction);
    if now == libc::SIG_DFL && is_sent {
        // Unlike a fault, it does not come again by itself.
        // SAFETY: takes a number.
        unsafe { libc::raise(signal) };
    }
    // Who gives a signal back to the system has not handled it.
    now == address()
}

/// Empties the files again: nobody has died.
fn take_back() {
    find::<()>(|entry| {
        // SAFETY: takes a descriptor, which the entry keeps open, and a number.
        unsafe { libc::ftruncate(entry.file.descriptor(), 0) };
        None
    });
    WRITTEN.store(NOTHING, Ordering::SeqCst);
}

/// What is known of a signal and the thread that it came to.
struct Fault {
    name: &'static str,
    cause: Cause,
    /// It was sent, by this process or another one, and is not the answer to an instruction.
    is_sent: bool,
    instruction: usize,
    frame: Option<usize>,
    /// The books of the library that has started the thread.
    starter: Option<usize>,
}

impl Fault {
    /// # Safety
    /// The arguments are those of a signal handler with `SA_SIGINFO` that has not returned.
    unsafe fn new(signal: c_int, info: *const siginfo_t, context: *const c_void) -> Self {
        let name = SIGNALS.iter().find(|(known, _)| *known == signal);
        // SAFETY: the caller's to promise.
        let (instruction, stack) = unsafe { registers(context) };
        // SAFETY: as above.
        let info = unsafe { &*info };
        let is_sent = info.si_code <= 0;
        // SAFETY: takes nothing.
        let own = unsafe { libc::getpid() };
        let cause = if is_sent {
            // SAFETY: signals that are sent tell by whom.
            match unsafe { info.si_pid() } {
                // A thread aborts by sending itself a signal.
                sender if sender == own => Cause::Code,
                sender => Cause::Sent(u32::try_from(sender).unwrap_or_default()),
            }
        } else {
            // SAFETY: those that are not tell where the fault was.
            let address = unsafe { info.si_addr() }.addr();
            let is_near = address.abs_diff(stack) < STACK_REACH;
            match signal {
                libc::SIGSEGV | libc::SIGBUS if is_near => Cause::StackOverflow,
                _ => Cause::Code,
            }
        };
        Self {
            name: name.map_or("", |(_, name)| name),
            cause,
            is_sent,
            instruction,
            frame: seats::innermost_here(),
            starter: follow::starter_here(),
        }
    }

    /// Finds whose code it was, and writes that into the home of its host, or into all homes.
    fn write(&self) {
        if !matches!(self.cause, Cause::Sent(_)) {
            let by = |matches: &dyn Fn(&Whose) -> bool| {
                find(|entry| {
                    let whose = entry.whose.as_ref().filter(|whose| matches(whose))?;
                    self.write_into(entry, Some(whose));
                    Some(())
                })
            };
            let found = by(&|whose| whose.library.contains(&self.instruction)).or_else(|| {
                match (self.frame, self.starter) {
                    (Some(frame), _) => by(&|whose| whose.servings.contains(&frame)),
                    (None, Some(starter)) => by(&|whose| whose.followed == starter),
                    (None, None) => None,
                }
            });
            if found.is_some() {
                return;
            }
        }
        find::<()>(|entry| {
            if entry.whose.is_none() {
                self.write_into(entry, None);
            }
            None
        });
    }

    fn write_into(&self, entry: &Entry, whose: Option<&Whose>) {
        let mut line = Line::new();
        line.field(self.name.as_bytes());
        line.number(now());
        match whose {
            Some(whose) => {
                let skill = self.frame.and_then(|frame| whose.skill(frame));
                line.field(whose.plugin.as_bytes());
                line.number(whose.generation);
                line.field(whose.artifact.as_bytes());
                line.field(skill.unwrap_or_default().as_bytes());
            }
            None => {
                line.field(b"");
                line.number(0);
                line.field(b"");
                line.field(b"");
            }
        }
        line.cause(self.cause);
        // SAFETY: takes nothing.
        let thread = unsafe { libc::gettid() };
        line.number(u64::try_from(thread).unwrap_or_default());
        let mut name = [0_u8; 16];
        // SAFETY: the system writes at most 16 bytes there.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let length = name.iter().position(|&byte| byte == 0);
        line.field(name.get(..length.unwrap_or(name.len())).unwrap_or_default());
        line.write(entry.file.descriptor());
    }
}

/// Returns the time in seconds since 1970.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or_default()
}

/// Returns the instruction and the stack pointer of what was interrupted; zeros where they are not
/// known.
///
/// # Safety
/// `context` is what the system has passed to a signal handler that has not returned.
#[cfg(target_arch = "x86_64")]
unsafe fn registers(context: *const c_void) -> (usize, usize) {
    // SAFETY: the caller's to promise.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |index: c_int| {
        let index = usize::try_from(index).ok()?;
        let value = registers.get(index)?.cast_unsigned();
        usize::try_from(value).ok()
    };
    (
        register(libc::REG_RIP).unwrap_or_default(),
        register(libc::REG_RSP).unwrap_or_default(),
    )
}

#[cfg(target_arch = "aarch64")]
unsafe fn registers(context: *const c_void) -> (usize, usize) {
    // SAFETY: the caller's to promise.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    let register = |value: u64| usize::try_from(value).unwrap_or_default();
    (register(machine.pc), register(machine.sp))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn registers(_: *const c_void) -> (usize, usize) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::loader::crash::{CrashFile, Listed, parse};

    /// Names the file of the process that [`dies_after_a_handled_signal`] runs in.
    const FILE: &str = "AIGIS_TEST_CRASH_FILE";

    static HANDLED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_: c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }

    /// Handlers are the process's: this runs in one of its own, and does nothing in any other.
    #[test]
    fn dies_after_a_handled_signal() {
        let Some(path) = std::env::var_os(FILE) else {
            return;
        };
        let path = Path::new(&path);
        // SAFETY: as in `install`.
        let mut embedders: sigaction = unsafe { mem::zeroed() };
        let function: extern "C" fn(c_int) = count;
        embedders.sa_sigaction = function as libc::sighandler_t;
        set(libc::SIGTRAP, &embedders).expect("is set");
        let file = CrashFile::create(path).expect("is made");
        let _listed = Listed::host(&file);
        install().expect("is installed");
        for handled in 1..=2 {
            // SAFETY: takes a number.
            unsafe { libc::raise(libc::SIGTRAP) };
            assert_eq!(HANDLED.load(Ordering::SeqCst), handled);
            assert_eq!(std::fs::read(path).expect("is there"), b"", "nobody died");
        }
        std::process::abort();
    }

    #[test]
    fn what_another_handler_handles_is_no_death() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("crash");
        let output = Command::new(std::env::current_exe().expect("has a path"))
            .args(["dies_after_a_handled_signal", "--test-threads=1"])
            .env(FILE, &path)
            .output()
            .expect("runs");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let record = std::fs::read(&path).expect("is there");
        let death = parse(&record).expect("is a record").expect("is not empty");
        assert_eq!(
            (death.signal.as_str(), death.cause),
            ("SIGABRT", Cause::Code)
        );
        assert_eq!(death.culprit, None);
        assert!(death.tid > 0);
    }
}
