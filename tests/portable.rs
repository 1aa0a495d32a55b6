//! Portable skills: their code comes to the caller's process, and follows what the core does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aigis_plugin_api::session::frame::{
    self, Hello, Import, Kind, MAGIC, PROTOCOL, Served, feature,
};
use aigis_plugin_api::session::socket;
use aigis_plugin_api::signature::{Shape, Signature};
use aigis_plugin_api::{CallError, Session, Value, connect, skill_type};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::plugins::{self, INTERNAL, cargo_toml};
use crate::support::{DEADLINE, Deadline, eventually};

const WORDS: &str = include_str!("fixtures/portable/words.rs");
const DESK: &str = include_str!("fixtures/portable/desk.rs");
const READER: &str = include_str!("fixtures/portable/reader.rs");

#[skill_type]
#[derive(Debug)]
enum WordError {
    TooLong { most: u32, found: u32 },
}

aigis_plugin_api::import! {
    mod words {
        #[portable]
        const VERSION: u32;
        #[portable]
        fn pid() -> u32;
        fn home_pid() -> u32;
        #[portable]
        fn add(a: i64, b: i64) -> i64;
        #[portable]
        fn join(first: &str, others: Vec<String>, bytes: &[u8]) -> (String, Vec<u8>);
        #[portable]
        fn letters(text: &str) -> BTreeMap<char, u32>;
        #[portable]
        fn measure(word: &str) -> Result<u32, super::WordError>;
        #[portable]
        fn tear(what: &str) -> u32;
        #[portable]
        fn count() -> u64;
        #[portable]
        fn relay() -> Result<(u32, u32, u32), String>;
        #[portable]
        fn refused() -> String;
        #[portable]
        fn hold(socket: &str) -> (u32, u32);
    }
}

/// The same skills as somebody sees them who does not ask for the code, or asks for other types.
mod others {
    aigis_plugin_api::import! {
        pub(super) mod words {
            fn pid() -> u32;
            #[portable]
            fn add(a: i64, b: i64, c: i64) -> i64;
            #[portable]
            #[skill(rename = "home_pid")]
            fn not_portable() -> u32;
        }
    }
}

fn own() -> u32 {
    std::process::id()
}

/// The source of a version of the plugin, which is told apart by its constant.
fn version(number: u32) -> String {
    WORDS.replace("VERSION: u32 = 1", &format!("VERSION: u32 = {number}"))
}

fn home() -> TestHome {
    let home = TestHome::new();
    plugins::core(&home, "words", WORDS);
    plugins::core(&home, "desk", DESK);
    home.config("[core]\nwords = \"{sources}/words\"\ndesk = \"{sources}/desk\"\n");
    home
}

/// Calls until the code has come; nobody is told of that.
fn is_brought() {
    eventually("the code of words", || {
        let pid = words::pid().expect("is served");
        (pid == own()).then_some(())
    });
}

fn control(session: &Session, what: &str) {
    // Whoever has been compiled for it is here to see that it goes.
    let done: Result<Value, _> = match what {
        "aigis.stop" => session.call_within(what, ("words", true), DEADLINE),
        _ => session.call_within(what, ("words",), DEADLINE),
    };
    done.unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Has the core put another version in the place of the one that serves.
fn reload(session: &Session, home: &TestHome, number: u32) {
    plugins::core(home, "words", &version(number));
    let done: Result<Value, _> = session.call_within("aigis.reload", ("words", true), DEADLINE);
    done.unwrap_or_else(|error| panic!("reload: {error}"));
}

/// Sets a flag at the end, however that comes.
struct AtEnd<'f>(&'f AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_portable_skill_runs_in_its_callers_process() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = home();
    let core = Core::start(&home);
    let session = connect(home.path()).expect("the core runs");
    // The first call of each import cannot know yet where the code is.
    session.scope(|| assert_eq!(words::pid(), Ok(core.pid())));
    session.scope(|| {
        is_brought();
        results(&core);
        failures();
        others_are_called_in_the_core(&core);
    });
    // A thread of its own, in the same scope.
    let other = session.clone();
    let pid = thread::spawn(move || other.scope(words::pid)).join();
    assert_eq!(pid.expect("does not panic"), Ok(own()));
    // Another session brings the code for itself; the library is here already.
    let other = connect(home.path()).expect("the core runs");
    other.scope(|| {
        assert_eq!(words::pid(), Ok(core.pid()));
        is_brought();
    });
    session.scope(|| assert_eq!(words::pid(), Ok(own())));
    // Outside there is nobody to ask, whatever was brought for others.
    assert!(matches!(words::pid(), Err(CallError::NotConnected { .. })));
    drop(session);
    other.scope(|| assert_eq!(words::pid(), Ok(own())));
    // By name it is called where the plugin is.
    assert_eq!(other.call("words.pid", ()), Ok(core.pid()));
}

fn results(core: &Core) {
    // Each import is told by itself; from then on it is the caller's own code.
    eventually("the code of the others", || {
        let here = words::letters("").expect("is served")[&'0'] == own()
            && words::measure("short").expect("is short") == own()
            && words::relay().expect("is served").0 == own();
        here.then_some(())
    });
    assert_eq!(words::VERSION(), Ok(1));
    for number in 0..1000 {
        assert_eq!(words::add(number, -1), Ok(number - 1));
    }
    let others = vec!["b".to_owned(), "c".repeat(100_000)];
    let (text, bytes) = words::join("a", others, &[1, 2, 3]).expect("is served");
    assert_eq!(
        (text.len(), &text[..3], &*bytes),
        (100_002, "abc", &[3, 2, 1][..])
    );
    let letters = words::letters("otto").expect("is served");
    assert_eq!(letters, BTreeMap::from([('0', own()), ('o', 2), ('t', 2)]));
    // What it calls in turn goes through the session of its caller.
    assert_eq!(words::relay(), Ok((own(), core.pid(), core.pid())));
    assert_eq!(words::refused(), Ok("there is no a stamp".to_owned()));
    // Statics are the process's own.
    let here = eventually("the code of a counter", || {
        let first = words::count().expect("is served");
        let next = words::count().expect("is served");
        // In the core the call by name counts as well.
        let by_name: u64 = aigis_plugin_api::call("words.count", ()).expect("is served");
        (by_name <= next).then_some((first, next))
    });
    assert_eq!(here.1, here.0 + 1);
    assert_eq!(words::count(), Ok(here.1 + 1));
}

fn failures() {
    let failed = words::measure("extraordinary");
    let Err(CallError::Skill(WordError::TooLong { most, found })) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!((most, found), (8, 13));
    let here = format!("a page is torn in {}", own());
    let torn = eventually("a panic in this process", || {
        let torn = words::tear("a page");
        matches!(&torn, Err(CallError::Panicked { message, .. }) if *message == here)
            .then_some(torn)
    });
    let Err(CallError::Panicked {
        skill, location, ..
    }) = torn
    else {
        panic!("{torn:?}");
    };
    assert_eq!(skill, "words.tear");
    let location = location.expect("has a place");
    assert!(location.starts_with("src/lib.rs:"), "{location}");
}

fn others_are_called_in_the_core(core: &Core) {
    assert_eq!(words::home_pid(), Ok(core.pid()));
    assert_eq!(others::words::pid(), Ok(core.pid()));
    for _ in 0..20 {
        assert_eq!(others::words::not_portable(), Ok(core.pid()));
        let mismatch = others::words::add(1, 2, 3);
        assert!(
            matches!(mismatch, Err(CallError::Mismatch { .. })),
            "{mismatch:?}"
        );
    }
    let started = words::start::pid().wait(DEADLINE);
    assert_eq!(started.expect("is served"), core.pid());
}

/// A call that is inside, and how to let it go on.
fn hold(listener: &UnixListener) -> UnixStream {
    let (mut inside, _) = listener.accept().expect("the skill connects");
    inside.read_exact(&mut [0]).expect("is inside");
    inside
}

#[test]
fn portable_calls_follow_every_swap() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = home();
    let _core = Core::start(&home);
    let session = connect(home.path()).expect("the core runs");
    let path = home.path().join("gate");
    let gate = path.to_str().expect("is text").to_owned();
    let listener = UnixListener::bind(&path).expect("listens");
    session.scope(is_brought);
    session.scope(|| {
        eventually("the code of hold", || {
            let held = thread::scope(|scope| {
                let held = scope.spawn(|| session.scope(|| words::hold(&gate)));
                hold(&listener).write_all(&[1]).expect("goes on");
                held.join().expect("does not panic").expect("is served")
            });
            assert_eq!(held.0, 1);
            (held.1 == own()).then_some(())
        });
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let held = scope.spawn(|| session.scope(|| words::hold(&gate)));
        let mut inside = hold(&listener);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    session.scope(|| {
                        let mut last = 1;
                        loop {
                            let is_last = done.load(Ordering::Relaxed);
                            let version = words::VERSION().expect("no call fails");
                            assert!(version >= last, "{version} after {last}");
                            last = version;
                            let pid = words::pid().expect("no call fails");
                            assert_ne!(pid, 0);
                            if is_last {
                                return last;
                            }
                        }
                    })
                })
            })
            .collect();
        let end = AtEnd(&done);
        for number in 2..=3 {
            // It is over while the call is inside the first version.
            reload(&session, &home, number);
            session.scope(|| {
                assert_eq!(words::VERSION(), Ok(number), "at once, wherever it runs");
                is_brought();
                assert_eq!(words::VERSION(), Ok(number));
            });
        }
        inside.write_all(&[1]).expect("goes on");
        let held = held.join().expect("does not panic");
        assert_eq!(held, Ok((1, own())));
        drop(end);
        for caller in callers {
            assert_eq!(caller.join().expect("does not panic"), 3);
        }
    });
    stops_and_starts(&session);
}

/// What is stopped is stopped everywhere, and comes back.
fn stops_and_starts(session: &Session) {
    session.scope(|| {
        let counted = words::count().expect("is served");
        control(session, "aigis.stop");
        let gone = words::pid();
        assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
        let gone = words::add(1, 2);
        assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
        control(session, "aigis.start");
        is_brought();
        // The same build is the same library, which was here already.
        let again = eventually("the counter's code", || {
            let again = words::count().expect("is served");
            (again > counted).then_some(again)
        });
        assert_eq!(again, counted + 1);
    });
}

#[test]
fn the_page_of_a_dead_core_is_no_authority() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = home();
    let core = Core::start(&home);
    let session = connect(home.path()).expect("the core runs");
    session.scope(is_brought);
    core.signal("KILL");
    core.died();
    session.scope(|| {
        // Until the session knows that its core is gone; then it waits for the next one, in vain.
        let gone = eventually("a call that finds no core", || words::add(1, 2).err());
        assert!(matches!(gone, CallError::CoreGone { .. }), "{gone:?}");
    });
    let core = Core::start(&home);
    session.scope(|| {
        let pid = eventually("the next core", || words::pid().ok());
        assert!(pid == core.pid() || pid == own(), "{pid}");
        is_brought();
        control(&session, "aigis.stop");
        assert!(matches!(words::pid(), Err(CallError::NotFound { .. })));
    });
}

/// One import serves the sessions of several cores, each with that core's own version.
#[test]
fn what_one_core_has_sent_is_not_called_for_another() {
    let _deadline = Deadline::begin(DEADLINE);
    let homes = [home(), home()];
    plugins::core(&homes[1], "words", &version(2));
    let cores = homes.each_ref().map(Core::start);
    let sessions = homes
        .each_ref()
        .map(|home| connect(home.path()).expect("the core runs"));
    for session in &sessions {
        session.scope(is_brought);
    }
    for _ in 0..100 {
        for (session, number) in sessions.iter().zip(1..) {
            session.scope(|| assert_eq!(words::VERSION(), Ok(number)));
        }
    }
    // Both at a time, each in its own scope.
    thread::scope(|scope| {
        for (session, number) in sessions.iter().zip(1..) {
            scope.spawn(move || {
                for _ in 0..10_000 {
                    session.scope(|| assert_eq!(words::VERSION(), Ok(number)));
                }
            });
        }
    });
    // Scopes inside one another, and out of them again.
    let [one, two] = &sessions;
    one.scope(|| {
        assert_eq!(two.scope(words::VERSION), Ok(2));
        assert_eq!(words::VERSION(), Ok(1));
        control(two, "aigis.stop");
        let gone = two.scope(words::VERSION);
        assert!(matches!(gone, Err(CallError::NotFound { .. })), "{gone:?}");
        assert_eq!((words::VERSION(), words::pid()), (Ok(1), Ok(own())));
    });
    drop(cores);
}

/// Says hello with these features, imports `words.pid` with its code, and returns the kinds of the frames
/// that come up to the one that says what serves it.
fn told(home: &TestHome, features: &[&str]) -> (Vec<Kind>, Served) {
    let path = home.path().join("run/core.sock");
    let mut raw = socket::connect(&path).expect("the core runs");
    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        features: features.iter().map(|&name| name.to_owned()).collect(),
        token: None,
        client: "raw".to_owned(),
        pid: own(),
        imports: vec![Import {
            name: "words.pid".to_owned(),
            signature: Signature {
                parameters: Vec::new(),
                result: Shape::U32,
                error: None,
                constant: false,
            },
            portable: true,
        }],
    };
    let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("a frame");
    frame::write_frame(&mut raw, &hello).expect("is read");
    let mut kinds = Vec::new();
    loop {
        let read = frame::read_frame(&mut raw).expect("is well-formed");
        let (header, body) = read.expect("the session goes on");
        kinds.push(header.kind);
        if header.kind == Kind::Served {
            return (kinds, frame::decode_body(&body).expect("is well-formed"));
        }
    }
}

#[test]
fn code_is_sent_to_clients_of_its_kind_alone() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = home();
    let _core = Core::start(&home);
    for features in [&[][..], &["ring", "portable", "portable-pdp11-unix"]] {
        let (kinds, served) = told(&home, features);
        assert_eq!(kinds, [Kind::Welcome, Kind::Served]);
        assert_eq!(
            (served.plugin.as_deref(), served.portable),
            (Some("words"), None)
        );
    }
    let feature = feature::PORTABLE.expect("is known of this machine");
    let (kinds, served) = told(&home, &[feature]);
    assert_eq!(
        kinds,
        [Kind::Welcome, Kind::Page, Kind::Library, Kind::Served]
    );
    let portable = served.portable.expect("may be brought");
    assert!(portable.library.starts_with("words-"), "{portable:?}");
    assert_ne!(portable.ticket, 0);
}

/// Writes an internal plugin that may have the feature.
fn reader(home: &TestHome, name: &str, has_feature: bool) {
    let features = if has_feature {
        "default = [\"portable\"]\n"
    } else {
        ""
    };
    let more = format!("[features]\n{features}portable = [\"aigis-plugin-api/portable\"]\n");
    let files = [
        ("Cargo.toml", &*cargo_toml(name, &more)),
        ("AIGIS/AIGIS.config", INTERNAL),
        ("src/main.rs", READER),
    ];
    plugins::write(home, name, &files);
}

#[test]
fn launched_plugins_bring_code_if_they_were_built_to() {
    let _deadline = Deadline::begin(DEADLINE);
    let home = home();
    reader(&home, "reader", true);
    reader(&home, "listener", false);
    home.config(
        "[core]\nwords = \"{sources}/words\"\n\n[internal]\nreader = \"{sources}/reader\"\n\
         listener = \"{sources}/listener\"\n",
    );
    // Here the core is this process, and what it sends is loaded in others.
    let host = home.host();
    home.wait_for_log("reader", "words run here");
    // What a skill logs is in the log of the process that it runs in.
    home.wait_for_log("reader", "words: noted by words");
    assert!(!home.plugin_log("reader").contains("too little"));
    home.wait_for_log("listener", "words run in the core");
    home.wait_for_log("words", "noted by words");
    assert!(!home.plugin_log("listener").contains("noted by words"));
    host.shutdown();
}
