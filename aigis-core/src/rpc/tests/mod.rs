//! A server with a service that does what its client asks, and clients that break every rule.

mod attached;
mod calls;
mod ending;
mod faults;
mod flow;
mod imports;
mod portable;
mod raw;
mod reconnect;
mod ring;
mod socket;
mod streams;
mod threads;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind};
use aigis_plugin_api::codec;
use aigis_plugin_api::session::frame::{
    self, Call, Header, Hello, Import, Kind, Library, MAGIC, Offer, PROTOCOL, Served, Target,
    Welcome, feature,
};
use aigis_plugin_api::session::reactor::Reactor;
use aigis_plugin_api::session::socket as connector;
use aigis_plugin_api::signature::{Parameter, Shape, Signature};
use aigis_plugin_api::{Session, connect};
use serde::Serialize;
use tempfile::TempDir;

use super::{Answer, Callee, Done, Imported, Limits, Peer, Server, Service, SessionInfo, Underway};
use portable::Code;
use raw::Raw;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
const CORE_PID: u32 = 4711;
/// A client that is let in only when `t.wait` no longer waits for this.
const LINGERS: &str = "lingers";
/// How many threads a core of the tests may have, unless it is said otherwise.
const THREADS: usize = 512;

/// What the service has seen.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Admitted(u64),
    Started(String),
    Finished(String),
    Imported(String),
    GivenUp(u64, String),
    Ended(u64),
}

/// Answers `t.*`.
struct Answers {
    me: Weak<Self>,
    next: AtomicU64,
    /// The keys for which `t.wait` no longer waits; an empty one stands for all.
    open: Mutex<HashSet<String>>,
    opened: Condvar,
    events: Mutex<Sender<Event>>,
    /// Calls that go on without a thread.
    later: Mutex<HashMap<String, Done>>,
    /// How often `t.count` and `t.again` have run, by their keys.
    runs: Mutex<HashMap<String, u32>>,
    /// How many items `t.numbers` has made.
    made: Arc<AtomicU64>,
    /// What is told of imports: how many times their plugin was swapped.
    swaps: AtomicU64,
    /// What is sent of portable skills.
    code: Mutex<Code>,
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
        expects: Option<&Signature>,
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
            "t.expects" => {
                encode(expects.map_or_else(|| "nothing".to_owned(), ToString::to_string))
            }
            "t.count" | "t.again" => {
                let key: String = argument(arguments)?;
                let mut runs = self.runs.lock().expect("not poisoned");
                let count = runs.entry(key.clone()).or_default();
                *count += 1;
                // The first one waits; a second would not.
                let waits = *count == 1 && key.starts_with("wait");
                drop(runs);
                self.tell(Event::Started(key.clone()));
                if waits {
                    self.wait(&key);
                }
                encode(key)
            }
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

    fn runs(&self, key: &str) -> u32 {
        let runs = self.runs.lock().expect("not poisoned");
        runs.get(key).copied().unwrap_or_default()
    }

    /// Runs a call, or begins it.
    fn begin(
        &self,
        session: u64,
        (name, expects): (&str, Option<&Signature>),
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        if name == "t.later" {
            let key: String = match argument(arguments) {
                Ok(key) => key,
                Err(failure) => {
                    done(Err(failure));
                    return None;
                }
            };
            let later = Later {
                key: key.clone(),
                session,
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

/// A skill that a client imports.
struct OfName {
    import: Import,
    session: u64,
    service: Arc<Answers>,
}

impl Imported for OfName {
    fn name(&self) -> &str {
        &self.import.name
    }

    fn served(&self) -> Served {
        let known = self.import.name.starts_with("t.");
        Served {
            plugin: known.then(|| "t".to_owned()),
            generation: if known {
                1 + self.service.swaps.load(Ordering::Relaxed)
            } else {
                0
            },
            idempotent: self.import.name == "t.again",
            max_message: None,
            differences: Vec::new(),
            portable: self.service.code_of(&self.import),
        }
    }

    fn call(
        &self,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let Import {
            name, signature, ..
        } = &self.import;
        let what = (name.as_str(), Some(signature));
        self.service
            .begin(self.session, what, arguments, timeout, done)
    }
}

impl Service for Answers {
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
        if hello.client == LINGERS {
            self.wait(LINGERS);
        }
        Ok(Arc::new(SessionInfo {
            id,
            client: hello.client.clone(),
            plugin: None,
            pid: hello.pid,
        }))
    }

    fn import(&self, session: &Arc<SessionInfo>, import: Import) -> Arc<dyn Imported> {
        self.tell(Event::Imported(import.name.clone()));
        Arc::new(OfName {
            import,
            session: session.id,
            service: self.me.upgrade().expect("the server keeps it"),
        })
    }

    fn call(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        self.begin(session.id, (name, None), arguments, timeout, done)
    }

    fn open(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        _: Option<Duration>,
    ) -> BoxItems {
        self.stream(session.id, name, arguments, streams)
    }

    fn offer(&self, _: &Arc<SessionInfo>, _: Offer, _: Arc<dyn Callee>, answer: Answer) {
        let message = "nobody may offer anything here";
        answer(Err(Failure::new(FailureKind::Refused, message)));
    }

    fn library(&self, name: &str) -> Option<(Library, OwnedFd)> {
        self.library_of(name)
    }

    fn page(&self) -> Option<OwnedFd> {
        self.page_of()
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
    server: Option<Server>,
    reactor: Arc<Reactor>,
    _folder: TempDir,
}

impl Core {
    fn start() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        Self::at(Path::new("home"), limits, THREADS)
    }

    /// One that has so many threads: while they are in skills nobody reads.
    fn with_threads(threads: usize) -> Self {
        Self::at(Path::new("home"), Limits::default(), threads)
    }

    /// Starts one in a home at `place`, relative to a temporary folder.
    fn at(place: &Path, limits: Limits, threads: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join(place);
        std::fs::create_dir_all(home.join("run")).expect("a home");
        let (sender, events) = channel();
        let service = Arc::new_cyclic(|me| Answers {
            me: Weak::clone(me),
            next: AtomicU64::new(1),
            open: Mutex::default(),
            opened: Condvar::new(),
            events: Mutex::new(sender),
            later: Mutex::default(),
            runs: Mutex::default(),
            made: Arc::default(),
            swaps: AtomicU64::new(0),
            code: Mutex::default(),
        });
        let reactor = Arc::new(Reactor::new(threads, || {}).expect("a reactor"));
        let mut core = Self {
            home,
            service,
            events,
            server: None,
            reactor,
            _folder: folder,
        };
        core.come_up(limits);
        core
    }

    fn come_up(&mut self, limits: Limits) {
        let server = Server::bind_within(
            &self.reactor,
            &self.home.join("run/core.sock"),
            Arc::clone(&self.service) as Arc<dyn Service>,
            CORE_PID,
            limits,
        );
        self.server = Some(server.expect("the socket opens"));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it is up")
    }

    fn connect(&self) -> Session {
        connect(&self.home).expect("the core lets us in")
    }

    /// A connection on which nothing was said.
    fn stranger(&self) -> Raw {
        let stream = connector::connect(self.server().path()).expect("the socket is there");
        Raw::new(stream)
    }

    /// A session without a client library.
    fn raw(&self) -> Raw {
        self.raw_with(&[])
    }

    /// A session without a client library, for which a client library's features are used.
    fn raw_with(&self, features: &[&str]) -> Raw {
        let mut raw = self.stranger();
        let features = features.iter().map(|name| (*name).to_owned());
        raw.say_hello(&Hello {
            features: features.collect(),
            ..hello()
        });
        let (header, body) = raw.read().expect("a welcome");
        assert_eq!(header.kind, Kind::Welcome);
        let welcome: Welcome = frame::decode_body(&body).expect("a welcome");
        assert_eq!(welcome.core_pid, CORE_PID);
        let known: Vec<_> = feature::ALWAYS
            .into_iter()
            .chain(feature::PORTABLE)
            .collect();
        assert_eq!(welcome.features, known);
        self.wait_for(&Event::Admitted(welcome.session));
        raw
    }

    /// Waits until the service has seen `event`; other events are passed over.
    fn wait_for(&self, event: &Event) {
        loop {
            let seen = self.events.recv_timeout(PATIENCE);
            let seen = seen.unwrap_or_else(|error| panic!("waiting for {event:?}: {error}"));
            if seen == *event {
                return;
            }
        }
    }

    fn wait_for_start(&self, key: &str) {
        self.wait_for(&Event::Started(key.to_owned()));
    }

    fn wait_for_end(&self) {
        loop {
            let seen = self.events.recv_timeout(PATIENCE).expect("an end");
            if matches!(seen, Event::Ended(_)) {
                return;
            }
        }
    }

    fn shut_down(&self, grace: Duration) {
        self.server().shutdown(grace);
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
        features: Vec::new(),
        token: None,
        client: "a test".to_owned(),
        pid: std::process::id(),
        imports: Vec::new(),
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

/// The bytes of a call by name.
fn call(number: u64, timeout_ms: u32, name: &str, arguments: impl Serialize) -> Vec<u8> {
    call_of(number, timeout_ms, Target::Name(name), arguments)
}

fn call_of(number: u64, timeout_ms: u32, target: Target<'_>, arguments: impl Serialize) -> Vec<u8> {
    let arguments = match codec::to_vec(&arguments).expect("arguments") {
        nil if nil == [0xc0] => vec![0x90],
        arguments => arguments,
    };
    let call = Call {
        target,
        arguments: &arguments,
    };
    call.frame(number, timeout_ms).expect("a frame")
}

/// The bytes of an import.
fn import(number: u64, name: &str, signature: Signature) -> Vec<u8> {
    let import = Import {
        name: name.to_owned(),
        signature,
        portable: false,
    };
    frame::encode_frame(Kind::Import, number, 0, &import).expect("a frame")
}

fn cancel(number: u64) -> Vec<u8> {
    frame::frame(Kind::Cancel, number, 0, &[]).expect("a frame")
}
