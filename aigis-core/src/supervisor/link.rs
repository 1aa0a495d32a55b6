//! A shim's connection to its core.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::linux;
use super::protocol::{
    Command, Event, LaunchFailure, LaunchSpec, PROTOCOL_VERSION, announced_length, decode, encode,
    take_message,
};
use crate::logging::LogFile;

/// How long a core that does not read its events is waited for.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a core that was told of the end may take to close the connection.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the spec. Of another version's spec only the version is understood.
pub(super) fn read_spec(core: &mut UnixStream) -> io::Result<LaunchSpec> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let mut head = [0; 4];
    core.read_exact(&mut head)?;
    let mut body = vec![0; announced_length(head)?];
    core.read_exact(&mut body)?;
    let Versioned { version } = decode(&body)?;
    if version != PROTOCOL_VERSION {
        let failure = LaunchFailure::Version {
            expected: PROTOCOL_VERSION,
            found: version,
        };
        let error = io::Error::other(failure.to_string());
        core.write_all(&encode(&Event::LaunchFailed { failure })?)?;
        return Err(error);
    }
    decode(&body)
}

/// The connection to the core.
pub(super) struct Core {
    socket: UnixStream,
    received: Vec<u8>,
    is_there: bool,
}

impl Core {
    pub(super) fn new(socket: UnixStream) -> io::Result<Core> {
        socket.set_nonblocking(true)?;
        Ok(Core {
            socket,
            received: Vec::new(),
            is_there: true,
        })
    }

    /// Returns whether the core may still have something to say.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// Takes no more commands from the core.
    pub(super) fn give_up(&mut self) {
        self.is_there = false;
    }

    /// Tells the core, even one that has nothing more to say: it may still listen.
    pub(super) fn send(&mut self, event: &Event) {
        if send(&mut self.socket, event).is_err() {
            self.is_there = false;
        }
    }

    /// Takes in what has arrived.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) {
        match self.socket.read(buffer) {
            Ok(0) => self.is_there = false,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => self.is_there = false,
            },
        }
    }

    /// Returns the next command that has arrived in full.
    pub(super) fn next_command(&mut self) -> io::Result<Option<Command>> {
        take_message(&mut self.received)
    }
}

impl AsFd for Core {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where cores come in that have not launched the plugin.
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    pub(super) fn open(path: &Path) -> io::Result<Door> {
        Ok(Door {
            listener: linux::listen(path)?,
            path: path.to_owned(),
        })
    }

    /// Lets in a core of this user; whoever else stands there is sent away.
    pub(super) fn let_in(&self) -> Option<Core> {
        let (socket, _) = self.listener.accept().ok()?;
        if !linux::is_own(&socket) {
            return None;
        }
        Core::new(socket).ok()
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Left behind it would lead nowhere, which a core can tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn send(socket: &mut UnixStream, event: &Event) -> io::Result<()> {
    let frame = encode(event)?;
    let mut rest = &frame[..];
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(socket, PollFlags::OUT)];
                if poll(&mut wait, Some(&timespec(SEND_TIMEOUT)))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Logs the lines that the core has sent before it knew that the plugin was gone: it closes
/// the connection then.
pub(super) fn hear_out(core: &mut Core, log: &mut LogFile, buffer: &mut [u8]) {
    let end = Instant::now() + GOODBYE_TIMEOUT;
    loop {
        while let Ok(Some(command)) = core.next_command() {
            if let Command::Log { level, message } = command {
                log.push(Timestamp::now(), level, message);
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        if !core.is_there || left.is_zero() {
            return;
        }
        let mut wait = [PollFd::new(&core.socket, PollFlags::IN)];
        if poll(&mut wait, Some(&timespec(left))).is_ok_and(|ready| ready > 0) {
            core.receive(buffer);
        }
    }
}

/// Writes a wait for `poll`.
pub(super) fn timespec(duration: Duration) -> Timespec {
    // Rounded up: a wait that ends just before its deadline would be repeated for nothing.
    let duration = duration.saturating_add(Duration::from_millis(1));
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
