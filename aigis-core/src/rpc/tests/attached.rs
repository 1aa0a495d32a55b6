//! Bodies in memory of their own.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

use super::*;

/// A long body.
const LARGE: usize = 512 << 10;
const SEALED: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Memory with these bytes and seals.
fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("body", flags).expect("there is memory");
    let written = rustix::io::pwrite(&memory, bytes, 0);
    assert_eq!(written, Ok(bytes.len()));
    rustix::fs::fcntl_add_seals(&memory, seals).expect("it can be sealed");
    memory
}

/// The header of a frame, and its body apart.
fn apart(whole: &[u8]) -> (Vec<u8>, &[u8]) {
    let (header, body) = whole.split_at(frame::HEADER);
    let mut header = header.to_vec();
    frame::attach(&mut header, body.len());
    (header, body)
}

/// A call of `t.echo` whose reply has a body of `len` bytes.
fn echo_of(number: u64, len: usize) -> Vec<u8> {
    // In an array of one, behind a length of 32 bits.
    call(number, 0, "t.echo", ("x".repeat(len - 6),))
}

#[test]
fn attached_bodies_are_read_and_answered_in_the_stream() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::ATTACHED]);
    for (number, len) in (1..).zip([100_000, LARGE, 9 << 20]) {
        let whole = echo_of(number, len);
        let (header, body) = apart(&whole);
        raw.send_with(&header, &[&memory(body, SEALED)]);
        let (header, answer) = raw.read_any().expect("an answer");
        assert_eq!((header.kind, header.call), (Kind::Reply, number));
        assert!(!header.attached, "{len}");
        assert_eq!(answer.len(), len);
        assert!(whole.ends_with(&answer));
    }
    // Frames before and behind, in one message.
    let whole = echo_of(11, LARGE);
    let (header, body) = apart(&whole);
    let frames = [call(10, 0, "t.left", ()), header, call(12, 0, "t.left", ())];
    raw.send_with(&frames.concat(), &[&memory(body, SEALED)]);
    let answered: HashSet<u64> = (0..3)
        .map(|_| raw.read_any().expect("an answer").0.call)
        .collect();
    assert_eq!(answered, HashSet::from([10, 11, 12]));
}

#[test]
fn threads_of_the_library_send_large_values_at_once() {
    let core = Core::start();
    let session = core.connect();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let session = session.clone();
            scope.spawn(move || {
                for round in 0..6 {
                    let len = LARGE - 20 + (thread + 4 * round) * 777_777;
                    let text: String =
                        std::iter::repeat_n(["a", "b", "c", "d"][thread], len).collect();
                    assert_eq!(echo(&session, &text), text);
                }
            });
        }
    });
}

/// A session ends with `expected` when it has sent this frame with these descriptors, and nobody else
/// notices.
fn check(bytes: &[u8], sent_along: &[&OwnedFd], expected: &str) {
    let core = Core::start();
    let bystander = core.connect();
    let mut raw = core.raw_with(&[feature::ATTACHED]);
    raw.send(&call(1, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 1);
    raw.send_with(bytes, sent_along);
    raw.assert_refused(expected);
    assert_eq!(echo(&bystander, "still here"), "still here");
    core.assert_alive();
}

#[test]
fn memory_that_is_not_as_it_should_be() {
    let whole = echo_of(2, 1000);
    let (header, body) = apart(&whole);
    check(&header, &[], "should come in a descriptor, none came");
    let sealed = "must be sealed against any change";
    check(&header, &[&memory(body, SealFlags::empty())], sealed);
    for missing in SEALED {
        let seals = SEALED.difference(missing);
        check(&header, &[&memory(body, seals)], sealed);
    }
    let lacks_a_byte = memory(&body[1..], SEALED);
    let lengths = format!(
        "should hold {} bytes, it holds {}",
        body.len(),
        body.len() - 1
    );
    check(&header, &[&lacks_a_byte], &lengths);
    check(&header, &[&memory(&[], SEALED)], "it holds 0");
    let too_long = memory(&[body, &[0]].concat(), SEALED);
    check(&header, &[&too_long], "should hold");
    // What is no memory at all.
    let file = tempfile::tempfile().expect("a file");
    check(&header, &[&file.into()], sealed);
    let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
    check(&header, &[&pipe], sealed);
}

#[test]
fn more_descriptors_than_frames() {
    let whole = echo_of(2, 1000);
    let (header, body) = apart(&whole);
    let memory = memory(body, SEALED);
    let many = [&memory; 40];
    check(&header, &many, "more descriptors came than frames with one");
    let core = Core::start();
    let mut raw = core.raw();
    for number in 1..50 {
        // Nothing asks for these.
        raw.send_with(&call(number, 0, "t.left", ()), &[&memory]);
        if matches!(raw.read(), Some((header, _)) if header.kind == Kind::Error) {
            return;
        }
    }
    panic!("the core keeps all of them");
}

#[test]
fn kinds_that_are_never_attached() {
    let body = codec::to_vec(&Import {
        name: "t.echo".to_owned(),
        signature: signature("a"),
        portable: false,
    })
    .expect("encodes");
    for kind in [Kind::Import, Kind::Cancel, Kind::Goodbye] {
        let mut header = frame::frame(kind, 1, 0, &[]).expect("a frame");
        frame::attach(&mut header, body.len());
        let expected = format!("a body of kind {kind:?} is never attached");
        check(&header, &[&memory(&body, SEALED)], &expected);
    }
}
