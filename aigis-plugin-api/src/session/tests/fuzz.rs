//! The bodies of the fuzz targets. Each returns whether what it was given was well-formed, so that a
//! test can tell that it has come to both; whatever else must be so is asserted.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::frame::{
    Call, Credit, HEADER, Header, Hello, Import, Kind, Library, Offer, Open, Served, Welcome,
};
use super::super::inbox::{Inbox, Look, Received};
use super::super::ring::{CAPACITIES, Corrupt, Ring};
use crate::codec::{self, Value};
use crate::error::Failure;
use crate::signature::{Signature, differences};

/// The body of a frame: its kind in the first byte, then what a side reads as such a body.
pub fn body(bytes: &[u8]) -> bool {
    let Some((&kind, body)) = bytes.split_first() else {
        return false;
    };
    match Kind::try_from(kind) {
        Ok(Kind::Hello) => stays::<Hello>(body).is_some(),
        Ok(Kind::Welcome) => stays::<Welcome>(body).is_some(),
        Ok(Kind::Import) => {
            let import = stays::<Import>(body);
            if let Some(import) = &import {
                look_at(&import.signature, &import.signature);
            }
            import.is_some()
        }
        Ok(Kind::Served) => stays::<Served>(body).is_some(),
        Ok(Kind::Offer) => {
            let offer = stays::<Offer>(body);
            for pair in offer.iter().flat_map(|offer| offer.skills.windows(2)) {
                look_at(&pair[0].signature, &pair[1].signature);
            }
            offer.is_some()
        }
        Ok(Kind::Call) => {
            let Ok(call) = Call::read(body) else {
                return false;
            };
            let again = call.frame(7, 8).expect("it came in a frame");
            assert_eq!(Call::read(&again[HEADER..]), Ok(call));
            true
        }
        Ok(Kind::Open) => {
            let Ok(open) = Open::read(body) else {
                return false;
            };
            let again = open.head(7, None, 0).expect("it came in a frame");
            assert_eq!(Open::read(&again[HEADER..]), Ok(open));
            true
        }
        Ok(Kind::More) => stays::<Credit>(body).is_some(),
        Ok(Kind::Library) => stays::<Library>(body).is_some(),
        Ok(Kind::Error | Kind::End) => {
            // Read as far as it can be: there is always something to tell.
            let failure = Failure::decode(body);
            assert!(!failure.to_string().is_empty());
            let again = Failure::decode(&failure.encode());
            assert_eq!(again.encode(), failure.encode());
            stays::<Failure>(body).is_some()
        }
        _ => false,
    }
}

/// What is done with the signatures of a client.
fn look_at(one: &Signature, other: &Signature) {
    let _ = differences(one, other);
    let _ = (one.id(), one.to_string());
}

/// Reads a value; what was read can be written, and then reads as the same.
fn stays<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let value: T = match codec::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let encoded = codec::to_vec(&value).expect("it was read");
    let again: T = codec::from_slice(&encoded).expect("it was written");
    // By their bytes: a NaN is not equal to itself.
    assert_eq!(codec::to_vec(&again).expect("it was read"), encoded);
    Some(value)
}

/// A value without a type, also as JSON, and as some types that have forms of their own.
pub fn value(bytes: &[u8]) -> bool {
    type Large = (Option<Option<u8>>, i128, u128, char, [u16; 3]);
    #[derive(Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Line {
            from: (f32, f32),
            to: Option<Vec<i16>>,
        },
    }
    stays::<Vec<f64>>(bytes);
    stays::<Vec<u16>>(bytes);
    stays::<Large>(bytes);
    stays::<BTreeMap<String, Vec<Shape>>>(bytes);
    stays::<Option<String>>(bytes);
    let Some(value) = stays::<Value>(bytes) else {
        return false;
    };
    let again = Value::from_json(&value.to_string()).expect("JSON of our own");
    assert_eq!(
        codec::to_vec(&again).expect("it was read"),
        codec::to_vec(&value).expect("it was read"),
        "{value}"
    );
    true
}

/// The first bytes say in which pieces the others come, and what comes along with each.
const PLAN: usize = 8;

/// What comes over a connection. The frames are those that are in the bytes, whatever the pieces; no
/// descriptor stays open.
pub fn stream(bytes: &[u8]) -> bool {
    let Some((plan, mut left)) = bytes.split_first_chunk::<PLAN>() else {
        return false;
    };
    let greeted = plan[0] & 1 == 0;
    let (near, far) = UnixStream::pair().expect("a connection");
    let (ours, theirs) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&ours, true).expect("a pipe");
    let mut inbox = Inbox::new(longest);
    let (mut frames, mut outcome) = (Vec::new(), Ok(Look::Some));
    let mut descriptors = false;
    for piece in plan.iter().cycle() {
        let (now, later) = left.split_at(left.len().min(1 + usize::from(piece >> 2)));
        left = later;
        if now.is_empty() {
            far.shutdown(Shutdown::Write).expect("it is connected");
        } else {
            SEALED.with(|sealed| match piece & 3 {
                2 => send(&far, now, &[theirs.as_fd(), theirs.as_fd()]),
                3 => send(&far, now, &[sealed.get_or_init(sealed_memory).as_fd()]),
                _ => send(&far, now, &[]),
            });
            descriptors |= piece & 3 > 1;
        }
        outcome = inbox.look(&near, false, greeted);
        frames.extend(std::iter::from_fn(|| inbox.next()));
        if outcome != Ok(Look::Some) {
            break;
        }
    }
    for frame in &frames {
        assert_eq!(frame.body.len(), frame.header.len);
        assert!(frame.header.len <= longest(frame.header, greeted));
    }
    let well_formed = match &outcome {
        Ok(look) => {
            assert_eq!(*look, Look::Closed);
            true
        }
        Err(failure) => {
            assert!(
                failure.message.starts_with("malformed frame: "),
                "{failure}"
            );
            false
        }
    };
    if !descriptors {
        compare(&frames, well_formed, &bytes[PLAN..], greeted);
    }
    drop((frames, inbox, theirs));
    // A process that another test starts may have a copy for the moment before it becomes what it is.
    let long = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&long));
    let end = rustix::io::read(&ours, &mut [0; 1]);
    assert_eq!(end, Ok(0), "what was sent along is closed");
    well_formed
}

fn longest(header: Header, greeted: bool) -> usize {
    match header.kind {
        _ if !greeted => 64,
        Kind::Call | Kind::Reply => 1 << 20,
        _ => 1 << 10,
    }
}

thread_local! {
    static SEALED: OnceCell<OwnedFd> = const { OnceCell::new() };
}

/// A body that may be attached.
fn sealed_memory() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("aigis-body", flags).expect("memory");
    assert_eq!(rustix::io::write(&memory, &[0x90; 16]), Ok(16));
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).expect("it can be sealed");
    memory
}

fn send(far: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let parts = [std::io::IoSlice::new(bytes)];
    match rustix::net::sendmsg(far, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
        // Pieces are short.
        Ok(sent) => assert_eq!(sent, bytes.len()),
        Err(errno) => assert_eq!(errno, Errno::TOOMANYREFS),
    }
}

/// Reads the bytes in one go, and another way.
fn compare(found: &[Received], well_formed: bool, mut bytes: &[u8], greeted: bool) {
    let mut expected = Vec::new();
    let mut whole = true;
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let header = match Header::parse(header) {
            Ok(header) if header.len <= longest(header, greeted) && !header.attached => header,
            _ => {
                whole = false;
                break;
            }
        };
        let Some((body, rest)) = rest.split_at_checked(header.len) else {
            break;
        };
        expected.push((header, body));
        bytes = rest;
    }
    assert_eq!(well_formed, whole);
    let found = found.iter().map(|frame| (frame.header, &frame.body[..]));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

/// A shared ring whose memory another process writes to as it likes: what the bytes say is done, one
/// after the other.
pub fn ring(bytes: &[u8]) -> bool {
    const CAPACITY: usize = *CAPACITIES.start();
    let (here, memory) = Ring::create(CAPACITY).expect("memory");
    let there = Ring::adopt(memory.try_clone().expect("a descriptor")).expect("it is a ring");
    let mut shared = Play {
        ends: [here, there],
        sent: Default::default(),
        memory,
        honest: true,
        corrupt: [None; 4],
    };
    let mut steps = bytes;
    while let Some((&step, rest)) = steps.split_first() {
        steps = rest;
        let mut number = |len: usize| {
            let (now, later) = steps.split_at(steps.len().min(len));
            steps = later;
            let mut bytes = [0; 8];
            bytes[..now.len()].copy_from_slice(now);
            u64::from_le_bytes(bytes)
        };
        let end = usize::from(step >> 7);
        match step & 7 {
            0 => shared.push(end, number(2) as usize % (CAPACITY / 2)),
            1 | 2 => shared.pop(end),
            3 => shared.attend(end),
            // The indices of both lanes, with something near to what is there.
            4 => {
                let place = 128 * (1 + usize::from(step >> 3) % 6);
                let near = shared.load(place).wrapping_add(number(2));
                shared.store(place, near.wrapping_sub(1 << 15));
            }
            5 => shared.store(128 * (1 + usize::from(step >> 3) % 6), number(8)),
            // A word anywhere: in the header, in the lanes.
            6 => {
                let place = number(2) as usize % ((4096 + 2 * CAPACITY) / 8) * 8;
                shared.store(place, number(8));
            }
            // The length of the message that is to be taken next.
            _ if step & 8 != 0 => {
                let lane = usize::from(step >> 4 & 1);
                let consumed = shared.load(128 * (2 + 3 * lane)) as usize % CAPACITY / 8 * 8;
                shared.store(4096 + lane * CAPACITY + consumed, number(2));
            }
            _ => {
                let adopted = Ring::adopt(shared.memory.try_clone().expect("a descriptor"));
                if let Err(error) = adopted {
                    assert!(!shared.honest && !error.to_string().is_empty());
                }
            }
        }
    }
    shared.corrupt.iter().all(Option::is_none)
}

/// Both ends of a ring, and what was put there.
struct Play {
    ends: [Ring; 2],
    /// What each end has put that the other has not taken.
    sent: [VecDeque<Vec<u8>>; 2],
    memory: OwnedFd,
    /// Nobody else has written there.
    honest: bool,
    /// What the writing and the reading side of each end have found.
    corrupt: [Option<Corrupt>; 4],
}

impl Play {
    fn push(&mut self, end: usize, len: usize) {
        let message: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        let (first, second) = message.split_at(len / 3);
        let ring = &self.ends[end];
        match ring.push(&[first, second]) {
            Ok(Some(position)) => {
                assert!(len <= ring.longest());
                assert!(!self.honest || !ring.is_taken(position));
                self.sent[end].push_back(message);
            }
            Ok(None) => assert!(len > ring.longest() || !self.sent[end].is_empty() || !self.honest),
            Err(corrupt) => self.found(end, corrupt),
        }
    }

    fn pop(&mut self, end: usize) {
        let mut message = vec![1];
        let popped = self.ends[end].pop(&mut message);
        assert!(message.len() <= self.ends[end].longest());
        match popped {
            Ok(true) if self.honest => assert_eq!(self.sent[1 - end].pop_front(), Some(message)),
            Ok(false) if self.honest => assert!(self.sent[1 - end].is_empty()),
            Ok(_) => {}
            Err(corrupt) => {
                assert!(message.is_empty());
                self.found(2 + end, corrupt);
            }
        }
        if let Some(corrupt) = self.corrupt[2 + end] {
            assert_eq!(popped, Err(corrupt), "nothing comes out any more");
        }
    }

    fn attend(&mut self, end: usize) {
        let ring = &self.ends[end];
        ring.attend();
        let attended = self.ends[1 - end].is_attended();
        let there = self.ends[end].leave();
        if self.honest {
            assert!(attended && there != self.sent[1 - end].is_empty());
        }
    }

    fn found(&mut self, place: usize, corrupt: Corrupt) {
        assert!(!self.honest && !corrupt.to_string().is_empty());
        assert_eq!(*self.corrupt[place].get_or_insert(corrupt), corrupt);
    }

    fn load(&self, place: usize) -> u64 {
        let mut word = [0; 8];
        assert_eq!(
            rustix::io::pread(&self.memory, &mut word, place as u64),
            Ok(8)
        );
        u64::from_le_bytes(word)
    }

    fn store(&mut self, place: usize, value: u64) {
        let written = rustix::io::pwrite(&self.memory, &value.to_le_bytes(), place as u64);
        assert_eq!(written, Ok(8));
        self.honest = false;
    }
}

/// A target's name, which is also that of its part of the corpus, and its body.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 4] = [
    ("frame_body", body),
    ("frame_stream", stream),
    ("shared_ring", ring),
    ("value", value),
];
