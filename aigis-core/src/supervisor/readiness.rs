//! How a plugin tells its shim that it is ready: as `sd_notify` does, by a line on a descriptor of its own, or by what it
//! prints.
//!
//! All of it belongs to one launch: socket, pipe and lines are new with each, so nothing that an earlier one has said can
//! count.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use regex::bytes::Regex;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::linux;
use super::protocol::{
    Event, LaunchFailure, LaunchSpec, NOTIFY_VARIABLE, READY_FD_VARIABLE, ReadySign,
};
use crate::config::readiness::log_pattern;
use crate::logging::{Level, LineSplitter, LogFile};

/// The longest datagram that is read; of a longer one, the start.
const DATAGRAM_BYTES: usize = 4096;

/// How many datagrams are read before outputs and the core have their turn again.
const DATAGRAMS: usize = 64;

/// The most descriptors that the kernel lets one datagram bring.
const MOST_DESCRIPTORS: usize = 253;

/// The longest status that is passed on, in bytes.
const STATUS_BYTES: usize = 512;

/// How long a process that is ending may take from closing its descriptors to being seen to have ended.
const ENDING: Duration = Duration::from_millis(200);

/// How much of what comes before the end of a line is read at a time.
const LINE_BYTES: usize = 512;

/// What a plugin is given so that it can say that it is ready.
#[derive(Debug, Default)]
pub(super) struct Invitation {
    pub(super) variable: Option<(&'static str, String)>,
    /// The descriptor that it inherits.
    pub(super) descriptor: Option<OwnedFd>,
}

/// Listens for a plugin's word that it is ready.
pub(super) struct Readiness {
    ear: Ear,
    news: Vec<Event>,
    is_ready: bool,
    /// When it is told that it cannot say so any more: what is ending closes its descriptors a moment before it is seen
    /// to have ended, and then it is the end that counts.
    never_from: Option<Instant>,
    /// What it has said of itself last.
    status: String,
    /// A stranger's message has been told of already.
    knows_strangers: bool,
}

enum Ear {
    /// Nothing is to be heard, or nothing any more.
    None,
    Notify(OwnedFd),
    Line(OwnedFd),
    Log {
        pattern: Regex,
        lines: Box<[LineSplitter; 2]>,
    },
}

impl Readiness {
    /// Gets ready to listen for what the spec asks for.
    pub(super) fn invite(spec: &LaunchSpec) -> Result<(Readiness, Invitation), LaunchFailure> {
        let mut invitation = Invitation::default();
        let ear = match &spec.ready {
            None => Ear::None,
            Some(ReadySign::Notify) => {
                let name = format!("aigis/{}", spec.invocation);
                let socket = notify_socket(&name).map_err(failure("open the socket for READY"))?;
                invitation.variable = Some((NOTIFY_VARIABLE, format!("@{name}")));
                Ear::Notify(socket)
            }
            Some(ReadySign::Line) => {
                let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
                    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
                    rustix::io::ioctl_fionbio(&ours, true)?;
                    Ok((ours, theirs))
                };
                let (ours, theirs) = pipe().map_err(failure("create the pipe for READY"))?;
                invitation.variable = Some((READY_FD_VARIABLE, theirs.as_raw_fd().to_string()));
                invitation.descriptor = Some(theirs);
                Ear::Line(ours)
            }
            Some(ReadySign::Log(pattern)) => Ear::Log {
                pattern: log_pattern(pattern)
                    .map_err(io::Error::other)
                    .map_err(failure("compile the pattern of READY"))?,
                lines: Box::default(),
            },
        };
        let readiness = Readiness {
            ear,
            news: Vec::new(),
            is_ready: false,
            never_from: None,
            status: String::new(),
            knows_strangers: false,
        };
        Ok((readiness, invitation))
    }

    /// Returns what to wait on.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.ear {
            Ear::Notify(descriptor) | Ear::Line(descriptor) => Some(descriptor.as_fd()),
            Ear::None | Ear::Log { .. } => None,
        }
    }

    /// Returns when there is something to tell, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.never_from
    }

    /// Takes what there is to tell the core; `has_ended` says whether the plugin's leader has.
    pub(super) fn news(&mut self, has_ended: bool) -> Vec<Event> {
        if self
            .never_from
            .is_some_and(|from| has_ended || from <= Instant::now())
        {
            self.never_from = None;
            if !has_ended {
                self.news.push(Event::NeverReady {
                    reason: format!(
                        "it has closed the descriptor that {READY_FD_VARIABLE} names without writing a line to it"
                    ),
                });
            }
        }
        std::mem::take(&mut self.news)
    }

    /// Returns what a core has to know that comes later.
    pub(super) fn known(&self) -> Vec<Event> {
        let ready = self.is_ready.then_some(Event::Ready);
        let status = (!self.status.is_empty()).then(|| Event::Status {
            text: self.status.clone(),
        });
        ready.into_iter().chain(status).collect()
    }

    /// Takes in what the plugin has printed, on its output of this number.
    pub(super) fn printed(&mut self, output: usize, bytes: &[u8]) {
        let Ear::Log { pattern, lines } = &mut self.ear else {
            return;
        };
        let mut matches = false;
        lines[output].push(bytes, |line| {
            let text = line.bytes.strip_suffix(b"\r").unwrap_or(line.bytes);
            matches |= pattern.is_match(text);
        });
        if matches {
            // The pattern and what it took go with it.
            self.ear = Ear::None;
            self.is_ready();
        }
    }

    /// Takes in what has come on the descriptor.
    pub(super) fn read(&mut self, log: &mut LogFile) {
        match &self.ear {
            Ear::Notify(_) => self.read_datagrams(log),
            Ear::Line(_) => self.read_line(),
            Ear::None | Ear::Log { .. } => {}
        }
    }

    fn is_ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            self.news.push(Event::Ready);
        }
    }

    fn read_line(&mut self) {
        let mut buffer = [0; LINE_BYTES];
        loop {
            let Ear::Line(pipe) = &self.ear else {
                return;
            };
            match rustix::io::read(pipe, &mut buffer) {
                Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(count) if buffer[..count].contains(&b'\n') => {
                    self.ear = Ear::None;
                    self.is_ready();
                    return;
                }
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    self.ear = Ear::None;
                    self.never_from = Some(Instant::now() + ENDING);
                    return;
                }
            }
        }
    }

    fn read_datagrams(&mut self, log: &mut LogFile) {
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut status = None;
        for _ in 0..DATAGRAMS {
            let Ear::Notify(socket) = &self.ear else {
                return;
            };
            let (count, sender, _barrier) = match receive(socket, &mut buffer) {
                Ok(received) => received,
                Err(nix::Error::EINTR) => continue,
                // Nothing more, or nothing that can be read.
                Err(_) => break,
            };
            if !sender.is_some_and(|sender| linux::is_descendant(sender.pid())) {
                self.refuse(sender, log);
                continue;
            }
            for line in buffer[..count].split(|&byte| byte == b'\n') {
                match line {
                    b"READY=1" => self.is_ready(),
                    b"STOPPING=1" => {
                        let message = "The plugin says that it is stopping.";
                        log.push(Timestamp::now(), Level::Info, message);
                    }
                    _ => status = line.strip_prefix(b"STATUS=").map(shown).or(status),
                }
            }
        }
        if let Some(text) = status.filter(|text| *text != self.status) {
            self.status.clone_from(&text);
            self.news.push(Event::Status { text });
        }
    }

    /// Tells once of a message that came from somebody else.
    fn refuse(&mut self, sender: Option<UnixCredentials>, log: &mut LogFile) {
        if std::mem::replace(&mut self.knows_strangers, true) {
            return;
        }
        let who = match sender {
            Some(sender) => format!("process {}", sender.pid()),
            None => "an unknown process".to_owned(),
        };
        let message = format!(
            "A message to {NOTIFY_VARIABLE} was dropped: {who} is none of this plugin's, or was gone before that could be \
             seen; `systemd-notify` and `sd_notify_barrier` wait until they have been heard"
        );
        log.push(Timestamp::now(), Level::Warn, message);
    }
}

/// Opens a socket in the abstract namespace, which needs no file and is gone with this process.
fn notify_socket(name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    // The kernel says who has sent, and nobody else can.
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(
        socket.as_raw_fd(),
        &UnixAddr::new_abstract(name.as_bytes())?,
    )?;
    Ok(socket)
}

/// The descriptors that came with a datagram. Closed at the end, they tell whoever waits at a barrier that all before it has
/// been heard; not earlier, since such a process may end then, and could not be seen to be the plugin's any more.
struct Barrier(Vec<RawFd>);

impl Drop for Barrier {
    fn drop(&mut self) {
        for descriptor in self.0.drain(..) {
            // There is nothing that could be done about it.
            let _ = nix::unistd::close(descriptor);
        }
    }
}

/// Reads one datagram, and says who has sent it.
fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> nix::Result<(usize, Option<UnixCredentials>, Barrier)> {
    let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let (mut sender, mut barrier) = (None, Barrier(Vec::new()));
    for one in message.cmsgs()? {
        match one {
            ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
            ControlMessageOwned::ScmRights(descriptors) => barrier.0.extend(descriptors),
            _ => {}
        }
    }
    Ok((message.bytes, sender, barrier))
}

/// Returns a status as it is passed on.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let end = text.floor_char_boundary(STATUS_BYTES.min(text.len()));
    text[..end].trim().to_owned()
}

fn failure(what: &'static str) -> impl Fn(io::Error) -> LaunchFailure {
    move |error| LaunchFailure::System {
        what: what.to_owned(),
        message: error.to_string(),
    }
}
