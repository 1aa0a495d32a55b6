//! Every kind of failure, as a caller in Rust sees it over a session: one way to come to each.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use aigis_plugin_api::session::frame::{self, Hello, Kind, MAGIC, Offer, OfferedSkill, PROTOCOL};
use aigis_plugin_api::signature::{Shape, Signature};
use aigis_plugin_api::{CallError, FailureKind, Session, SkillFailure, Stream, Value, connect};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const WORKSHOP: &str = include_str!("fixtures/sessions/workshop.rs");
const FORGE: &str = include_str!("fixtures/serving/forge.rs");

/// Calls of one session that wait or run, and of all of them.
const OF_SESSION: usize = 256;
const IN_ALL: usize = 4096;

type Failed = CallError<SkillFailure>;

/// As the workshop does not have it.
mod other {
    aigis_plugin_api::import! {
        pub(crate) mod workshop {
            fn cut(length: &str, unit: u8) -> u32;
        }
    }
}

mod right {
    aigis_plugin_api::import! {
        pub(crate) mod workshop {
            fn wait(gate: &str) -> bool;
            fn pid() -> u32;
        }
    }
}

/// What all the ways need.
struct Scene {
    home: TestHome,
    core: Core,
    session: Session,
}

impl Scene {
    fn start() -> Self {
        let home = TestHome::new();
        plugins::core(&home, "workshop", WORKSHOP);
        plugins::internal(&home, "forge", FORGE);
        let script = "cat \"/proc/self/fd/$AIGIS_SESSION_FD\" > \"$AIGIS_DATA/new\"\n\
                      mv \"$AIGIS_DATA/new\" \"$AIGIS_DATA/grant\"\n\
                      exec sleep 1000";
        plugins::external(&home, "holder", "", script);
        home.config(
            "[core]\nworkshop = { source = \"{sources}/workshop\", max_message = \"1 MiB\", \
             drain_timeout = 0.05 }\n\n\
             [internal]\nforge = { source = \"{sources}/forge\", restart = 1 }\n\n\
             [external]\nholder = \"{sources}/holder\"\n",
        );
        let core = Core::start(&home);
        let session = connect(home.path()).expect("the core runs");
        Self {
            home,
            core,
            session,
        }
    }

    fn call(&self, skill: &str, arguments: impl serde::Serialize) -> Failed {
        let outcome = self.session.call::<Value>(skill, arguments);
        outcome.expect_err("it fails")
    }

    /// Calls a skill that waits, and returns how that ends when it `begun`.
    fn call_during(
        &self,
        (skill, gate): (&'static str, &'static str),
        awaited: (&str, &str),
        then: impl FnOnce(),
    ) -> Failed {
        let (session, (sender, outcome)) = (self.session.clone(), channel());
        thread::spawn(move || {
            let outcome = session.call_within::<Value>(skill, (gate,), DEADLINE);
            sender.send(outcome).expect("is received");
        });
        assert_eq!(self.session.call(awaited.0, (awaited.1,)), Ok(true));
        then();
        let outcome = outcome.recv_timeout(DEADLINE).expect("it ends");
        outcome.expect_err("it fails")
    }

    /// Comes to a failure of this kind; the last ones leave nothing that could be called.
    fn provoke(&self, kind: FailureKind) -> Failed {
        match kind {
            FailureKind::Skill => self.call("workshop.cut", (0,)),
            FailureKind::Panicked => self.call("workshop.shatter", ("a vase",)),
            FailureKind::NotFound => self.call("workshop.cutt", (1,)),
            FailureKind::Mismatch => {
                let cut = || other::workshop::cut("long", 1);
                untyped(
                    self.session
                        .scope(cut)
                        .expect_err("it has other parameters"),
                )
            }
            FailureKind::Arguments => self.call("workshop.cut", ("long",)),
            FailureKind::Unserializable => self.call("workshop.fog", ()),
            FailureKind::TimedOut => {
                let soon = Duration::from_millis(50);
                let outcome = self
                    .session
                    .call_within::<Value>("workshop.wait", ("late",), soon);
                outcome.expect_err("nobody opens")
            }
            FailureKind::Cancelled => self.session.scope(|| {
                let mut call = right::workshop::start::wait("unwanted");
                assert_eq!(
                    self.session.call("workshop.awaited", ("unwanted",)),
                    Ok(true)
                );
                call.cancel();
                untyped(call.wait(DEADLINE).expect_err("it was given up"))
            }),
            FailureKind::WouldBlock => self.session.scope(|| {
                let (session, (sender, outcome)) = (self.session.clone(), channel());
                right::workshop::start::pid().on_done(move |_| {
                    // On the thread that completes calls.
                    let outcome = session.call::<Value>("workshop.pid", ());
                    sender.send(outcome).expect("is received");
                });
                let outcome = outcome.recv_timeout(DEADLINE).expect("it is called back");
                outcome.expect_err("it would wait for itself")
            }),
            FailureKind::NotConnected => {
                let absent = connect(self.home.path().join("nowhere"));
                untyped(absent.expect_err("no core runs there"))
            }
            FailureKind::TooLarge => self.call("workshop.echo", (vec![7_u8; 2 << 20],)),
            FailureKind::Refused => self.call("aigis.start", ("workshop",)),
            FailureKind::Superseded => {
                let all = (u64::MAX, 0);
                let mut count: Stream<u64> = self
                    .session
                    .stream("workshop.count", all)
                    .expect("it begins");
                assert_eq!(count.next(), Some(Ok(0)));
                let reload = ("workshop", true);
                let reloaded: Result<Value, _> =
                    self.session.call_within("aigis.reload", reload, DEADLINE);
                reloaded.expect("it is reloaded");
                untyped(count.find_map(Result::err).expect("it has had its time"))
            }
            FailureKind::Overloaded => self.overload(),
            FailureKind::Internal => self.misunderstand(),
            FailureKind::Disconnected => {
                let process: u32 = self.session.call("forge.pid", ()).expect("is served");
                let held = ("forge.hold", "held");
                self.call_during(held, ("forge.saw", "holds held"), || {
                    self.keep_forge_down();
                    let status = Command::new("kill")
                        .args(["-s", "KILL", &process.to_string()])
                        .status();
                    assert!(status.expect("kill runs").success());
                })
            }
            FailureKind::Unavailable => eventually("the end of its process", || {
                let outcome = self.session.call::<Value>("forge.pid", ());
                outcome
                    .err()
                    .filter(|error| !matches!(error, CallError::Disconnected { .. }))
            }),
            FailureKind::CoreGone => {
                let waits = ("workshop.wait", "for ever");
                self.call_during(waits, ("workshop.awaited", "for ever"), || {
                    self.core.signal("KILL");
                })
            }
            other => panic!("there is no way yet to come to {other:?}"),
        }
    }

    /// Has the next process of the forge wait in its `new`, which writes a file, until somebody reads that.
    fn keep_forge_down(&self) {
        let file = self.home.path().join("data/forge/opened");
        std::fs::remove_file(&file).expect("was written");
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.expect("mkfifo runs").success());
    }

    /// Makes more calls than the core takes, in many sessions.
    fn overload(&self) -> Failed {
        let sessions: Vec<Session> = (0..=IN_ALL / OF_SESSION)
            .map(|_| connect(self.home.path()).expect("is let in"))
            .collect();
        let (sender, outcomes) = channel();
        for session in &sessions {
            session.scope(|| {
                for _ in 0..OF_SESSION {
                    let sender = sender.clone();
                    right::workshop::start::wait("full").on_done(move |outcome| {
                        // Nobody listens any more when the sessions end.
                        let _ = sender.send(outcome.clone());
                    });
                }
            });
        }
        let outcome = outcomes.recv_timeout(DEADLINE).expect("one is refused");
        // None of them has all the room: others are served.
        assert_eq!(self.session.call("workshop.open", ("full",)), Ok(()));
        let Err(CallError::Overloaded { skill, message }) = outcome else {
            panic!("expected a call that finds no room, found {outcome:?}");
        };
        CallError::Overloaded { skill, message }
    }

    /// Offers a skill whose failures are of a kind that is not known here, and calls it.
    fn misunderstand(&self) -> Failed {
        let grant = eventually("the grant of the holder", || {
            Some(self.home.read("data/holder/grant")).filter(|grant| !grant.is_empty())
        });
        let grant: serde_json::Value = serde_json::from_str(&grant).expect("a grant");
        let socket = self.home.path().join("run/core.sock");
        let mut stream = UnixStream::connect(socket).expect("listens");
        let hello = Hello {
            magic: MAGIC.to_owned(),
            protocol: PROTOCOL,
            features: Vec::new(),
            token: grant["token"].as_str().map(str::to_owned),
            client: "holder".to_owned(),
            pid: std::process::id(),
            imports: Vec::new(),
        };
        let skill = OfferedSkill {
            name: "holder.riddle".to_owned(),
            doc: String::new(),
            signature: Signature {
                parameters: Vec::new(),
                result: Shape::Unit,
                error: None,
                constant: false,
            },
            idempotent: false,
        };
        let offer = Offer {
            skills: vec![skill],
        };
        let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("is small");
        frame::write_frame(&mut stream, &hello).expect("is read");
        assert_eq!(read(&mut stream).0.kind, Kind::Welcome);
        let offer = frame::encode_frame(Kind::Offer, 1, 0, &offer).expect("is small");
        frame::write_frame(&mut stream, &offer).expect("is read");
        assert_eq!(read(&mut stream).0.kind, Kind::Reply);
        let answers = thread::spawn(move || {
            let (header, _) = read(&mut stream);
            assert_eq!(header.kind, Kind::Call);
            let failure = serde_json::json!({ "kind": "puzzled", "message": "what has it got?" });
            let error = frame::encode_frame(Kind::Error, header.call, 0, &failure);
            frame::write_frame(&mut stream, &error.expect("is small")).expect("is read");
        });
        let error = self.call("holder.riddle", ());
        answers.join().expect("it was called");
        error
    }
}

fn read(stream: &mut UnixStream) -> (frame::Header, Vec<u8>) {
    let frame = frame::read_frame(stream).expect("answers");
    frame.expect("answers")
}

/// An error that has nothing of its author's.
fn untyped(error: CallError) -> Failed {
    match error {
        CallError::Mismatch {
            skill,
            message,
            differences,
        } => CallError::Mismatch {
            skill,
            message,
            differences,
        },
        CallError::Cancelled { skill } => CallError::Cancelled { skill },
        CallError::NotConnected { message } => CallError::NotConnected { message },
        CallError::Superseded { skill, message } => CallError::Superseded { skill, message },
        other => panic!("expected another error, found {other:?}"),
    }
}

/// What a caller can match on, and what a person reads.
fn check(kind: FailureKind, error: &Failed) {
    let (skill, text) = match (kind, error) {
        (FailureKind::Skill, CallError::Skill(failure)) => {
            assert_eq!(failure.chain, ["the teeth are worn"]);
            (&failure.skill, "the saw is blunt")
        }
        (FailureKind::Panicked, CallError::Panicked { skill, .. }) => (skill, "a vase is broken"),
        (FailureKind::NotFound, CallError::NotFound { skill, nearest }) => {
            assert!(nearest.contains(&"workshop.cut".to_owned()), "{nearest:?}");
            (skill, "did you mean")
        }
        (FailureKind::Mismatch, CallError::Mismatch { skill, .. }) => (skill, "offered:"),
        (FailureKind::Arguments, CallError::Arguments { skill, .. }) => (skill, "length"),
        (FailureKind::Unserializable, CallError::Unserializable { skill, .. }) => {
            (skill, "fog cannot be packed")
        }
        (FailureKind::TimedOut, CallError::TimedOut { skill, after }) => {
            assert_eq!(*after, Duration::from_millis(50));
            (skill, "50ms")
        }
        (FailureKind::Cancelled, CallError::Cancelled { skill }) => (skill, "cancelled"),
        (FailureKind::WouldBlock, CallError::WouldBlock { skill }) => (skill, "block"),
        (FailureKind::NotConnected, CallError::NotConnected { message }) => {
            assert!(message.contains("start one there"), "{message}");
            return;
        }
        (FailureKind::CoreGone, CallError::CoreGone { skill, .. }) => (skill, "ran is unknown"),
        (FailureKind::Disconnected, CallError::Disconnected { skill, .. }) => {
            (skill, "ran is unknown")
        }
        (FailureKind::Unavailable, CallError::Unavailable { skill, .. }) => {
            (skill, "was not called")
        }
        (FailureKind::Superseded, CallError::Superseded { skill, .. }) => (skill, "DRAIN_TIMEOUT"),
        (FailureKind::Overloaded, CallError::Overloaded { .. }) => {
            assert!(
                error.to_string().contains("the call was not run"),
                "{error}"
            );
            return;
        }
        (FailureKind::TooLarge, CallError::TooLarge { skill, .. }) => (skill, "1048576"),
        (FailureKind::Refused, CallError::Other(failure)) if failure.kind == kind => {
            assert!(error.to_string().contains("is ready already"), "{error}");
            return;
        }
        (FailureKind::Internal, CallError::Other(failure)) if failure.kind == kind => {
            assert!(error.to_string().contains("what has it got?"), "{error}");
            return;
        }
        other => panic!("expected {kind:?}, found {other:?}"),
    };
    assert!(skill.contains('.'), "{kind:?} of {skill:?}");
    assert!(error.to_string().contains(text), "{text:?} in {error}");
}

#[test]
fn every_kind_of_failure_comes_to_its_caller() {
    let _deadline = Deadline::begin(DEADLINE);
    let scene = Scene::start();
    // Those that end a process come last, in this order.
    let last = [
        FailureKind::Disconnected,
        FailureKind::Unavailable,
        FailureKind::CoreGone,
    ];
    let first = FailureKind::ALL
        .into_iter()
        .filter(|kind| !last.contains(kind));
    for kind in first {
        check(kind, &scene.provoke(kind));
        // And the session lives on.
        assert_eq!(scene.session.call("workshop.pid", ()), Ok(scene.core.pid()));
    }
    for kind in last {
        check(kind, &scene.provoke(kind));
    }
}
