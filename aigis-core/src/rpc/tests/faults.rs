//! Clients that break the rules lose their session, and nobody else notices.

use aigis_plugin_api::Value;

use super::*;

/// A session is refused with `expected` after it has sent `bytes`, and a bystander is served on.
fn check(bytes: &[u8], expected: &str) {
    let core = Core::start();
    let bystander = core.connect();
    let mut raw = core.raw();
    raw.try_send(bytes);
    raw.assert_refused(expected);
    assert_eq!(echo(&bystander, "still here"), "still here");
    core.assert_alive();
}

/// A connection that starts with `bytes` is refused with `expected`.
fn check_first(bytes: &[u8], expected: &str) {
    let core = Core::start();
    let mut raw = core.stranger();
    raw.try_send(bytes);
    raw.assert_refused(expected);
    core.assert_alive();
}

fn plain(kind: Kind, call: u64, body: &[u8]) -> Vec<u8> {
    frame::frame(kind, call, 0, body).expect("a frame")
}

fn header(len: u32, kind: u8) -> Vec<u8> {
    let mut bytes = plain(Kind::Call, 1, &[]);
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4] = kind;
    bytes
}

fn greeting(change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    let mut hello = hello();
    change(&mut hello);
    frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("a frame")
}

#[test]
fn unknown_kinds_and_giant_lengths() {
    check(&header(0, 0), "this one of kind 0");
    check(&header(0, 13), "this one of kind 13");
    check(&header(0, 20), "this one of kind 20");
    check(&header(0, 127), "this one of kind 127");
    // The highest bit says that the body is attached.
    check(&header(0, 128), "this one of kind 0");
    check(&header(0, 255), "this one of kind 127");
    check(&header(u32::MAX, Kind::Call as u8), "its body has");
    check(&header((1 << 30) + 1, Kind::Call as u8), "its body has");
    check(&header(1 << 21, Kind::Import as u8), "at most 1048576");
    check(&header(1 << 20, Kind::Cancel as u8), "at most 65536");
}

#[test]
fn kinds_that_only_the_core_sends() {
    check(&plain(Kind::Welcome, 0, &[]), "Welcome");
    check(&plain(Kind::Served, 0, &[0x80]), "Served");
    check(&plain(Kind::Ring, 0, &[]), "Ring");
    check(&plain(Kind::Page, 0, &[]), "Page");
    check(&plain(Kind::Library, 0, &[0x80]), "Library");
    check(&greeting(|_| ()), "a second hello");
}

#[test]
fn bodies_that_are_not_what_they_should_be() {
    check(&plain(Kind::Call, 1, &[]), "malformed frame");
    check(&plain(Kind::Call, 1, b"\xc1garbage"), "malformed frame");
    check(&plain(Kind::Call, 1, &[0x81; 5000]), "malformed frame");
    check(&plain(Kind::Call, 1, &[0x91; 60_000]), "malformed frame");
    check(&plain(Kind::Import, 0, &[0x80]), "malformed frame");
    check(&call_of(1, 0, Target::Import(0), ()), "names import 0");
    let mut trailing = import(0, "t.echo", signature("a"));
    push(&mut trailing, 0xc0);
    check(&trailing, "malformed frame");
    check(
        &import(1 << 32, "t.echo", signature("a")),
        "an import's number is below 2^32",
    );
}

/// Makes a frame's body one byte longer.
fn push(frame_bytes: &mut Vec<u8>, byte: u8) {
    frame_bytes.push(byte);
    let len = u32::try_from(frame_bytes.len() - frame::HEADER).expect("short");
    frame_bytes[..4].copy_from_slice(&len.to_le_bytes());
}

/// The arguments are read by whoever is called.
#[test]
fn arguments_that_are_malformed_fail_their_call_alone() {
    let core = Core::start();
    let mut raw = core.raw();
    let mut trailing = call(1, 0, "t.wait", ("a",));
    push(&mut trailing, 0xc0);
    let garbage = Call {
        target: Target::Name("t.later"),
        arguments: &[0xc1; 1000],
    };
    let deep = Call {
        target: Target::Name("t.wait"),
        arguments: &[0x91; 60_000],
    };
    let frames = [
        trailing,
        garbage.frame(2, 0).expect("a frame"),
        deep.frame(3, 0).expect("a frame"),
    ];
    for (number, bytes) in (1..).zip(frames) {
        raw.send(&bytes);
        assert_eq!(raw.read_failure(number).kind, FailureKind::Arguments);
    }
    raw.send(&call(4, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 4);
}

/// Nobody waits for them, but somebody may have.
#[test]
fn answers_to_calls_that_nobody_made_are_passed_over() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&plain(Kind::Reply, 1, &[0xc0]));
    raw.send(&plain(Kind::Error, 1, &[0xc0]));
    raw.send(&plain(Kind::Error, 2, &vec![0xc0; 2 << 20]));
    raw.send(&plain(Kind::Look, 0, &[]));
    raw.send(&call(1, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 1);
}

#[test]
fn an_error_about_the_session_ends_it() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&plain(
        Kind::Error,
        0,
        &failure(FailureKind::Refused).encode(),
    ));
    assert!(raw.read().is_none());
    core.wait_for_end();
    core.assert_alive();
}

/// The rules that `docs/protocol-vectors.json` breaks.
#[test]
fn rules_of_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol-vectors.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors = Value::from_json(&text).expect("the vectors are JSON");
    let broken = vectors.get("broken_rules").and_then(Value::as_list);
    let broken = broken.expect("a list of broken rules");
    assert!(broken.len() > 5);
    for vector in broken {
        let hex = vector.get("hex").and_then(Value::as_str).expect("bytes");
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        let core = Core::start();
        let mut raw = core.stranger();
        raw.try_send(&bytes);
        let failure = loop {
            let (header, body) = raw.read().expect("a refusal");
            if header.kind != Kind::Welcome {
                assert_eq!((header.kind, header.call), (Kind::Error, 0), "{vector}");
                break Failure::decode(&body);
            }
        };
        let reason = vector.get("reason").and_then(Value::as_str);
        assert_eq!(reason, Some("refused"), "{vector}");
        assert_eq!(failure.kind, FailureKind::Refused, "{vector}");
        assert!(raw.read().is_none(), "{vector}");
        core.assert_alive();
    }
}

#[test]
fn signatures_nested_too_deeply() {
    let mut shape = Shape::Unit;
    for _ in 0..40 {
        shape = Shape::Option(Box::new(shape));
    }
    let encoded = codec::to_vec(&shape).expect("a deep shape");
    // What repeats for each level stands at the front.
    let level = &encoded[..(encoded.len() - codec::to_vec(&Shape::Unit).expect("unit").len()) / 40];
    let mut body = vec![0x82, 0xa4];
    body.extend_from_slice(b"name\xa1x\xa9signature\x82\xa6result");
    for _ in 0..50_000 {
        body.extend_from_slice(level);
    }
    check(&plain(Kind::Import, 0, &body), "inside one another");
}

#[test]
fn calls_with_numbers_that_are_wrong() {
    check(&call(0, 0, "t.echo", ()), "numbered from 1");
    let mut twice = call(5, 0, "t.wait", ("a",));
    twice.extend(call(5, 0, "t.wait", ("a",)));
    check(&twice, "a call of number 5 is waiting already");
}

#[test]
fn an_import_that_was_not_announced() {
    let mut bytes = import(0, "t.expects", signature("a"));
    bytes.extend(import(2, "t.expects", signature("b")));
    bytes.extend(call_of(1, 0, Target::Import(1), ()));
    check(&bytes, "a call names import 1, which there is not");
}

#[test]
fn too_many_imports() {
    let few = Limits {
        imports: 2,
        ..Limits::default()
    };
    let short = Limits {
        import_bytes: 300,
        ..Limits::default()
    };
    for limits in [few, short] {
        let core = Core::within(limits);
        let mut raw = core.raw();
        for (number, parameter) in [(0, "a"), (0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")] {
            raw.try_send(&import(number, "t.echo", signature(parameter)));
        }
        raw.assert_refused("this one imports more");
        core.assert_alive();
    }
}

#[test]
fn greetings_that_are_wrong() {
    check_first(
        &greeting(|hello| hello.magic = "AEGIS".to_owned()),
        "expected the magic \"AIGIS\" in the hello, found \"AEGIS\"",
    );
    check_first(
        &greeting(|hello| hello.protocol = (PROTOCOL.0 + 1, 0)),
        "this core speaks protocol 1.0, the client speaks 2.0",
    );
    check_first(
        &greeting(|hello| hello.client = "x".repeat(64 << 10)),
        "at most 65536 are allowed here",
    );
    check_first(
        &greeting(|hello| hello.token = Some("stolen".to_owned())),
        "the token stolen is not known",
    );
    check_first(&call(1, 0, "t.echo", ()), "expected a hello");
    check_first(&plain(Kind::Hello, 0, b"\xc1"), "malformed frame");
    check_first(&header(1 << 20, Kind::Hello as u8), "at most 65536");
    check_first(&header(1 << 20, Kind::Call as u8), "at most 65536");
    check_first(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "malformed");
}

#[test]
fn a_later_minor_protocol_is_welcome() {
    let core = Core::start();
    let mut raw = core.stranger();
    raw.send(&greeting(|hello| hello.protocol = (PROTOCOL.0, 999)));
    assert_eq!(raw.read().expect("a welcome").0.kind, Kind::Welcome);
}

#[test]
fn the_library_reports_a_refusal() {
    let core = Core::within(Limits {
        sessions: 1,
        ..Limits::default()
    });
    let first = core.connect();
    let error = connect(&core.home).expect_err("it is crowded");
    assert!(error.to_string().contains("1 sessions already"), "{error}");
    assert_eq!(echo(&first, "alive"), "alive");
}

#[test]
fn those_who_say_nothing_take_nobodys_place() {
    let core = Core::within(Limits {
        sessions: 2,
        strangers: 3,
        ..Limits::default()
    });
    // Of too many the oldest have to go, whoever comes.
    let mut silent: Vec<Raw> = (0..5).map(|_| core.stranger()).collect();
    let _speaks = core.connect();
    let mut stay = silent.split_off(3);
    for refused in silent {
        refused.assert_refused("found none while 3 others wait");
    }
    // Those who speak late are let in as well, as long as there are sessions to be had.
    stay[1].send(&greeting(|_| ()));
    assert_eq!(stay[1].read().expect("a welcome").0.kind, Kind::Welcome);
    stay[0].send(&greeting(|_| ()));
    let failure = stay[0].read_failure(0);
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert!(failure.message.contains("2 sessions already"), "{failure}");
}

#[test]
fn a_client_without_a_greeting_is_sent_away() {
    let core = Core::within(Limits {
        greeting: Duration::from_millis(20),
        ..Limits::default()
    });
    core.stranger().assert_refused("expected a hello within");
    let mut slow = core.stranger();
    slow.send(&greeting(|_| ())[..10]);
    slow.assert_refused("expected a hello within");
}

#[test]
fn frames_that_are_cut_off() {
    let core = Core::start();
    let bystander = core.connect();
    let whole = call(1, 0, "t.wait", ("never",));
    for len in 0..whole.len() {
        let mut raw = core.raw();
        raw.send(&whole[..len]);
        raw.hang_up();
        core.wait_for_end();
    }
    let hello = greeting(|_| ());
    for len in 0..hello.len() {
        let mut raw = core.stranger();
        raw.send(&hello[..len]);
        raw.hang_up();
    }
    // The claim of a body that never comes costs nothing.
    let mut waiting: Vec<Raw> = (0..20).map(|_| core.raw()).collect();
    for raw in &mut waiting {
        raw.send(&header(1 << 30, Kind::Call as u8));
        raw.send(&[0; 1000]);
    }
    assert_eq!(echo(&bystander, "still here"), "still here");
}

#[test]
fn frames_that_arrive_byte_by_byte() {
    let core = Core::start();
    let mut raw = core.raw();
    for byte in call(1, 0, "t.left", ()) {
        raw.send(&[byte]);
    }
    assert_eq!(raw.read_text().0, 1);
}

/// The same bytes on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[test]
fn noise() {
    let core = Core::start();
    let bystander = core.connect();
    let mut noise = Noise(0x5eed_0000_0000_0001);
    let seeds = [
        call(1, 5, "t.echo", ("a", 1, vec![1_u8, 2, 3])),
        import(0, "t.echo", signature("a")),
        call_of(1, 5, Target::Import(0), ("a",)),
        greeting(|_| ()),
        cancel(1),
    ];
    for round in 0..300 {
        let mut raw = if round % 2 == 0 {
            core.stranger()
        } else {
            core.raw()
        };
        let seed = &seeds[round / 2 % seeds.len()];
        let bytes = if round % 3 == 0 {
            noise.bytes(200)
        } else {
            // A frame that is nearly right.
            let mut bytes = seed.clone();
            for _ in 0..3 {
                let place = noise.next() as usize % bytes.len();
                bytes[place] = noise.bytes(1)[0];
            }
            bytes
        };
        raw.try_send(&bytes);
        // Whatever it was, the client leaves, and the core has no more to wait for.
        raw.hang_up();
    }
    assert_eq!(echo(&bystander, "still here"), "still here");
    core.assert_alive();
}
