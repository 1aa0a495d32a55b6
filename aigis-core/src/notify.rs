//! What a core says to the service manager that has started it: the datagrams of `sd_notify`.
//!
//! systemd's library is not needed for it: a message is one datagram of lines `NAME=value` to the socket that the
//! environment names.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The variables by which a service manager speaks to the one process that it has started. What that one starts itself
/// does not get them.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How long a word may wait for a manager that does not read: nothing in a core may hang because of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest status in bytes; systemd shows one line of it.
const MAX_STATUS: usize = 512;

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
    watchdog: Option<Duration>,
    stage: Mutex<Stage>,
}

/// What the manager was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Stopping,
}

/// Why there is no way to the service manager although the environment names one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// It is no address of a local socket.
    #[error(
        "NOTIFY_SOCKET is `{0}`; expected an absolute path, or `@` and the name of an abstract socket"
    )]
    Address(String),
    /// The system refuses.
    #[error("the service manager at `{address}` cannot be reached")]
    Socket { address: String, source: io::Error },
}

impl Notifier {
    /// Finds the way that this process's environment names; none if no service manager has started it.
    ///
    /// # Errors
    /// The environment names something else than a local socket, or the system refuses one.
    pub(crate) fn from_environment() -> Result<Option<Self>, NotifyError> {
        Self::of(|name| std::env::var_os(name), std::process::id())
    }

    fn of(
        variable: impl Fn(&str) -> Option<OsString>,
        pid: u32,
    ) -> Result<Option<Self>, NotifyError> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let shown = || address.to_string_lossy().into_owned();
        let failed = |source| NotifyError::Socket {
            address: shown(),
            source,
        };
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&address),
            _ => return Err(NotifyError::Address(shown())),
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // It may be meant for a process that has started this one.
        let is_own = match variable("WATCHDOG_PID") {
            Some(_) => number("WATCHDOG_PID") == Some(pid.into()),
            None => true,
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let watchdog = number("WATCHDOG_USEC").filter(|&time| is_own && time > 0);
        Ok(Some(Self {
            socket,
            manager: manager.map_err(failed)?,
            watchdog: watchdog.map(Duration::from_micros),
            stage: Mutex::new(Stage::Starting),
        }))
    }

    /// How often the manager wants to hear that the core answers; none if it does not ask.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says that everything has come up as far as it will, and which process is the core.
    pub(crate) fn ready(&self) {
        // After a word of the end, none of the beginning.
        if self.enter(Stage::Ready) {
            self.send("READY=1");
        }
    }

    /// Says which process is the core: the next one, when it takes over from this one.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.send(format_args!("MAINPID={pid}"));
    }

    /// Says how things are, in one line.
    pub(crate) fn status(&self, status: &str) {
        let mut end = status.len().min(MAX_STATUS);
        while !status.is_char_boundary(end) {
            end -= 1;
        }
        // A line end would begin another message.
        let line: String = status[..end]
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.send(format_args!("STATUS={line}"));
    }

    /// Says that the config is read anew; [`reloaded`](Self::reloaded) ends it.
    pub(crate) fn reloading(&self) {
        if self.is(Stage::Ready) {
            let now = clock_gettime(ClockId::Monotonic);
            // Newer managers tell by the time which READY belongs to it.
            let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
            self.send(format_args!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
    }

    /// Says that the config has been read.
    pub(crate) fn reloaded(&self) {
        if self.is(Stage::Ready) {
            self.send("READY=1");
        }
    }

    /// Says that the core is on its way down.
    pub(crate) fn stopping(&self) {
        if self.enter(Stage::Stopping) {
            self.send("STOPPING=1");
        }
    }

    /// Says that the core answers.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn is(&self, stage: Stage) -> bool {
        *self.stage.lock().unwrap_or_else(|held| held.into_inner()) == stage
    }

    /// Goes on to a stage; false if it has been there or further.
    fn enter(&self, next: Stage) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(|held| held.into_inner());
        let is_next = matches!(
            (*stage, next),
            (Stage::Starting, _) | (Stage::Ready, Stage::Stopping)
        );
        if is_next {
            *stage = next;
        }
        is_next
    }

    fn send(&self, message: impl Display) {
        // A manager that is gone, or does not listen, is no reason to do anything else.
        let _ = self
            .socket
            .send_to_addr(message.to_string().as_bytes(), &self.manager);
    }
}

/// Tells whether a variable is one by which a service manager speaks to this process alone.
pub(crate) fn is_own(variable: &OsStr) -> bool {
    VARIABLES.iter().any(|name| variable == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Notifier>, NotifyError> {
        let found = |name: &str| {
            let pair = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(pair.1))
        };
        Notifier::of(found, PID)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 2048];
        let length = socket.recv(&mut bytes).expect("a datagram comes");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn listen(address: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(address).expect("is free");
        let most = Duration::from_secs(60);
        socket.set_read_timeout(Some(most)).expect("is not zero");
        socket
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        assert!(of(&[]).expect("is no mistake").is_none());
        let empty = of(&[("NOTIFY_SOCKET", "")]).expect("is no mistake");
        assert!(empty.is_none());
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("aigis-notify-{}", std::process::id());
        let named = [
            (
                SocketAddr::from_pathname(&path).expect("is short"),
                path.to_str().expect("is text").to_owned(),
            ),
            (
                SocketAddr::from_abstract_name(&name).expect("is short"),
                format!("@{name}"),
            ),
        ];
        for (address, variable) in named {
            let manager = listen(&address);
            let notifier = of(&[("NOTIFY_SOCKET", &variable)])
                .expect("is reached")
                .expect("is named");
            notifier.status("two\nlines");
            assert_eq!(received(&manager), "STATUS=two lines");
            // Not before it is ready.
            notifier.reloading();
            notifier.main_pid(12);
            assert_eq!(received(&manager), "MAINPID=12");
            notifier.ready();
            assert_eq!(received(&manager), "READY=1");
            notifier.reloading();
            let reloading = received(&manager);
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            assert!(
                time.is_some_and(|time| time.parse::<u64>().is_ok()),
                "{reloading}"
            );
            notifier.reloaded();
            assert_eq!(received(&manager), "READY=1");
            notifier.alive();
            assert_eq!(received(&manager), "WATCHDOG=1");
            notifier.stopping();
            assert_eq!(received(&manager), "STOPPING=1");
            // Neither again, nor back.
            notifier.stopping();
            notifier.ready();
            notifier.reloading();
            notifier.status(&"ä".repeat(MAX_STATUS));
            let status = received(&manager);
            assert_eq!(status, format!("STATUS={}", "ä".repeat(MAX_STATUS / 2)));
        }
    }

    #[test]
    fn a_manager_that_is_gone_harms_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nobody");
        let notifier = of(&[("NOTIFY_SOCKET", path.to_str().expect("is text"))]);
        notifier.expect("is an address").expect("is named").ready();
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deaf");
        let deaf = UnixDatagram::bind(&path).expect("is free");
        // As full as it gets.
        let filler = UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("is possible");
        while filler.send_to(b"full", &path).is_ok() {}
        let notifier = of(&[("NOTIFY_SOCKET", path.to_str().expect("is text"))]);
        notifier.expect("is an address").expect("is named").ready();
        drop(deaf);
    }

    #[test]
    fn other_addresses_are_named() {
        for address in ["vsock:2:1234", "run/notify"] {
            let error = of(&[("NOTIFY_SOCKET", address)]).expect_err("is no local socket");
            assert!(error.to_string().contains(address), "{error}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(of(&[("NOTIFY_SOCKET", &long)]).is_err());
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let socket = ("NOTIFY_SOCKET", "/run/notify");
        let time = ("WATCHDOG_USEC", "3000000");
        let asked = |more: &[(&str, &str)]| {
            let all = [&[socket], more].concat();
            of(&all).expect("an address").expect("is named").watchdog()
        };
        let three = Some(Duration::from_secs(3));
        assert_eq!(asked(&[time]), three);
        assert_eq!(asked(&[time, ("WATCHDOG_PID", "4711")]), three);
        assert_eq!(asked(&[time, ("WATCHDOG_PID", "12")]), None);
        assert_eq!(asked(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(asked(&[("WATCHDOG_USEC", "often")]), None);
        assert_eq!(asked(&[]), None);
    }
}
