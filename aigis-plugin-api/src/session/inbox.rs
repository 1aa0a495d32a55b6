//! What comes in on a connection: bytes, put together to frames.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recv, recvmsg,
};

use super::attached;
use super::frame::{HEADER, Header, Kind, MAX_BODY, malformed};
use crate::error::Failure;

/// How much is read at once.
const READ: usize = 64 << 10;
/// From this size on the rest of a body is read straight into its place.
const STRAIGHT: usize = 32 << 10;
/// How many times of what has come of a body there may be room for. Memory that is not written to costs
/// nothing, and to move what has come costs time.
const AHEAD: usize = 16;
/// How many descriptors may wait for the frames they belong to: that of a frame whose header is still on
/// its way, and that of the next.
const DESCRIPTORS: usize = 2;

thread_local! {
    /// What is read goes here first, so that a connection without traffic needs no memory for it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A frame that has come in whole.
#[derive(Debug)]
pub struct Received {
    /// Its header.
    pub header: Header,
    /// Its body, from wherever it was.
    pub body: Vec<u8>,
    /// The descriptor that came with it, where the body is not what lies in it.
    pub descriptor: Option<OwnedFd>,
}

/// What a look at the socket has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Bytes, and there may be more.
    Some,
    /// Nothing, for now.
    Nothing,
    /// The other side has closed the connection.
    Closed,
}

/// The longest body that is taken, by its header; `false` before the other side has been let in.
pub type Longest = fn(Header, bool) -> usize;

/// The reading half of a connection; whoever has it reads.
pub(super) struct Inbox {
    longest: Longest,
    /// The other side has been let in.
    greeted: bool,
    /// The beginning of a frame.
    rest: Vec<u8>,
    /// A frame whose body is on its way.
    begun: Option<(Header, Vec<u8>)>,
    frames: VecDeque<Received>,
    descriptors: VecDeque<OwnedFd>,
}

impl Inbox {
    pub(super) fn new(longest: Longest) -> Self {
        Self {
            longest,
            greeted: false,
            rest: Vec::new(),
            begun: None,
            frames: VecDeque::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// Reads what is there; if it `waits`, also what comes within the socket's own limit.
    ///
    /// # Errors
    /// What is malformed. Frames before it have come in.
    pub(super) fn look(
        &mut self,
        socket: &UnixStream,
        waits: bool,
        greeted: bool,
    ) -> Result<Look, Failure> {
        self.greeted = greeted;
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !waits);
        if let Some((header, body)) = &mut self.begun
            && header.len - body.len() >= STRAIGHT
        {
            // Grows as the bytes arrive: a header alone costs its sender nothing and must cost us
            // nothing.
            let most = (header.len - body.len()).min(body.len().max(READ) * AHEAD);
            if body.capacity() - body.len() < most {
                body.reserve_exact(most);
            }
            let look = match recv(socket, spare_capacity(body), flags) {
                Ok((0, _)) => Look::Closed,
                Ok(_) => Look::Some,
                Err(errno) => nothing(errno),
            };
            return self.finish_begun().map(|()| look);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(scratch)];
            let read = match recvmsg(socket, &mut parts, &mut ancillary, flags) {
                Ok(message) if message.bytes == 0 => return Ok(Look::Closed),
                Ok(message) => message,
                Err(errno) => return Ok(nothing(errno)),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(sent) = message {
                    self.descriptors.extend(sent);
                }
            }
            if read.flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > DESCRIPTORS {
                return Err(malformed("more descriptors came than frames with one"));
            }
            self.take(&scratch[..read.bytes]).map(|()| Look::Some)
        })
    }

    /// Tells whether the next frame that is whole is a call.
    pub(super) fn begins_with_call(&self) -> bool {
        let first = self.frames.front();
        first.is_some_and(|frame| frame.header.kind == Kind::Call)
    }

    /// Returns the next frame that is whole.
    pub(super) fn next(&mut self) -> Option<Received> {
        self.frames.pop_front()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if let Some((header, body)) = &mut self.begun {
                let (of_body, after) = bytes.split_at(bytes.len().min(header.len - body.len()));
                body.extend_from_slice(of_body);
                bytes = after;
                self.finish_begun()?;
                continue;
            }
            let missing = HEADER - self.rest.len();
            let (of_header, after) = bytes.split_at(bytes.len().min(missing));
            bytes = after;
            self.rest.extend_from_slice(of_header);
            if let Ok(header) = <&[u8; HEADER]>::try_from(&self.rest[..]) {
                let header = Header::parse(header)?;
                self.rest.clear();
                self.begin(header, bytes.len())?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: Header, here: usize) -> Result<(), Failure> {
        let (len, kind) = (header.len, header.kind);
        let most = (self.longest)(header, self.greeted).min(MAX_BODY);
        if len > most {
            return Err(malformed(format_args!(
                "the body of a frame of kind {kind:?} has {len} bytes, at most {most} are allowed here"
            )));
        }
        if header.attached {
            if !matches!(kind, Kind::Call | Kind::Reply | Kind::Error) {
                return Err(malformed(format_args!(
                    "a body of kind {kind:?} is never attached"
                )));
            }
            let memory = self.descriptors.pop_front().ok_or_else(|| {
                malformed("a frame's body should come in a descriptor, none came")
            })?;
            let body = attached::read(&memory, len)?;
            self.frames.push_back(Received {
                header,
                body,
                descriptor: None,
            });
            return Ok(());
        }
        self.begun = Some((header, Vec::with_capacity(len.min(here.max(READ)))));
        self.finish_begun()
    }

    fn finish_begun(&mut self) -> Result<(), Failure> {
        if let Some((header, body)) = self
            .begun
            .take_if(|(header, body)| body.len() >= header.len)
        {
            let descriptor = match header.kind {
                Kind::Ring | Kind::Page | Kind::Library => self.descriptors.pop_front(),
                _ => None,
            };
            self.frames.push_back(Received {
                header,
                body,
                descriptor,
            });
        }
        Ok(())
    }
}

/// What a look ends with that the system has refused.
fn nothing(errno: Errno) -> Look {
    match io::Error::from(errno).kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Look::Nothing,
        _ => Look::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(|_, _| MAX_BODY)
    }

    #[test]
    fn frames_are_put_together_from_any_pieces() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut inbox = inbox();
        let mut bytes = Vec::new();
        for number in 1..=3 {
            let body = vec![7; 10 * number];
            bytes.extend(frame::frame(Kind::Reply, number as u64, 0, &body).expect("is short"));
        }
        for piece in bytes.chunks(5) {
            rustix::io::write(&far, piece).expect("is written");
            assert_eq!(inbox.look(&near, false, true), Ok(Look::Some));
        }
        let frames: Vec<_> = std::iter::from_fn(|| inbox.next()).collect();
        let seen = frames
            .iter()
            .map(|frame| (frame.header.call, frame.body.len()));
        assert_eq!(seen.collect::<Vec<_>>(), [(1, 10), (2, 20), (3, 30)]);
        assert_eq!(inbox.look(&near, false, true), Ok(Look::Nothing));
        drop(far);
        assert_eq!(inbox.look(&near, false, true), Ok(Look::Closed));
    }

    #[test]
    fn a_long_body_is_read_as_it_comes() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let body: Vec<u8> = (0..3_000_000_u32).map(|byte| byte as u8).collect();
        let bytes = frame::frame(Kind::Reply, 1, 0, &body).expect("is allowed");
        let writer = std::thread::spawn(move || {
            let mut far = far;
            io::Write::write_all(&mut far, &bytes).expect("is read");
        });
        let mut inbox = inbox();
        let frame = loop {
            if let Some(frame) = inbox.next() {
                break frame;
            }
            if inbox.look(&near, false, true).expect("is well-formed") == Look::Nothing {
                std::thread::yield_now();
            }
        };
        assert!(frame.body == body);
        writer.join().expect("no panic");
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_comes() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut inbox = Inbox::new(|_, _| 10);
        let bytes = frame::frame(Kind::Call, 1, 0, &[0; 11]).expect("is allowed");
        rustix::io::write(&far, &bytes[..HEADER]).expect("is written");
        let failure = inbox.look(&near, false, true).expect_err("is too long");
        assert!(
            failure.message.contains("11 bytes, at most 10"),
            "{failure}"
        );
    }
}
