//! The client's side of a session.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{
    self, Call, Header, Hello, Import, Kind, MAGIC, MAX_BODY, PROTOCOL, Served, Target, Welcome,
    feature,
};
use super::grant::SessionGrant;
use super::inbox::Received;
use super::incoming::{Done, Limits, Underway};
use super::link::{End, Link, Outgoing, Side, has_not_begun};
use super::reactor::Reactor;
use super::serving::{Serve, Skills, unserved};
use super::{lock, socket};
use crate::abi::OnOutcome;
use crate::backend::{self, Backend, Expected, Request};
use crate::error::{CallError, Failure, FailureKind, SkillFailure, timed_out, too_large};
use crate::logger::Logger;
#[cfg(feature = "portable")]
use crate::portable::{self, Brought, MappedPage};
use crate::signature::SignatureId;
use crate::skill::Skill;
use crate::stream::{BoxItems, Limit, Stream, failed, lazily, timed};

/// How long a call over a session waits when nobody said otherwise.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a core may take to answer a hello.
const GREETING: Duration = Duration::from_secs(10);
/// For how long after its core has gone a session lets calls wait for the next one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the first pause between two tries to reach the next core is, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long a thread waits for an answer right where it reads, at most.
const NAP: Duration = Duration::from_millis(100);
/// How long a core may take to answer an offer.
const OFFERING: Duration = Duration::from_mins(1);
/// How long the calls that are underway may take when this process stops serving.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// How many threads may run callbacks, and skills that this process serves.
const THREADS: usize = 512;
/// No plugin has a limit below this, in bytes.
const LIMITED: usize = 64 << 10;
/// Switches the shared memory of sessions off, with the value `off`.
const RING_VARIABLE: &str = "AIGIS_SESSION_RING";

/// A connection of this process to a core. Clones share it; it ends with the last one.
///
/// When the core is gone, the session looks for the next one in the same place by itself; calls made
/// meanwhile wait for it, ten seconds at most.
///
/// ```no_run
/// let session = aigis_plugin_api::connect(".")?;
/// let limit: usize = session.call("greeter.MAX_NAME_LENGTH", ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

/// Ends the connection when the last clone of the session goes.
struct Handle {
    shared: Arc<Shared>,
}

/// Where the core is, and what to present there.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) socket: PathBuf,
    pub(crate) token: Option<String>,
    pub(crate) client: String,
    /// A core that comes later is welcome, too.
    pub(crate) reconnects: bool,
    /// An offer follows.
    pub(crate) offers: bool,
}

struct Shared {
    address: Address,
    state: Mutex<State>,
    changed: Condvar,
    imports: Mutex<Imports>,
    /// What this process serves, once that is known.
    skills: OnceLock<Arc<dyn Serve>>,
    /// The process of the first core.
    core_pid: u32,
    /// Tells it from the other sessions of this process; the first one has 1.
    number: u64,
    /// Which versions serve portable skills, as the core says that there is now.
    #[cfg(feature = "portable")]
    page: Mutex<Option<Arc<MappedPage>>>,
}

enum State {
    Up(Arc<Link>),
    /// There is no core, since then.
    Down {
        since: Instant,
        reason: String,
    },
    /// There will be none.
    Ended(String),
}

/// What this process imports, by the numbers that all its connections use.
#[derive(Default)]
struct Imports {
    all: Vec<Import>,
    known: HashMap<String, Vec<Arc<Imported>>>,
}

/// What is known of one import.
struct Imported {
    number: u32,
    id: SignatureId,
    portable: bool,
    /// The core has taken note of it: a call that names it may take any way.
    noted: AtomicBool,
    served: Mutex<Served>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("core_pid", &self.core_pid())
            .finish_non_exhaustive()
    }
}

/// The threads that read this process's sessions while nobody waits there.
///
/// # Errors
/// What the system says: they cannot be started.
pub fn reactor() -> io::Result<Arc<Reactor>> {
    static REACTOR: OnceLock<Arc<Reactor>> = OnceLock::new();
    if let Some(reactor) = REACTOR.get() {
        return Ok(Arc::clone(reactor));
    }
    let made = Arc::new(Reactor::new(THREADS, || {})?);
    Ok(Arc::clone(REACTOR.get_or_init(|| made)))
}

/// Runs `body` soon, on a thread that may block.
pub(crate) fn run_soon(body: Box<dyn FnOnce() + Send>) {
    if let Ok(reactor) = reactor() {
        // Without a thread it is dropped, which tells whoever waits for it.
        let _ = reactor.submit(body);
    }
}

impl Session {
    pub(crate) fn open(address: Address) -> Result<Self, Failure> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (socket, welcome) = greet(&address)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Down {
                since: Instant::now(),
                reason: "it is only just being opened".to_owned(),
            }),
            changed: Condvar::new(),
            imports: Mutex::default(),
            skills: OnceLock::new(),
            core_pid: welcome.core_pid,
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            #[cfg(feature = "portable")]
            page: Mutex::default(),
            address,
        });
        shared.connected(socket, &welcome)?;
        Ok(Self {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// Calls a skill by name and waits, at most 60 s. Arguments are a tuple by position, or a
    /// struct or map by name.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.call("greeter.greet", ("zaltu",))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn call<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<T, CallError<SkillFailure>> {
        self.call_within(name, arguments, DEFAULT_TIMEOUT)
    }

    /// Calls a skill by name and waits, at most `timeout`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.call_within("greeter.greet", ("zaltu",), Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn call_within<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
        timeout: Duration,
    ) -> Result<T, CallError<SkillFailure>> {
        backend::call_by_name(&*self.handle, name, arguments, Some(timeout))
            .map_err(CallError::dynamic)
    }

    /// Calls a skill whose result is a stream by name, and waits until it has begun. Arguments are given as
    /// to [`call`](Self::call); for a parameter that is a stream, a list of items. Each item, and before
    /// the first the beginning, is waited for 60 s at most. The stream keeps the session open.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// for number in session.stream::<u64>("numbers.count", ())?.take(3) {
    ///     println!("{}", number?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<Stream<T>, CallError<SkillFailure>> {
        let stream = backend::open_by_name(&*self.handle, name, arguments, None);
        stream
            .map(|stream| stream.keeping(self.clone()))
            .map_err(CallError::dynamic)
    }

    /// Does the same for at most `timeout`, from the call to the last item.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let numbers = session.stream_within::<u64>("numbers.count", (), Duration::from_secs(1))?;
    /// println!("{} numbers came in a second", numbers.take_while(Result::is_ok).count());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn stream_within<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
        timeout: Duration,
    ) -> Result<Stream<T>, CallError<SkillFailure>> {
        let stream = backend::open_by_name(&*self.handle, name, arguments, Some(timeout));
        stream
            .map(|stream| stream.keeping(self.clone()))
            .map_err(CallError::dynamic)
    }

    /// Runs `body` with this session as the host that imports and [`crate::call`] ask.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.scope(|| aigis_plugin_api::call("greeter.greet", ("zaltu",)))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        backend::scope(self.backend(), body)
    }

    /// Returns the process id of the core that the session was opened with.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// println!("the core is process {}", session.core_pid());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn core_pid(&self) -> u32 {
        self.handle.shared.core_pid
    }

    /// Offers skills of this process to the core, and again to each that comes later; returns when they
    /// can be called.
    pub(crate) fn serve(&self, skills: &[&'static Skill]) -> Result<(), Failure> {
        self.offer(Arc::new(Skills::new(skills)))
    }

    /// Opens the session of a launched process whose program is the core's own; without its core it ends.
    ///
    /// # Errors
    /// The core cannot be reached, or does not let it in.
    #[doc(hidden)]
    pub fn launched(grant: &SessionGrant) -> Result<Self, Failure> {
        Self::open(Address {
            reconnects: false,
            ..grant.address()
        })
    }

    /// Offers what `serves` serves to the core; returns when it can be called.
    ///
    /// # Errors
    /// Why the core does not take it.
    #[doc(hidden)]
    pub fn offer(&self, serves: Arc<dyn Serve>) -> Result<(), Failure> {
        let shared = &self.handle.shared;
        // Calls can come before the answer does.
        let mine = shared.skills.get_or_init(|| serves);
        let link = shared.link("the offer", Instant::now() + PATIENCE)?;
        link.offer(&mine.offer(), OFFERING)
    }

    /// Takes no further call of this process's skills, and waits for those underway.
    #[doc(hidden)]
    pub fn stop_serving(&self) {
        let shared = &self.handle.shared;
        if let Some(skills) = shared.skills.get() {
            skills.close();
            if let Some(link) = shared.up() {
                link.incoming.wait_for_answers(Instant::now() + LAST_CALLS);
            }
        }
    }

    /// Returns what makes calls over it.
    #[doc(hidden)]
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.handle) as Arc<dyn Backend>
    }
}

/// Connects and says hello.
fn greet(address: &Address) -> Result<(UnixStream, Welcome), Failure> {
    let absent = |error: io::Error| {
        Failure::new(
            FailureKind::NotConnected,
            format!("cannot reach `{}`: {error}", address.socket.display()),
        )
    };
    let mut socket = socket::connect(&address.socket).map_err(absent)?;
    let mut features = vec![feature::ATTACHED.to_owned(), feature::STREAMS.to_owned()];
    if std::env::var_os(RING_VARIABLE).is_none_or(|value| value != "off") {
        features.push(feature::RING.to_owned());
    }
    if address.offers {
        features.push(feature::OFFERS.to_owned());
    }
    #[cfg(feature = "portable")]
    features.extend(feature::PORTABLE.map(str::to_owned));
    let hello = Hello {
        magic: MAGIC.to_owned(),
        protocol: PROTOCOL,
        features,
        token: address.token.clone(),
        client: address.client.clone(),
        pid: std::process::id(),
        // They follow, so that any number of them finds room.
        imports: Vec::new(),
    };
    let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello)?;
    socket
        .set_read_timeout(Some(GREETING))
        .and_then(|()| frame::write_frame(&mut socket, &hello))
        .map_err(absent)?;
    let (header, body) = frame::read_frame(&mut socket)
        .map_err(absent)?
        .ok_or_else(|| absent(io::ErrorKind::UnexpectedEof.into()))?;
    match header.kind {
        Kind::Welcome => Ok((socket, frame::decode_body(&body)?)),
        Kind::Error => Err(Failure::decode(&body)),
        other => Err(Failure::new(
            FailureKind::NotConnected,
            format!("the core answered the hello with a frame of kind {other:?}"),
        )),
    }
}

/// What a client takes: answers of any length.
fn longest(_: Header, _: bool) -> usize {
    MAX_BODY
}

impl Shared {
    /// Goes on with a core that has said welcome.
    fn connected(self: &Arc<Self>, socket: UnixStream, welcome: &Welcome) -> Result<(), Failure> {
        let internal = |error: io::Error| {
            let message = format!("what reads a session cannot be started: {error}");
            Failure::new(FailureKind::Internal, message)
        };
        let reactor = reactor().map_err(internal)?;
        let side = Arc::new(ClientSide {
            shared: Arc::downgrade(self),
        });
        let link = Link::new(socket, reactor, side, Limits::default(), longest, NAP);
        let has = |feature: &str| welcome.features.iter().any(|has| has == feature);
        if has(feature::RING) {
            link.accept_sharing();
        }
        if has(feature::STREAMS) {
            link.stream();
        }
        link.greet();
        {
            // Told before anybody calls, and nobody imports anything meanwhile.
            let imports = lock(&self.imports);
            for (number, import) in imports.all.iter().enumerate() {
                let frame = frame::encode_frame(Kind::Import, number as u64, 0, import);
                link.send(frame.unwrap_or_default());
            }
            // Up before anything is read: the end may be the first thing that comes.
            *lock(&self.state) = State::Up(Arc::clone(&link));
        }
        link.start().map_err(internal)?;
        self.changed.notify_all();
        if let Some(skills) = self.skills.get() {
            // A core that came later has to be told; nobody waits for its answer.
            link.start_offer(&skills.offer(), Box::new(note_refusal));
        }
        Ok(())
    }

    /// Returns the connection, if there is one.
    fn up(&self) -> Option<Arc<Link>> {
        match &*lock(&self.state) {
            State::Up(link) => Some(Arc::clone(link)),
            State::Down { .. } | State::Ended(_) => None,
        }
    }

    /// Returns the connection, waiting for one until `deadline`.
    fn link(&self, skill: &str, deadline: Instant) -> Result<Arc<Link>, Failure> {
        let mut state = lock(&self.state);
        loop {
            let (until, reason) = match &*state {
                State::Up(link) => return Ok(Arc::clone(link)),
                State::Ended(reason) => return Err(absent(skill, reason)),
                State::Down { since, reason } => (deadline.min(*since + PATIENCE), reason),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(absent(skill, reason));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Finds the number of an import, or tells the core of it.
    fn import(&self, name: &str, expected: &Expected, portable: bool) -> Arc<Imported> {
        let mut imports = lock(&self.imports);
        let same = |of: &&Arc<Imported>| of.id == expected.id && of.portable == portable;
        if let Some(of_name) = imports.known.get(name)
            && let Some(imported) = of_name.iter().find(same)
        {
            return Arc::clone(imported);
        }
        let import = Import {
            name: name.to_owned(),
            signature: expected.signature.clone(),
            portable,
        };
        let number = u32::try_from(imports.all.len()).unwrap_or(u32::MAX);
        let imported = Arc::new(Imported {
            number,
            id: expected.id,
            portable,
            noted: AtomicBool::new(false),
            served: Mutex::default(),
        });
        let frame = frame::encode_frame(Kind::Import, u64::from(number), 0, &import);
        imports.all.push(import);
        let of_name = imports.known.entry(name.to_owned()).or_default();
        of_name.push(Arc::clone(&imported));
        // Under the lock: another thread's call of it must not be sent first. The connection of now may
        // be a later one than the caller's; if there is none, the next core is told of all imports.
        if let State::Up(link) = &*lock(&self.state) {
            link.send(frame.unwrap_or_default());
        }
        imported
    }

    fn imported(&self, number: u64) -> Option<Arc<Imported>> {
        let imports = lock(&self.imports);
        let mut all = imports.known.values().flatten();
        all.find(|imported| u64::from(imported.number) == number)
            .map(Arc::clone)
    }

    /// The connection is gone; looks for the next core unless there cannot be one.
    fn lost(self: &Arc<Self>, end: &End) {
        // What it says is no longer known to be so.
        #[cfg(feature = "portable")]
        drop(lock(&self.page).take());
        let reason = end.to_string();
        let over = !self.address.reconnects || matches!(end, End::Refused(_) | End::Here);
        {
            let mut state = lock(&self.state);
            if matches!(*state, State::Ended(_)) {
                // Nobody is left who wants the next core.
                return;
            }
            *state = if over {
                State::Ended(reason)
            } else {
                let since = Instant::now();
                State::Down { since, reason }
            };
        }
        self.changed.notify_all();
        for imported in lock(&self.imports).known.values().flatten() {
            imported.noted.store(false, Ordering::Relaxed);
        }
        if !over {
            let me = Arc::downgrade(self);
            let thread = thread::Builder::new().name("aigis-reconnect".to_owned());
            if let Err(error) = thread.spawn(move || reconnect(&me)) {
                *lock(&self.state) = State::Ended(format!("it cannot be looked for: {error}"));
            }
        }
    }
}

/// Looks for the next core until there is one, or nobody is left who wants it.
fn reconnect(shared: &Weak<Shared>) {
    let (mut pause, longest) = PAUSES;
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match greet(&shared.address) {
            Ok((socket, welcome)) => {
                if let Err(failure) = shared.connected(socket, &welcome) {
                    *lock(&shared.state) = State::Ended(failure.message);
                    shared.changed.notify_all();
                }
                return;
            }
            // One that has too many sessions has room when others end.
            Err(failure)
                if !matches!(
                    failure.kind,
                    FailureKind::NotConnected | FailureKind::Overloaded
                ) =>
            {
                *lock(&shared.state) = State::Ended(failure.message);
                shared.changed.notify_all();
                return;
            }
            Err(_) => {
                if matches!(*lock(&shared.state), State::Ended(_)) {
                    return;
                }
            }
        }
        drop(shared);
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Says in the log that a core does not take what this process serves.
fn note_refusal(outcome: Result<Vec<u8>, Failure>) {
    if let Err(failure) = outcome {
        Logger::to_stderr().error(format_args!(
            "the core does not take the skills of this process: {failure}"
        ));
    }
}

fn absent(skill: &str, reason: &str) -> Failure {
    Failure::new(
        FailureKind::CoreGone,
        format!("there is no core ({reason}); {skill} was not called"),
    )
    .of_skill(skill)
}

impl Drop for Handle {
    fn drop(&mut self) {
        let state = std::mem::replace(
            &mut *lock(&self.shared.state),
            State::Ended("the session has ended".to_owned()),
        );
        if let State::Up(link) = state {
            link.goodbye();
        }
    }
}

/// What stands behind this side.
struct ClientSide {
    shared: Weak<Shared>,
}

impl ClientSide {
    /// Finds what serves a call of the core's, and what that calls it.
    fn called<'a>(&self, target: Target<'a>) -> Result<(Arc<dyn Serve>, &'a str), Failure> {
        let Target::Name(name) = target else {
            // Only clients import.
            return Err(unserved("an import"));
        };
        let shared = self.shared.upgrade();
        let skills = shared.as_ref().and_then(|shared| shared.skills.get());
        match skills {
            Some(skills) => Ok((Arc::clone(skills), name)),
            None => Err(unserved(name)),
        }
    }
}

impl Side for ClientSide {
    fn take(&self, _: &Arc<Link>, frame: Received) -> Result<(), Failure> {
        let kind = frame.header.kind;
        #[cfg(feature = "portable")]
        if matches!(kind, Kind::Page | Kind::Library) {
            return self.take_code(frame);
        }
        if kind != Kind::Served {
            return Err(frame::malformed(format_args!(
                "a core sends no frames of kind {kind:?}"
            )));
        }
        let served: Served = frame::decode_body(&frame.body)?;
        if let Some(shared) = self.shared.upgrade()
            && let Some(imported) = shared.imported(frame.header.call)
        {
            *lock(&imported.served) = served;
            imported.noted.store(true, Ordering::Relaxed);
            #[cfg(feature = "portable")]
            if imported.portable {
                portable::is_news();
            }
        }
        Ok(())
    }

    fn call(
        &self,
        link: &Arc<Link>,
        call: Call<'_>,
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        match self.called(call.target) {
            Ok((skills, name)) => skills.call(name, call.arguments, timeout, link.reactor(), done),
            Err(failure) => {
                done(Err(failure));
                None
            }
        }
    }

    fn open(
        &self,
        _: &Arc<Link>,
        call: Call<'_>,
        streams: Vec<BoxItems>,
        _: Option<Duration>,
    ) -> BoxItems {
        match self.called(call.target) {
            Ok((skills, name)) => skills.open(name, call.arguments, streams),
            Err(failure) => failed(failure),
        }
    }

    fn other(&self) -> &'static str {
        "the core"
    }

    fn ended(&self, end: &End) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lost(end);
        }
    }
}

impl Shared {
    /// Runs `body` with a connection and the call to be made there.
    fn outgoing<R>(
        &self,
        request: &Request<'_>,
        deadline: Instant,
        body: impl FnOnce(&Link, Outgoing<'_>, Option<&Imported>) -> R,
    ) -> Result<R, Failure> {
        let link = self.link(request.name, deadline)?;
        let begun = Instant::now();
        let imported = request
            .expected
            .map(|expected| self.import(request.name, expected, request.portable));
        let (target, in_order) = match &imported {
            Some(imported) => (
                Target::Import(imported.number),
                !imported.noted.load(Ordering::Relaxed),
            ),
            None => (Target::Name(request.name), false),
        };
        let size = request.arguments.len() + request.tail.len();
        if size >= LIMITED
            && let Some(imported) = &imported
            && let Some(most) = lock(&imported.served).max_message
            && size as u64 > most
        {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            return Err(too_large(request.name, "arguments", size, most));
        }
        let call = Outgoing {
            call: Call {
                target,
                arguments: request.arguments,
            },
            tail: request.tail,
            skill: request.name,
            begun,
            timeout: deadline.saturating_duration_since(begun),
            in_order,
        };
        Ok(body(&link, call, imported.as_deref()))
    }
}

fn deadline(request: &Request<'_>) -> Instant {
    let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let now = Instant::now();
    // A time that cannot be told is as good as none.
    now.checked_add(timeout)
        .unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()))
}

impl Backend for Handle {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        if backend::must_not_block() {
            return Err(backend::would_block(request.name));
        }
        let deadline = deadline(request);
        loop {
            let (outcome, again) =
                self.shared
                    .outgoing(request, deadline, |link, call, imported| {
                        let outcome = link.call(call);
                        let may_run_twice = imported.is_some_and(|it| lock(&it.served).idempotent);
                        (outcome, may_run_twice)
                    })?;
            match outcome {
                Err(failure) if failure.kind == FailureKind::CoreGone && again => {}
                Err(failure) if has_not_begun(&failure) => {}
                // Another one's time may be over as well: that of a call further on.
                Err(failure)
                    if failure.kind == FailureKind::TimedOut && Instant::now() >= deadline =>
                {
                    let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
                    return Err(timed_out(request.name, timeout));
                }
                outcome => return outcome,
            }
        }
    }

    fn start(&self, request: &Request<'_>, done: OnOutcome) -> u64 {
        // Whoever starts a call does not wait, not even for the next core.
        let now = Instant::now();
        let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let mut done = Some(done);
        let started = self.shared.outgoing(request, now, |link, call, _| {
            let call = Outgoing { timeout, ..call };
            done.take().map_or(0, |done| link.start_call(call, done))
        });
        match (started, done) {
            (Ok(number), _) => number,
            (Err(failure), Some(done)) => {
                done(Err(failure));
                0
            }
            (Err(_), None) => 0,
        }
    }

    fn open(&self, request: &Request<'_>, streams: Vec<BoxItems>) -> BoxItems {
        let shared = Arc::clone(&self.shared);
        let name = request.name.to_owned();
        let expected = request.expected.cloned();
        let arguments = request.whole_arguments().into_owned();
        let timeout = request.timeout;
        let limit = timeout.map_or(Limit::Each(DEFAULT_TIMEOUT), Limit::Whole);
        let of = name.clone();
        let items = lazily(move || {
            let request = Request {
                name: &name,
                expected: expected.as_ref(),
                arguments: &arguments,
                tail: &[],
                portable: false,
                timeout,
            };
            let deadline = deadline(&request);
            let opened = shared.outgoing(&request, deadline, |link, call, _| {
                link.open(call, timeout, streams)
            });
            opened.unwrap_or_else(failed)
        });
        timed(items, &of, limit)
    }

    fn cancel(&self, call: u64) {
        if let Some(link) = self.shared.up() {
            link.cancel(call);
        }
    }

    fn session(&self) -> u64 {
        self.shared.number
    }

    #[cfg(feature = "portable")]
    fn brought(&self, name: &str, expected: &Expected) -> Option<Brought> {
        let imported = self.shared.import(name, expected, true);
        let at = lock(&imported.served).portable.clone()?;
        let page = lock(&self.shared.page).as_ref().map(Arc::clone)?;
        Some(Brought {
            library: portable::loaded(&at.library)?,
            index: at.index,
            cell: page.cell(at.cell)?,
            ticket: at.ticket,
        })
    }
}

#[cfg(feature = "portable")]
impl ClientSide {
    /// Takes what a core sends for portable skills.
    fn take_code(&self, frame: Received) -> Result<(), Failure> {
        let kind = frame.header.kind;
        let memory = frame.descriptor.ok_or_else(|| {
            frame::malformed(format_args!(
                "a frame of kind {kind:?} should come with a descriptor, none came"
            ))
        })?;
        if kind == Kind::Library {
            portable::receive(frame::decode_body(&frame.body)?, memory);
            return Ok(());
        }
        let Some(shared) = self.shared.upgrade() else {
            return Ok(());
        };
        let mapped = MappedPage::adopt(&memory);
        match mapped {
            Ok(page) => {
                *lock(&shared.page) = Some(Arc::new(page));
                portable::is_news();
            }
            // Nothing is lost but time.
            Err(reason) => Logger::to_stderr().warn(format_args!(
                "portable skills are called in the core, as all others are: the page that the core has \
                 sent cannot be used: {reason}"
            )),
        }
        Ok(())
    }
}
