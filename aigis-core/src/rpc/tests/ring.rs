//! Clients that share memory with the core, and break every rule in it.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use aigis_plugin_api::session::ring::Ring;

use super::*;

/// Where the words lie that both sides write, in bytes: in the lane that the core writes, and in the
/// client's.
const CORE_CONSUMED: u64 = 256;
const CORE_ATTENDING: u64 = 384;
const CLIENT_PRODUCED: u64 = 512;
const CLIENT_ATTENDING: u64 = 768;
/// The bytes of a direction, and where those of the client begin.
const CAPACITY: u64 = 128 << 10;
const CLIENT_WORDS: u64 = 4096 + CAPACITY;

/// A client with a ring, and the memory of it to write anything there.
struct Sharing {
    raw: Raw,
    ring: Ring,
    memory: OwnedFd,
    last: u64,
    /// The calls that have not been answered yet.
    waiting: HashSet<u64>,
}

impl Core {
    /// Lets a client in and calls back to back until the core shares memory with it.
    fn share(&self) -> Sharing {
        let mut raw = self.raw_with(&[feature::RING]);
        let begin = Instant::now();
        let mut last = 1;
        let mut waiting = HashSet::from([1]);
        raw.send(&call(last, 0, "t.left", ()));
        let memory = loop {
            assert!(begin.elapsed() < PATIENCE, "it is never offered");
            // The next call is there as soon as one is answered.
            last += 1;
            waiting.insert(last);
            raw.send(&call(last, 0, "t.left", ()));
            let (header, body) = raw.read().expect("an answer, or memory");
            if header.kind == Kind::Ring {
                assert!(body.is_empty());
                break raw.descriptor();
            }
            assert_eq!(header.kind, Kind::Reply);
            assert!(waiting.remove(&header.call));
        };
        let again = memory.try_clone().expect("a second handle");
        let ring = Ring::adopt(memory).expect("it is as it should be");
        let mut sharing = Sharing {
            raw,
            ring,
            memory: again,
            last,
            waiting,
        };
        // What was on its way; from here on every answer is to a call that a test makes.
        sharing.settle(self);
        sharing
    }
}

impl Sharing {
    /// Waits for the answers to everything that was sent before.
    fn settle(&mut self, core: &Core) {
        self.last += 1;
        let last = self.last;
        self.waiting.insert(last);
        self.raw.send(&call(last, 0, "t.left", ()));
        while !self.waiting.is_empty() {
            let (header, _) = self.answer();
            assert!(self.waiting.remove(&header.call), "{header:?}");
        }
        self.raw.settle(core, &format!("settled {last}"));
    }

    fn push(&mut self, frame: &[u8]) {
        let pushed = self
            .ring
            .push(&[frame])
            .expect("the core keeps to the rules");
        assert!(pushed.is_some(), "there is room");
    }

    fn look(&mut self) {
        let look = frame::frame(Kind::Look, 0, 0, &[]).expect("a frame");
        self.raw.try_send(&look);
    }

    /// What comes next, by whichever way; only the socket tells of an end.
    fn answer(&mut self) -> (Header, Vec<u8>) {
        if let Some(answer) = self.pop() {
            return answer;
        }
        self.raw.read().expect("an answer")
    }

    /// What comes next by the ring.
    fn pop(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut frame = Vec::new();
        let found = self.ring.pop(&mut frame);
        found.expect("the core keeps to the rules").then(|| {
            let header = frame.first_chunk().expect("a whole header");
            let header = Header::parse(header).expect("a header");
            let body = frame.split_off(frame::HEADER);
            assert_eq!(header.len, body.len());
            (header, body)
        })
    }

    /// Writes into the memory what no ring writes.
    fn scribble(&mut self, at: u64, bytes: &[u8]) {
        let written = rustix::io::pwrite(&self.memory, bytes, at);
        assert_eq!(written, Ok(bytes.len()));
    }
}

/// A session ends with `expected` after `break_it`, and nobody else notices.
fn check(expected: &str, break_it: impl FnOnce(&mut Sharing)) {
    let core = Core::start();
    let bystander = core.connect();
    let mut sharing = core.share();
    break_it(&mut sharing);
    sharing.look();
    sharing.raw.assert_refused(expected);
    assert_eq!(echo(&bystander, "still here"), "still here");
    core.assert_alive();
}

#[test]
fn calls_and_answers_go_through_the_memory() {
    let core = Core::start();
    let mut sharing = core.share();
    // Whoever attends is answered there.
    sharing.ring.attend();
    for number in 0..200 {
        sharing.last += 1;
        let (last, key) = (sharing.last, format!("{number}"));
        sharing.push(&call(last, 0, "t.echo", (&key,)));
        if !sharing.ring.is_attended() || number % 7 == 0 {
            sharing.look();
        }
        let begin = Instant::now();
        let (header, body) = loop {
            if let Some(answer) = sharing.pop() {
                break answer;
            }
            if !sharing.ring.is_attended() {
                // It may have left before it was there.
                sharing.look();
            }
            assert!(begin.elapsed() < PATIENCE, "no answer comes");
            thread::yield_now();
        };
        assert_eq!((header.kind, header.call), (Kind::Reply, last));
        let (answer,): (String,) = codec::from_slice(&body).expect("an echo");
        assert_eq!(answer, key);
    }
    // Whoever does not is answered on the socket.
    sharing.ring.leave();
    sharing.last += 1;
    let last = sharing.last;
    sharing.push(&call(last, 0, "t.left", ()));
    sharing.look();
    assert_eq!(sharing.raw.read_text().0, last);
}

#[test]
fn memory_is_not_shared_with_a_client_that_does_not_take_it() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::ATTACHED]);
    raw.send(&call(1, 0, "t.left", ()));
    let answered: HashSet<u64> = (2..2000)
        .map(|number| {
            raw.send(&call(number, 0, "t.left", ()));
            raw.read_text().0
        })
        .collect();
    assert_eq!(answered.len(), 1998);
}

#[test]
fn indices_that_cannot_be() {
    let wrongly = "the shared memory was written to wrongly";
    for produced in [u64::MAX, 1, 1 << 40, 1 << 63] {
        check(wrongly, |sharing| {
            sharing.scribble(CLIENT_PRODUCED, &produced.to_ne_bytes());
        });
    }
    for length in [u64::MAX, CAPACITY, CAPACITY / 4 + 1, 100] {
        check(wrongly, |sharing| {
            // Whatever was written there before, all of it starts with such a length.
            let words = length.to_ne_bytes().repeat(CAPACITY as usize / 8);
            sharing.scribble(CLIENT_WORDS, &words);
            let mut produced = [0; 8];
            let read = rustix::io::pread(&sharing.memory, &mut produced[..], CLIENT_PRODUCED);
            assert_eq!(read, Ok(8));
            let produced = u64::from_ne_bytes(produced) + 16;
            sharing.scribble(CLIENT_PRODUCED, &produced.to_ne_bytes());
        });
    }
    check(wrongly, |sharing| {
        // It may not be taken back either.
        sharing.push(&cancel(1));
        sharing.look();
        let begin = Instant::now();
        while !sharing.ring.is_taken(8 + 24) {
            assert!(begin.elapsed() < PATIENCE, "nobody takes it");
            thread::yield_now();
        }
        sharing.scribble(CLIENT_PRODUCED, &0_u64.to_ne_bytes());
        // Nothing is ahead of what was taken, which is less than there is room for.
        sharing.scribble(CLIENT_PRODUCED, &8_u64.to_ne_bytes());
    });
}

#[test]
fn frames_that_may_not_be_in_the_memory() {
    check("is cut off", |sharing| sharing.push(&[1, 2, 3]));
    check("is cut off", |sharing| sharing.push(&[]));
    let plain = |kind, body: &[u8]| frame::frame(kind, 1, 0, body).expect("a frame");
    check("than it says", |sharing| {
        let mut call = call(90_000, 0, "t.left", ());
        call.push(0xc0);
        sharing.push(&call);
    });
    check("than it says", |sharing| {
        let mut call = call(90_000, 0, "t.left", ());
        call[..4].copy_from_slice(&u32::MAX.to_le_bytes()[..]);
        call[3] = 0;
        sharing.push(&call);
    });
    check("its body has", |sharing| {
        let mut call = call(90_000, 0, "t.left", ());
        call[..4].copy_from_slice(&u32::MAX.to_le_bytes()[..]);
        sharing.push(&call);
    });
    check("than it says", |sharing| {
        let mut call = call(90_000, 0, "t.left", ());
        call[4] |= frame::ATTACHED;
        sharing.push(&call);
    });
    check("this one of kind 13", |sharing| {
        let mut frame = plain(Kind::Cancel, &[]);
        frame[4] = 13;
        sharing.push(&frame);
    });
    let kinds = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Import,
        Kind::Served,
        Kind::Goodbye,
        Kind::Offer,
        Kind::Ring,
        Kind::Look,
    ];
    for kind in kinds {
        check("only calls and their answers", |sharing| {
            sharing.push(&plain(kind, &[0xc0]));
        });
    }
    check("malformed frame", |sharing| {
        sharing.push(&plain(Kind::Call, b"\xc1"))
    });
    check("numbered from 1", |sharing| {
        sharing.push(&call(0, 0, "t.left", ()))
    });
    check("names import 77", |sharing| {
        sharing.push(&call_of(90_000, 0, Target::Import(77), ()));
    });
    check("is waiting already", |sharing| {
        sharing.push(&call(90_000, 0, "t.wait", ("never",)));
        sharing.push(&call(90_000, 0, "t.wait", ("never",)));
    });
}

/// The same bytes on every run.
fn noise(seed: &mut u64, len: usize) -> Vec<u8> {
    let next = |_| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        seed.to_le_bytes()[3]
    };
    (0..len).map(next).collect()
}

#[test]
fn noise_anywhere_in_the_memory() {
    let core = Core::start();
    let bystander = core.connect();
    let mut seed = 0x5eed_0000_0000_0002;
    for round in 0..20_u64 {
        let mut sharing = core.share();
        for _ in 0..20 {
            let at = noise(&mut seed, 2);
            let at = u64::from(u16::from_le_bytes([at[0], at[1]]));
            let at = match round % 4 {
                0 => at % 1024,
                1 => 4096 + at,
                2 => CLIENT_WORDS + at,
                _ => CLIENT_PRODUCED + at % 24,
            };
            sharing.scribble(at, &noise(&mut seed, 8));
            sharing.last += 1;
            let last = sharing.last;
            let _ = sharing.ring.push(&[&call(last, 0, "t.left", ())]);
            sharing.look();
        }
        // Whatever it was, the client leaves, and the core has no more to wait for.
        sharing.raw.hang_up();
    }
    assert_eq!(echo(&bystander, "still here"), "still here");
    core.assert_alive();
}

/// Each of them asks for all that lie in the memory.
#[test]
fn very_many_cancels() {
    let core = Core::start();
    let mut sharing = core.share();
    let one = cancel(7);
    for _ in 0..20 {
        while sharing.ring.push(&[&one]) != Ok(None) {}
        sharing.look();
    }
    sharing.settle(&core);
}

/// The memory is no way past the limits of a session.
#[test]
fn calls_in_the_memory_take_no_more_than_their_session_may() {
    let core = Core::within(Limits {
        calls_of_session: 20,
        calls_in_all: 100,
        ..Limits::default()
    });
    let mut sharing = core.share();
    let mut sent = HashSet::new();
    loop {
        let number = sharing.last + 1;
        let call = call(number, 0, "t.wait", ("flood",));
        if sent.len() == 1000 || sharing.ring.push(&[&call]) == Ok(None) {
            break;
        }
        sharing.last = number;
        sent.insert(number);
    }
    assert!(sent.len() > 200);
    sharing.look();
    core.wait_for_start("flood");
    for _ in 0..10 {
        core.assert_alive();
    }
    // In the end all of them are answered.
    core.service.open("flood");
    while !sent.is_empty() {
        let (header, body) = sharing.answer();
        assert_eq!(header.kind, Kind::Reply, "{:?}", Failure::decode(&body));
        assert!(sent.remove(&header.call));
    }
}

#[test]
fn a_client_that_attends_and_takes_nothing_is_answered_elsewhere() {
    let core = Core::start();
    let mut sharing = core.share();
    sharing.ring.attend();
    let first = sharing.last + 1;
    let mut writer = sharing.raw.stream.try_clone().expect("a second handle");
    let sender = thread::spawn(move || {
        let frames: Vec<u8> = (first..first + 4000)
            .flat_map(|number| call(number, 0, "t.echo", ("x".repeat(100),)))
            .collect();
        std::io::Write::write_all(&mut writer, &frames).expect("the core reads");
    });
    // More than there is room for in the memory: the rest comes on the socket.
    let mut answered = HashSet::new();
    let (header, _) = sharing.raw.read().expect("an answer");
    answered.insert(header.call);
    let begin = Instant::now();
    while answered.len() < 4000 {
        let (header, _) = match sharing.pop() {
            Some(answer) => answer,
            None if has_bytes(&sharing.raw) => sharing.raw.read().expect("an answer"),
            None => {
                assert!(
                    begin.elapsed() < PATIENCE,
                    "{} are answered",
                    answered.len()
                );
                thread::yield_now();
                continue;
            }
        };
        assert_eq!(header.kind, Kind::Reply);
        assert!(answered.insert(header.call));
    }
    sender.join().expect("no panic");
}

fn has_bytes(raw: &Raw) -> bool {
    let mut byte = [0_u8];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    raw.has_frame() || rustix::net::recv(&raw.stream, &mut byte[..], flags).is_ok()
}

#[test]
fn a_client_that_lies_about_its_attention_harms_itself_alone() {
    let core = Core::start();
    let bystander = core.connect();
    let mut sharing = core.share();
    for lie in [1, u64::MAX, 1 << 63] {
        sharing.scribble(CORE_ATTENDING, &u64::to_ne_bytes(lie));
        sharing.scribble(CLIENT_ATTENDING, &u64::to_ne_bytes(lie));
        sharing.scribble(CORE_CONSUMED, &u64::to_ne_bytes(lie));
        for _ in 0..2000 {
            sharing.last += 1;
            let last = sharing.last;
            sharing.raw.try_send(&call(last, 0, "t.left", ()));
        }
        assert_eq!(echo(&bystander, "still here"), "still here");
    }
    sharing.raw.hang_up();
    core.assert_alive();
}

#[test]
fn a_client_that_takes_the_memory_and_dies() {
    let core = Core::start();
    let bystander = core.connect();
    for round in 0..4 {
        let mut sharing = core.share();
        sharing.ring.attend();
        sharing.last += 1;
        let (last, key) = (sharing.last, format!("orphan {round}"));
        sharing.push(&call(last, 0, "t.wait", (&key,)));
        sharing.look();
        core.wait_for_start(&key);
        if round % 2 == 0 {
            // In the middle of a frame: what is not produced was never there.
            sharing.scribble(CLIENT_WORDS, &[0xff; 64]);
        }
        drop(sharing);
        core.wait_for_end();
        core.service.open(&key);
        core.wait_for(&Event::Finished(key));
        assert_eq!(echo(&bystander, "still here"), "still here");
    }
    core.assert_alive();
}
