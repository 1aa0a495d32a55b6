//! What is on its way to the other side of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// How many parts go to the system at once.
const BATCH: usize = 32;
/// How many bytes one turn writes at least before it lets others in, if the other side reads that fast.
const TURN: usize = 4 << 20;

/// A frame on its way.
#[derive(Debug, Default)]
pub(super) struct Packet {
    /// The header, and the body or the beginning of it.
    pub(super) head: Vec<u8>,
    /// The rest of the body, where it lay already.
    pub(super) tail: Vec<u8>,
    /// What is sent along with the first byte.
    pub(super) descriptor: Option<OwnedFd>,
}

impl Packet {
    /// A frame whose body, or the rest of it, lies apart from its header.
    pub(super) fn new(head: Vec<u8>, tail: Vec<u8>) -> Self {
        Self {
            head,
            tail,
            descriptor: None,
        }
    }

    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

impl From<Vec<u8>> for Packet {
    fn from(head: Vec<u8>) -> Self {
        Self {
            head,
            ..Self::default()
        }
    }
}

/// The frames that wait to be written.
///
/// Whoever has a frame writes it on the spot if nothing waits before it and the system takes it, which
/// spares the wake-up of another thread; what is left is written when the other side has read. So
/// nobody ever waits for the other side.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    closed: bool,
    packets: VecDeque<Packet>,
    /// How much of the first one is written.
    written: usize,
    /// What is left of all.
    bytes: usize,
    /// When the other side has last read something, as far as that can be known.
    progress: Instant,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing is left.
    All,
    /// So many bytes are left until the other side reads.
    Left(usize),
    /// The connection is closed.
    Closed,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                closed: false,
                packets: VecDeque::new(),
                written: 0,
                bytes: 0,
                progress: Instant::now(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame, now or when the other side reads. Never waits; after the end it does nothing.
    pub(super) fn push(&self, socket: &UnixStream, packet: Packet) -> Written {
        let mut queue = self.lock();
        queue.push(socket, packet);
        queue.state()
    }

    /// Writes what waits, as far as the system takes it.
    pub(super) fn flush(&self, socket: &UnixStream) -> Written {
        let mut queue = self.lock();
        queue.write(socket);
        queue.state()
    }

    /// What waits, and since when the other side has read nothing of it.
    pub(super) fn state(&self) -> (Written, Instant) {
        let queue = self.lock();
        (queue.state(), queue.progress)
    }

    /// Sends a last frame, if it is not empty and the system takes it now; nothing comes after it. Forgets
    /// what waits.
    pub(super) fn close(&self, socket: &UnixStream, last: Vec<u8>) {
        let gone = {
            let mut queue = self.lock();
            if !last.is_empty() {
                queue.push(socket, last.into());
            }
            queue.closed = true;
            queue.bytes = 0;
            std::mem::take(&mut queue.packets)
        };
        drop(gone);
    }
}

impl Queue {
    fn state(&self) -> Written {
        match self.bytes {
            _ if self.closed => Written::Closed,
            0 if self.packets.is_empty() => Written::All,
            left => Written::Left(left),
        }
    }

    fn push(&mut self, socket: &UnixStream, packet: Packet) {
        if self.closed {
            return;
        }
        let first = self.packets.is_empty();
        self.bytes += packet.len();
        self.packets.push_back(packet);
        if first {
            self.progress = Instant::now();
            self.write(socket);
        }
    }

    /// Writes as much as the system takes now, for one turn.
    fn write(&mut self, socket: &UnixStream) {
        let mut done = 0;
        while !self.closed && done < TURN {
            let Some(first) = self.packets.front() else {
                return;
            };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let sent_along = first.descriptor.as_ref().map(|fd| [fd.as_fd()]);
            if let Some(sent_along) = &sent_along {
                ancillary.push(SendAncillaryMessage::ScmRights(sent_along));
            }
            let mut slices = [IoSlice::new(&[]); BATCH];
            let mut count = 0;
            let mut skip = self.written;
            for (place, packet) in self.packets.iter().enumerate() {
                // What comes with a descriptor begins a message of its own.
                if count + 2 > BATCH || (place > 0 && packet.descriptor.is_some()) {
                    break;
                }
                for part in [&packet.head, &packet.tail] {
                    let left = part.get(skip.min(part.len())..).unwrap_or_default();
                    skip -= part.len() - left.len();
                    if !left.is_empty() {
                        slices[count] = IoSlice::new(left);
                        count += 1;
                    }
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket, &slices[..count], &mut ancillary, flags) {
                Ok(written) => {
                    done += written;
                    self.advance(written);
                }
                Err(errno) => match io::Error::from(errno).kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.closed = true;
                        self.packets.clear();
                        self.bytes = 0;
                    }
                },
            }
        }
    }

    fn advance(&mut self, written: usize) {
        self.progress = Instant::now();
        self.bytes = self.bytes.saturating_sub(written);
        self.written += written;
        if let Some(first) = self.packets.front_mut() {
            // It has gone with the first byte.
            first.descriptor = None;
        }
        while let Some(first) = self.packets.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.packets.pop_front();
        }
    }
}
