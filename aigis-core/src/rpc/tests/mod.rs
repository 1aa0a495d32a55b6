//! A server with a service that does what its client asks, and clients that break every rule.

mod calls;
mod ending;
mod faults;
mod flow;
mod socket;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aigis_plugin_api::__private::{Expected, Failure, FailureKind};
use aigis_plugin_api::codec;
use aigis_plugin_api::session::frame::{
    self, Call, Expectation, Header, Hello, Kind, MAGIC, PROTOCOL, Welcome,
};
use aigis_plugin_api::session::socket as connector;
use aigis_plugin_api::signature::{Parameter, Shape, Signature};
use aigis_plugin_api::{Session, connect};
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Done, Limits, Peer, Server, Service, SessionInfo, Underway};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
const CORE_PID: u32 = 4711;

/// What the service has seen.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Admitted(u64),
    Started(String),
    Finished(String),
    Expected(String),
    GivenUp(u64, String),
    Ended(u64),
}

/// Answers `t.*`.
struct Answers {
    next: AtomicU64,
    /// The keys for which `t.wait` no longer waits; an empty one stands for all.
    open: Mutex<HashSet<String>>,
    opened: Condvar,
    events: Mutex<Sender<Event>>,
    /// Calls that go on without a thread.
    later: Mutex<HashMap<String, Done>>,
}

impl Answers {
    fn tell(&self, event: Event) {
        let _ = self.events.lock().expect("not poisoned").send(event);
    }

    fn open(&self, key: &str) {
        self.open
            .lock()
            .expect("not poisoned")
            .insert(key.to_owned());
        self.opened.notify_all();
    }

    fn wait(&self, key: &str) {
        let open = self.open.lock().expect("not poisoned");
        drop(
            self.opened
                .wait_while(open, |open| !open.contains(key) && !open.contains(""))
                .expect("not poisoned"),
        );
    }
}

impl Answers {
    fn answer(
        &self,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        let encode = |value: String| Ok(codec::to_vec(&value).expect("text can be encoded"));
        match name {
            "t.echo" => Ok(arguments.to_vec()),
            "t.wait" => {
                let key: String = argument(arguments)?;
                self.tell(Event::Started(key.clone()));
                self.wait(&key);
                self.tell(Event::Finished(key.clone()));
                encode(key)
            }
            "t.fail" => Err(failure(argument(arguments)?)),
            "t.panic" => panic!("the service fell over"),
            "t.big" => {
                let len: usize = argument(arguments)?;
                self.tell(Event::Started("big".to_owned()));
                Ok(vec![0xc0; len])
            }
            "t.expects" => encode(expects.map_or_else(
                || "nothing".to_owned(),
                |expected| expected.signature.to_string(),
            )),
            "t.left" => encode(timeout.map_or_else(
                || "no limit".to_owned(),
                |left| {
                    (left <= Duration::from_secs(3600) && left > Duration::from_secs(3500))
                        .to_string()
                },
            )),
            other => Err(Failure::new(
                FailureKind::NotFound,
                format!("no plugin offers `{other}`"),
            )),
        }
    }

    /// Ends a call of `t.later`.
    fn end(&self, key: &str) {
        let done = self.later.lock().expect("not poisoned").remove(key);
        let done = done.expect("it is underway");
        done(Ok(codec::to_vec(key).expect("text can be encoded")));
    }
}

/// A call of `t.later`.
struct Later {
    key: String,
    session: u64,
    events: Sender<Event>,
}

impl Underway for Later {
    fn give_up(&self) {
        let event = Event::GivenUp(self.session, self.key.clone());
        let _ = self.events.send(event);
    }
}

fn argument<T: serde::de::DeserializeOwned>(arguments: &[u8]) -> Result<T, Failure> {
    let (argument,) = codec::from_slice(arguments)
        .map_err(|error| Failure::new(FailureKind::Arguments, error.to_string()))?;
    Ok(argument)
}

/// A failure with something in every field.
fn failure(kind: FailureKind) -> Failure {
    Failure {
        type_name: Some("t::Error".to_owned()),
        payload: Some(payload()),
        chain: vec!["the cause".to_owned()],
        location: Some("lib.rs:1:1".to_owned()),
        ..Failure::new(kind, format!("a failure of kind {kind:?}"))
    }
    .of_skill("t.fail")
    .with_details(vec!["t.other".to_owned()])
}

/// An encoded error; its type is known by its field alone.
fn payload<T: serde::de::DeserializeOwned>() -> T {
    let bytes = codec::to_vec(&vec![0xc3_u8]).expect("bytes can be encoded");
    codec::from_slice(&bytes).expect("bytes can be decoded")
}

impl Service for Answers {
    fn between_calls(&self) -> fn() {
        || {}
    }

    fn admit(&self, hello: &Hello, peer: Peer) -> Result<Arc<SessionInfo>, Failure> {
        assert_eq!(peer.pid, Some(std::process::id()));
        if let Some(token) = &hello.token {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("the token {token} is not known"),
            ));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Admitted(id));
        Ok(Arc::new(SessionInfo {
            id,
            client: hello.client.clone(),
            plugin: None,
            pid: hello.pid,
        }))
    }

    fn expect(&self, _session: &SessionInfo, expectation: Expectation) {
        self.tell(Event::Expected(expectation.name));
    }

    fn call(
        &self,
        session: &SessionInfo,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        if name == "t.later" {
            let key: String = argument(arguments).expect("a key");
            let later = Later {
                key: key.clone(),
                session: session.id,
                events: self.events.lock().expect("not poisoned").clone(),
            };
            let mut waiting = self.later.lock().expect("not poisoned");
            waiting.insert(key.clone(), done);
            drop(waiting);
            self.tell(Event::Started(key));
            return Some(Arc::new(later));
        }
        done(self.answer(name, expects, arguments, timeout));
        None
    }

    fn ended(&self, session: &SessionInfo) {
        self.tell(Event::Ended(session.id));
    }
}

/// A core's socket in a home of its own.
struct Core {
    home: PathBuf,
    service: Arc<Answers>,
    events: Receiver<Event>,
    server: Server,
    runtime: Runtime,
    _folder: TempDir,
}

impl Core {
    fn start() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        Self::at(Path::new("home"), limits)
    }

    /// Starts one in a home at `place`, relative to a temporary folder.
    fn at(place: &Path, limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join(place);
        std::fs::create_dir_all(home.join("run")).expect("a home");
        let (sender, events) = channel();
        let service = Arc::new(Answers {
            next: AtomicU64::new(1),
            open: Mutex::default(),
            opened: Condvar::new(),
            events: Mutex::new(sender),
            later: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = Server::bind_within(
            runtime.handle(),
            &home.join("run/core.sock"),
            Arc::clone(&service) as Arc<dyn Service>,
            CORE_PID,
            limits,
        )
        .expect("the socket opens");
        Self {
            home,
            service,
            events,
            server,
            runtime,
            _folder: folder,
        }
    }

    fn connect(&self) -> Session {
        connect(&self.home).expect("the core lets us in")
    }

    /// A connection on which nothing was said.
    fn stranger(&self) -> Raw {
        let stream = connector::connect(self.server.path()).expect("the socket is there");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a limit for the test");
        Raw { stream }
    }

    /// A session without a client library.
    fn raw(&self) -> Raw {
        let mut raw = self.stranger();
        raw.say_hello(&hello());
        let (header, body) = raw.read().expect("a welcome");
        assert_eq!(header.kind, Kind::Welcome);
        let welcome: Welcome = frame::decode_body(&body).expect("a welcome");
        assert_eq!(welcome.core_pid, CORE_PID);
        self.wait_for(&Event::Admitted(welcome.session));
        raw
    }

    /// Waits until the service has seen `event`; other events are passed over.
    fn wait_for(&self, event: &Event) {
        loop {
            let seen = self.events.recv_timeout(PATIENCE).expect("an event");
            if seen == *event {
                return;
            }
        }
    }

    fn wait_for_end(&self) {
        loop {
            let seen = self.events.recv_timeout(PATIENCE).expect("an event");
            if matches!(seen, Event::Ended(_)) {
                return;
            }
        }
    }

    fn shut_down(&self, grace: Duration) {
        self.runtime.block_on(self.server.shutdown(grace));
    }

    /// The core still serves.
    fn assert_alive(&self) {
        assert_eq!(echo(&self.connect(), "alive"), "alive");
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Lets the threads go that still wait in a skill.
        self.service.open("");
    }
}

fn echo(session: &Session, text: &str) -> String {
    let (text,): (String,) = session.call("t.echo", (text,)).expect("an echo");
    text
}

fn hello() -> Hello {
    Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        token: None,
        client: "a test".to_owned(),
        pid: std::process::id(),
    }
}

fn signature(parameter: &str) -> Signature {
    Signature {
        parameters: vec![Parameter {
            name: parameter.to_owned(),
            shape: Shape::Text,
        }],
        result: Shape::Text,
        error: None,
        constant: false,
    }
}

/// The bytes of a call.
fn call(number: u64, timeout_ms: u32, name: &str, arguments: impl Serialize) -> Vec<u8> {
    let arguments = codec::to_vec(&arguments).expect("arguments");
    let call = Call {
        name,
        expects: None,
        arguments: &arguments,
    };
    frame::encode_frame(Kind::Call, number, timeout_ms, &call).expect("a frame")
}

/// The bytes of an expectation.
fn expectation(name: &str, signature: Signature) -> Vec<u8> {
    let expectation = Expectation {
        name: name.to_owned(),
        signature,
    };
    frame::encode_frame(Kind::Expect, 0, 0, &expectation).expect("a frame")
}

fn cancel(number: u64) -> Vec<u8> {
    frame::frame(Kind::Cancel, number, 0, &[]).expect("a frame")
}

/// A client that may say anything.
struct Raw {
    stream: UnixStream,
}

impl Raw {
    fn say_hello(&mut self, hello: &Hello) {
        self.send(&frame::encode_frame(Kind::Hello, 0, 0, hello).expect("a frame"));
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the core reads");
    }

    /// Sends what the core may refuse to take.
    fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; none at the end.
    fn read(&mut self) -> Option<(Header, Vec<u8>)> {
        frame::read_frame(&mut self.stream).ok().flatten()
    }

    /// The text that answers the next answered call, and its number.
    fn read_text(&mut self) -> (u64, String) {
        let (header, body) = self.read().expect("an answer");
        assert_eq!(header.kind, Kind::Reply, "{:?}", Failure::decode(&body));
        let text = codec::from_slice(&body).expect("a text");
        (header.call, text)
    }

    /// The failure of the call `number` comes next.
    fn read_failure(&mut self, number: u64) -> Failure {
        let (header, body) = self.read().expect("an answer");
        assert_eq!((header.kind, header.call), (Kind::Error, number));
        Failure::decode(&body)
    }

    /// The session ends with an error that says `expected`.
    fn assert_refused(mut self, expected: &str) {
        let failure = self.read_failure(0);
        assert!(
            failure.message.contains(expected),
            "{expected:?} in {:?}",
            failure.message
        );
        assert!(self.read().is_none(), "the connection is closed");
    }

    fn hang_up(self) {
        self.stream
            .shutdown(Shutdown::Both)
            .expect("it was connected");
    }
}
