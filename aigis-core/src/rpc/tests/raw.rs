//! A client that may say anything.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::*;

/// One connection, without a client library.
pub(super) struct Raw {
    pub(super) stream: UnixStream,
    /// What has come in and is no whole frame yet.
    rest: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    /// What the core has told of imports, which comes between other frames.
    pub(super) served: Vec<(u64, Served)>,
    marks: u64,
}

impl Raw {
    pub(super) fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a limit for the test");
        Self {
            stream,
            rest: Vec::new(),
            descriptors: VecDeque::new(),
            served: Vec::new(),
            marks: 1 << 20,
        }
    }

    pub(super) fn say_hello(&mut self, hello: &Hello) {
        self.send(&frame::encode_frame(Kind::Hello, 0, 0, hello).expect("a frame"));
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the core reads");
    }

    /// Sends what the core may refuse to take.
    pub(super) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends bytes, which the system takes at once, with descriptors.
    pub(super) fn send_with(&mut self, bytes: &[u8], sent_along: &[&OwnedFd]) {
        let sent_along: Vec<_> = sent_along.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !sent_along.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&sent_along)));
        }
        let slices = [IoSlice::new(bytes)];
        let sent = sendmsg(&self.stream, &slices, &mut ancillary, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Waits until the core has read everything that was sent before.
    pub(super) fn settle(&mut self, core: &Core, mark: &str) {
        self.marks += 1;
        let mark_number = self.marks;
        self.send(&import(mark_number, mark, signature("mark")));
        core.wait_for(&Event::Imported(mark.to_owned()));
    }

    /// More bytes; `false` at the end.
    fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read = match recvmsg(&self.stream, &mut parts, &mut ancillary, flags) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::AGAIN) => panic!("nothing comes any more"),
            Err(_) => 0,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                self.descriptors.extend(sent);
            }
        }
        self.rest.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// The next frame, whatever it is; none at the end. Its body is read from wherever it is.
    pub(super) fn read_any(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some(bytes) = self.rest.first_chunk() {
                let header = Header::parse(bytes).expect("a header");
                let here = if header.attached { 0 } else { header.len };
                if self.rest.len() >= frame::HEADER + here {
                    let mut body = vec![0; header.len];
                    if header.attached {
                        let memory = self.descriptor();
                        let read = rustix::io::pread(&memory, &mut body[..], 0);
                        assert_eq!(read, Ok(header.len));
                    } else {
                        body.copy_from_slice(&self.rest[frame::HEADER..][..here]);
                    }
                    self.rest.drain(..frame::HEADER + here);
                    return Some((header, body));
                }
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Tells whether a frame has come in already.
    pub(super) fn has_frame(&self) -> bool {
        self.rest.first_chunk().is_some_and(|bytes| {
            let header = Header::parse(bytes).expect("a header");
            self.rest.len() >= frame::HEADER + header.len
        })
    }

    /// A descriptor that came with a frame.
    pub(super) fn descriptor(&mut self) -> OwnedFd {
        self.descriptors.pop_front().expect("a descriptor came")
    }

    /// The next frame that speaks of no import; none at the end.
    pub(super) fn read(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            let (header, body) = self.read_any()?;
            if header.kind != Kind::Served {
                return Some((header, body));
            }
            let served = frame::decode_body(&body).expect("what serves an import");
            self.served.push((header.call, served));
        }
    }

    /// The next frame tells what serves the import of this number.
    pub(super) fn read_served(&mut self, number: u64) -> Served {
        let (header, body) = self.read_any().expect("it is told");
        assert_eq!((header.kind, header.call), (Kind::Served, number));
        frame::decode_body(&body).expect("what serves an import")
    }

    /// The text that answers the next answered call, and its number.
    pub(super) fn read_text(&mut self) -> (u64, String) {
        let (header, body) = self.read().expect("an answer");
        assert_eq!(header.kind, Kind::Reply, "{:?}", Failure::decode(&body));
        let text = codec::from_slice(&body).expect("a text");
        (header.call, text)
    }

    /// The failure of the call `number` comes next.
    pub(super) fn read_failure(&mut self, number: u64) -> Failure {
        let (header, body) = self.read().expect("an answer");
        assert_eq!((header.kind, header.call), (Kind::Error, number));
        Failure::decode(&body)
    }

    /// The session ends with an error that says `expected`.
    pub(super) fn assert_refused(mut self, expected: &str) {
        let failure = self.read_failure(0);
        assert!(
            failure.message.contains(expected),
            "{expected:?} in {:?}",
            failure.message
        );
        assert!(self.read().is_none(), "the connection is closed");
    }

    pub(super) fn hang_up(self) {
        self.stream
            .shutdown(Shutdown::Both)
            .expect("it was connected");
    }
}
