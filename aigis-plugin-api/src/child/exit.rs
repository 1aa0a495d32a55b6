//! How a process has ended.

use std::fmt;

/// How a child has ended.
///
/// ```
/// use aigis_plugin_api::child::Exit;
///
/// assert_eq!(Exit::Code(3).to_string(), "code 3");
/// assert_eq!(Exit::Signal(15).to_string(), "signal 15 (SIGTERM)");
/// assert!(Exit::Code(0).is_success());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// It has returned this code.
    Code(i32),
    /// This signal has ended it.
    Signal(i32),
    /// It has ended, and something else in this process has taken the status away: it ignores SIGCHLD, or it waits for
    /// every child there is.
    Unknown,
}

impl Exit {
    /// Tells whether it has returned 0.
    ///
    /// ```
    /// use aigis_plugin_api::child::Exit;
    ///
    /// assert!(!Exit::Signal(9).is_success());
    /// ```
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// Returns it as one number: the code, or the signal's number below zero; 255 if it is unknown.
    ///
    /// ```
    /// use aigis_plugin_api::child::Exit;
    ///
    /// assert_eq!(Exit::Code(20).as_i32(), 20);
    /// assert_eq!(Exit::Signal(9).as_i32(), -9);
    /// ```
    pub fn as_i32(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal,
            Self::Unknown => 255,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            Self::Unknown => f.write_str("unknown status"),
        }
    }
}

/// Returns a signal's name; those for real time have none of their own.
pub(super) fn signal_name(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal;

    const NAMES: [(Signal, &str); 31] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::STKFLT, "SIGSTKFLT"),
        (Signal::CHILD, "SIGCHLD"),
        (Signal::CONT, "SIGCONT"),
        (Signal::STOP, "SIGSTOP"),
        (Signal::TSTP, "SIGTSTP"),
        (Signal::TTIN, "SIGTTIN"),
        (Signal::TTOU, "SIGTTOU"),
        (Signal::URG, "SIGURG"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::WINCH, "SIGWINCH"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::SYS, "SIGSYS"),
    ];
    let named = NAMES.iter().find(|(named, _)| named.as_raw() == signal);
    named.map(|(_, name)| *name)
}
