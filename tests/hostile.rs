//! Clients that do their worst, to a core as a process of its own: an honest session beside them finds
//! each of its calls answered, and when they are gone the core has nothing left of them.

use std::fs;
use std::io::{ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use aigis_plugin_api::__private::{Failure, FailureKind, Parameter, Shape, Signature};
use aigis_plugin_api::session::frame::{
    self, Call, Header, Hello, Import, Kind, MAGIC, PROTOCOL, Target, Welcome,
};
use aigis_plugin_api::{codec, connect};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const WORKSHOP: &str = include_str!("fixtures/sessions/workshop.rs");

/// What the core allows.
const SESSIONS: usize = 4096;
const STRANGERS: usize = 1024;
const IMPORTS: usize = 10_000;

/// How many descriptors the core is started with: too few for what follows.
const DESCRIPTORS: usize = 256;

/// How much more memory the core may have: what its allocator keeps for the next time, in each thread. If it
/// kept the names that its clients have imported, it would be far more.
const KEPT: usize = 512 << 20;

/// A session whose every call must be answered.
struct Honest {
    calls: Arc<(Mutex<u64>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Honest {
    fn start(home: &Path) -> Self {
        let session = connect(home).expect("it is let in");
        let calls = Arc::new((Mutex::new(0), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (Arc::clone(&calls), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let text = session.call::<String>("workshop.measure", (1.5, "cm"));
                assert_eq!(text, Ok("1.5 cm".to_owned()));
                *counted.0.lock().expect("no panic while held") += 1;
                counted.1.notify_all();
            }
        });
        Self {
            calls,
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until it has made some calls more.
    fn goes_on(&self, meanwhile: &str) {
        let (calls, more) = &*self.calls;
        let calls = calls.lock().expect("no panic while held");
        let enough = *calls + 100;
        let waits = |calls: &mut u64| *calls < enough;
        let waited = more.wait_timeout_while(calls, DEADLINE, waits);
        let (calls, over) = waited.expect("no panic while held");
        drop(calls);
        assert!(
            !over.timed_out(),
            "calls are not answered during {meanwhile}"
        );
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it was started");
        thread.join().expect("every call was answered");
    }
}

/// A client that says what it likes.
struct Client(UnixStream);

impl Client {
    fn stranger(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the core listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
        Self(stream)
    }

    fn enter(socket: &Path) -> Self {
        let mut client = Self::stranger(socket);
        assert_eq!(client.say_hello(None), Ok(()));
        client
    }

    fn say_hello(&mut self, token: Option<&str>) -> Result<(), Failure> {
        self.send(&hello(token));
        let (header, body) = self.read().expect("an answer");
        if header.kind == Kind::Welcome {
            let _: Welcome = frame::decode_body(&body)?;
            return Ok(());
        }
        assert_eq!((header.kind, header.call), (Kind::Error, 0));
        Err(Failure::decode(&body))
    }

    /// Sends what the core may refuse to take.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    fn read(&mut self) -> Option<(Header, Vec<u8>)> {
        frame::read_frame(&mut self.0).expect("whole frames come")
    }

    /// Reads to the end, and returns what the core has said last.
    fn refusal(mut self) -> Failure {
        let mut last = None;
        while let Some(frame) = self.read() {
            last = Some(frame);
        }
        let (header, body) = last.expect("the core says why");
        assert_eq!((header.kind, header.call), (Kind::Error, 0));
        Failure::decode(&body)
    }
}

fn hello(token: Option<&str>) -> Vec<u8> {
    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        features: Vec::new(),
        token: token.map(str::to_owned),
        client: "somebody".to_owned(),
        pid: std::process::id(),
        imports: Vec::new(),
    };
    frame::encode_frame(Kind::Hello, 0, 0, &hello).expect("is small")
}

fn import(number: u64, name: &str) -> Vec<u8> {
    let parameter = Parameter {
        name: "length".to_owned(),
        shape: Shape::U32,
    };
    let import = Import {
        name: name.to_owned(),
        signature: Signature {
            parameters: vec![parameter],
            result: Shape::U32,
            error: None,
            constant: false,
        },
        portable: false,
    };
    frame::encode_frame(Kind::Import, number, 0, &import).expect("is small")
}

fn call(number: u64, name: &str, arguments: &impl serde::Serialize) -> Vec<u8> {
    let call = Call {
        target: Target::Name(name),
        arguments: &codec::to_vec(arguments).expect("arguments"),
    };
    call.frame(number, 60_000).expect("is small")
}

/// What a process has of the system.
#[derive(Debug)]
struct Takes {
    descriptors: usize,
    threads: usize,
    /// In bytes.
    memory: usize,
}

fn takes(pid: u32) -> Takes {
    let count = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{pid}/{folder}"));
        entries.expect("the core runs").count()
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the core runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|rest| rest.split_whitespace().next());
    Takes {
        descriptors: count("fd"),
        threads: count("task"),
        memory: memory
            .expect("a number")
            .parse::<usize>()
            .expect("a number")
            << 10,
    }
}

/// The soft and the hard limit of a process's descriptors.
fn limits(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.expect("a line").split_whitespace().skip(3);
    let mut next = || words.next().expect("a number").to_owned();
    (next(), next())
}

/// A core under attack.
struct Scene {
    home: TestHome,
    core: Core,
    socket: PathBuf,
    honest: Honest,
    before: Takes,
}

impl Scene {
    fn start() -> Self {
        let home = TestHome::new();
        plugins::core(&home, "workshop", WORKSHOP);
        let script = "ulimit -S -n > \"$AIGIS_DATA/limit\"\n\
                      cat \"/proc/self/fd/$AIGIS_SESSION_FD\" > \"$AIGIS_DATA/new\"\n\
                      mv \"$AIGIS_DATA/new\" \"$AIGIS_DATA/grant\"\n\
                      exec sleep 1000";
        plugins::external(&home, "holder", "", script);
        home.config(
            "[core]\nworkshop = \"{sources}/workshop\"\n\n[external]\nholder = \"{sources}/holder\"\n",
        );
        let lower = format!("ulimit -S -n {DESCRIPTORS}");
        let core = Core::start_by(&home, home.command_after(&lower, &["build-and-run"]));
        let socket = home.path().join("run/core.sock");
        let honest = Honest::start(&home.path());
        honest.goes_on("nothing at all");
        let before = takes(core.pid());
        Self {
            home,
            core,
            socket,
            honest,
            before,
        }
    }

    /// Does harm, during which the honest session goes on; afterwards the core has closed all that came.
    fn bear<T>(&self, what: &str, harm: impl FnOnce(&Self) -> T) -> T {
        let done = harm(self);
        self.honest.goes_on(what);
        eventually(&format!("the end of {what}"), || {
            let now = takes(self.core.pid());
            (now.descriptors <= self.before.descriptors).then_some(())
        });
        done
    }

    fn enter(&self) -> Client {
        Client::enter(&self.socket)
    }

    fn stranger(&self) -> Client {
        Client::stranger(&self.socket)
    }
}

/// Lets this process have as many descriptors as it may.
fn room_for(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit it is allowed");
    let most = maximum.map_or(wanted, |most| usize::try_from(most).unwrap_or(wanted));
    wanted.min(most.saturating_sub(1000))
}

#[test]
fn whatever_clients_do_an_honest_session_is_served() {
    let _deadline = Deadline::begin(DEADLINE * 2);
    let scene = Scene::start();

    // The core takes what descriptors it can have; what it starts has what the core was started with.
    let (soft, hard) = limits(scene.core.pid());
    assert_eq!(soft, hard);
    let grant = eventually("the grant of the holder", || {
        Some(scene.home.read("data/holder/grant")).filter(|grant| !grant.is_empty())
    });
    let limit = scene.home.read("data/holder/limit");
    assert_eq!(limit.trim(), DESCRIPTORS.to_string());

    scene.bear("noise", noise);
    scene.bear("frames that are cut off", cut_off);
    scene.bear("a million imports", a_million_imports);
    scene.bear("tokens", |scene| tokens(scene, &grant));
    scene.bear("descriptors that nobody asked for", descriptors);
    scene.bear("clients that do not read", deaf);
    scene.bear("ten thousand connections", very_many);

    let Scene {
        core,
        honest,
        before,
        ..
    } = scene;
    honest.end();
    // Those that a burst has called for go again when nothing happens.
    eventually("threads to go", || {
        (takes(core.pid()).threads <= before.threads).then_some(())
    });
    let after = takes(core.pid());
    assert!(after.memory < before.memory + KEPT, "{before:?}, {after:?}");
    core.signal("TERM");
    core.wait().exited(0);
}

/// The same bytes on every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn noise(scene: &Scene) {
    let mut random = Random(0x5eed);
    for round in 0..400 {
        let mut client = match round % 2 {
            0 => scene.stranger(),
            _ => scene.enter(),
        };
        let mut bytes: Vec<u8> = (0..64).flat_map(|_| random.next().to_le_bytes()).collect();
        if round % 4 > 1 {
            // A header that is nearly right, so that the bytes behind it are looked at.
            let kind = (1 + random.next() % 12) as u8;
            let len = (random.next() % 512) as u32;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            bytes[4] = kind;
        }
        client.send(&bytes);
    }
}

fn cut_off(scene: &Scene) {
    let frames = [
        import(0, "workshop.cut"),
        call(1, "workshop.cut", &(7_u32,)),
        hello(None),
    ];
    for (which, whole) in frames.iter().enumerate() {
        for len in 0..whole.len() {
            let mut client = match which {
                2 => scene.stranger(),
                _ => scene.enter(),
            };
            client.send(&whole[..len]);
        }
    }
    // A body of a gigabyte that never comes.
    let mut begun = frame::frame(Kind::Call, 1, 0, &[]).expect("is small");
    begun[..4].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    let waiting: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = scene.enter();
            client.send(&begun);
            client.send(&[0; 1000]);
            client
        })
        .collect();
    scene.honest.goes_on("bodies that do not come");
    drop(waiting);
}

fn a_million_imports(scene: &Scene) {
    for round in 0..20 {
        let client = scene.enter();
        let mut writing = client.0.try_clone().expect("a descriptor");
        let writer = thread::spawn(move || {
            // Long names that nobody offers: others in each round.
            let pad = "x".repeat(2000);
            let sent = (0..1_000_000_u64).find(|number| {
                let name = format!("nobody.{round}.{number}.{pad}");
                writing.write_all(&import(*number, &name)).is_err()
            });
            sent.expect("the core has closed the connection")
        });
        let failure = client.refusal();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        let expected = format!("may import {IMPORTS} skills");
        assert!(failure.message.contains(&expected), "{failure}");
        assert!(writer.join().expect("no panic") >= IMPORTS as u64);
    }
    let now = takes(scene.core.pid()).memory;
    assert!(
        now < scene.before.memory + KEPT,
        "{:?}, {now}",
        scene.before
    );
}

fn tokens(scene: &Scene, grant: &str) {
    let grant: serde_json::Value = serde_json::from_str(grant).expect("a grant");
    let token = grant["token"].as_str().expect("a token");
    let refused = |token: &str| {
        let failure = scene.stranger().say_hello(Some(token));
        let failure = failure.expect_err("it is not the core's");
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.message.contains("not that of a running plugin"));
    };
    let mut random = Random(7);
    for _ in 0..1000 {
        refused(&format!("{:016x}{:016x}", random.next(), random.next()));
    }
    for len in [0, 1, token.len() - 1] {
        refused(&token[..len]);
    }
    refused(&format!("{token}0"));
    // A plugin may have several processes.
    let mut both: Vec<Client> = (0..2).map(|_| scene.stranger()).collect();
    for client in &mut both {
        assert_eq!(client.say_hello(Some(token)), Ok(()));
        client.send(&call(1, "workshop.cut", &(7_u32,)));
        assert_eq!(client.read().expect("an answer").0.kind, Kind::Reply);
    }
    // Its token is worth nothing when it is over.
    scene.home.aigis(&["stop", "holder"]).exited(0);
    refused(token);
}

fn descriptors(scene: &Scene) {
    let (read, _write) = std::io::pipe().expect("a pipe");
    for round in 0..300 {
        let client = match round % 2 {
            0 => scene.stranger(),
            _ => scene.enter(),
        };
        let look = frame::frame(Kind::Look, 0, 0, &[]).expect("is small");
        // With whole frames, with one that is on its way, far too many, and for as long as it goes.
        let count = [1, 2, 3, 253][round % 4];
        let bytes = &look[..if round % 8 < 4 { look.len() } else { 1 }];
        for _ in 0..10 {
            let sent = vec![read.as_fd(); count];
            if !send_with(&client.0, bytes, &sent) {
                break;
            }
        }
    }
}

/// Sends bytes with descriptors; `false` when the connection is closed.
fn send_with(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    let parts = [IoSlice::new(bytes)];
    rustix::net::sendmsg(stream, &parts, &mut ancillary, SendFlags::NOSIGNAL).is_ok()
}

fn deaf(scene: &Scene) {
    let clients: Vec<Client> = (0..4).map(|_| scene.enter()).collect();
    let mut left: Vec<(usize, Vec<u8>)> = Vec::new();
    for (client, number) in
        (0..clients.len()).flat_map(|client| (1..=200).map(move |n| (client, n)))
    {
        let bytes = call(number, "workshop.echo", &(vec![7_u8; 1 << 20],));
        left.push((client, bytes));
    }
    for client in &clients {
        client.0.set_nonblocking(true).expect("a socket");
    }
    let mut refused = vec![0; clients.len()];
    for (client, bytes) in &left {
        let mut rest = &bytes[..];
        // Not for the moment alone: the core takes no more.
        while refused[*client] < 3 && !rest.is_empty() {
            match (&clients[*client].0).write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    refused[*client] = 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    scene.honest.goes_on("answers that are not read");
                    refused[*client] += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(refused, [3; 4], "the core takes all there is");
}

fn very_many(scene: &Scene) {
    let count = room_for(10_000) / 2;
    let mut entered = Vec::new();
    let mut refused = 0;
    for _ in 0..count {
        let mut client = scene.stranger();
        match client.say_hello(None) {
            Ok(()) => entered.push(client),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Overloaded, "{failure}");
                assert!(failure.message.contains("sessions already"), "{failure}");
                refused += 1;
            }
        }
    }
    // The honest one is the first.
    assert_eq!(entered.len(), count.min(SESSIONS - 1));
    assert_eq!(entered.len() + refused, count);
    scene.honest.goes_on("as many sessions as there may be");

    // Those who say nothing are fewer: the first of them have to go when others come.
    let mut silent: Vec<Client> = (0..count).map(|_| scene.stranger()).collect();
    scene.honest.goes_on("as many strangers as there may be");
    let stays = silent.split_off(count.saturating_sub(STRANGERS));
    for client in silent {
        let failure = client.refusal();
        assert_eq!(failure.kind, FailureKind::Overloaded, "{failure}");
    }
    // Who speaks is let in among them, as soon as there is room.
    for client in entered.drain(..10) {
        client.0.shutdown(Shutdown::Both).expect("it is connected");
    }
    eventually("room for a session", || {
        let mut client = scene.stranger();
        client.say_hello(None).ok()
    });
    drop(stays);
    scene.honest.goes_on("very many connections");
}
