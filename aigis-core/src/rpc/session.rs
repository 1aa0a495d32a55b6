//! One client, from its hello to its end.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, failed};
use aigis_plugin_api::session::Received;
use aigis_plugin_api::session::frame::{
    self, Call, Header, Hello, Import, Kind, MAGIC, MAX_BODY, MAX_ITEM, Offer, PROTOCOL, Served,
    Target, Welcome, feature,
};
use aigis_plugin_api::session::link::{End, Link, Side};

use super::callee::Client;
use super::server::Shared;
use super::{Done, Imported, OverdueCall, SessionInfo, Underway, linux};

/// The longest frame that is neither a call, an answer nor about skills, in bytes.
const SHORT: usize = 64 << 10;
/// The longest hello, import and offer, in bytes.
const ABOUT_SKILLS: usize = 1 << 20;

/// The longest body that a client may send.
pub(super) fn longest(header: Header, greeted: bool) -> usize {
    match header.kind {
        _ if !greeted => SHORT,
        Kind::Call | Kind::Open | Kind::Reply | Kind::Error | Kind::End => MAX_BODY,
        Kind::Item => MAX_ITEM,
        Kind::Import | Kind::Offer => ABOUT_SKILLS,
        _ => SHORT,
    }
}

fn fault(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

fn no_import(number: u32) -> Failure {
    frame::malformed(format_args!(
        "a call names import {number}, which there is not"
    ))
}

/// What stands behind the core's side of one connection.
pub(super) struct CoreSide {
    shared: Arc<Shared>,
    number: u64,
    /// The only user who is let in, besides root.
    uid: u32,
    /// Since the client was let in.
    open: OnceLock<Open>,
    /// The service has heard of the end.
    over: AtomicBool,
}

/// A client that was let in.
struct Open {
    info: Arc<SessionInfo>,
    imports: RwLock<HashMap<u32, Arc<dyn Imported>>>,
    /// The code of portable skills may be sent.
    portable: bool,
    /// What the client was told last of its imports.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    served: HashMap<u32, Served>,
    /// The bytes of all imports.
    bytes: usize,
    /// The page of portable skills was sent.
    page: bool,
    /// The names of the libraries that were sent.
    libraries: HashSet<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a user may talk to the core of the user `own` at all.
pub(super) fn may_enter(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

impl CoreSide {
    /// Returns the process at the other end, once it was let in.
    pub(super) fn pid(&self) -> Option<u32> {
        self.open.get().map(|open| open.info.pid)
    }

    pub(super) fn new(shared: Arc<Shared>, number: u64, uid: u32) -> Self {
        Self {
            shared,
            number,
            uid,
            open: OnceLock::new(),
            over: AtomicBool::new(false),
        }
    }

    /// Ends a connection on which nobody has said hello.
    pub(super) fn greeting_is_over(&self, link: &Link) {
        if self.open.get().is_none() {
            let most = self.shared.limits.greeting;
            link.refuse(fault(format!(
                "expected a hello within {most:?}, found none"
            )));
        }
    }

    /// Checks who is there and asks the service. Nobody is refused before the hello is read: a client that
    /// is still writing it would see a broken connection, and not the reason.
    fn greet(&self, link: &Arc<Link>, frame: &Received) -> Result<(), Failure> {
        let peer = linux::peer(link.socket())
            .map_err(|error| fault(format!("the core cannot find out who is calling: {error}")))?;
        let (uid, own) = (peer.uid, self.uid);
        if !may_enter(uid, own) {
            return Err(fault(format!(
                "this socket is for the user with uid {own}, the client has uid {uid}"
            )));
        }
        let kind = frame.header.kind;
        if kind != Kind::Hello {
            return Err(fault(format!(
                "expected a hello as the first frame, found one of kind {kind:?}"
            )));
        }
        let mut hello: Hello = frame::decode_body(&frame.body)?;
        if hello.magic != MAGIC {
            let found: String = hello.magic.chars().take(40).collect();
            return Err(fault(format!(
                "expected the magic {MAGIC:?} in the hello, found {found:?}"
            )));
        }
        if hello.protocol.0 != PROTOCOL.0 {
            let ((major, minor), (its_major, its_minor)) = (PROTOCOL, hello.protocol);
            return Err(fault(format!(
                "this core speaks protocol {major}.{minor}, the client speaks {its_major}.{its_minor}; \
                 build both with the same major version of AIGIS"
            )));
        }
        if !self.shared.lets_in(self.number) {
            let most = self.shared.limits.sessions;
            return Err(Failure::new(
                FailureKind::Overloaded,
                format!("the core has {most} sessions already; end some of them and try again"),
            ));
        }
        let imports = std::mem::take(&mut hello.imports);
        let info = self.shared.service.admit(&hello, peer)?;
        self.open(link, info, &hello);
        for (number, import) in (0..).zip(imports) {
            self.import(link, number, import, 0)?;
        }
        Ok(())
    }

    /// Lets a client in.
    fn open(&self, link: &Arc<Link>, info: Arc<SessionInfo>, hello: &Hello) {
        let welcome = Welcome {
            protocol: PROTOCOL,
            features: feature::ALWAYS
                .into_iter()
                .chain(feature::PORTABLE)
                .map(str::to_owned)
                .collect(),
            session: info.id,
            core_pid: self.shared.core_pid,
        };
        let has = |feature: &str| hello.features.iter().any(|has| has == feature);
        if has(feature::RING) {
            link.share();
        }
        if has(feature::STREAMS) {
            link.stream();
        }
        link.greet();
        let _ = self.open.set(Open {
            info,
            imports: RwLock::default(),
            portable: feature::PORTABLE.is_some_and(has),
            told: Mutex::default(),
        });
        // It may have ended meanwhile, when there was no session yet whose end could be told. Either it
        // is forgotten already, or whoever forgets it finds the session.
        if !self.shared.has(self.number)
            && let Some(end) = link.end()
        {
            self.tell_end(end);
        }
        // Numbers and short names can be encoded.
        link.send(frame::encode_frame(Kind::Welcome, 0, 0, &welcome).unwrap_or_default());
    }

    /// Takes note of an import, and says what serves it.
    fn import(
        &self,
        link: &Arc<Link>,
        number: u32,
        import: Import,
        bytes: usize,
    ) -> Result<(), Failure> {
        let Some(open) = self.open.get() else {
            return Ok(());
        };
        let limits = &self.shared.limits;
        let mut told = lock(&open.told);
        told.bytes += bytes;
        if told.served.len() >= limits.imports || told.bytes > limits.import_bytes {
            let (most, bytes) = (limits.imports, limits.import_bytes);
            return Err(fault(format!(
                "a session may import {most} skills with signatures of {bytes} bytes together, this \
                 one imports more"
            )));
        }
        if told.served.contains_key(&number) {
            return Ok(());
        }
        let import = Import {
            portable: import.portable && open.portable,
            ..import
        };
        let imported = self.shared.service.import(&open.info, import);
        let served = imported.served();
        let mut imports = open.imports.write().unwrap_or_else(PoisonError::into_inner);
        imports.insert(number, imported);
        drop(imports);
        self.tell(link, &mut told, number, served);
        Ok(())
    }

    /// Hands an offer on, and its answer back.
    fn offer(&self, link: &Arc<Link>, number: u64, offer: Offer) {
        let Some(open) = self.open.get() else { return };
        let callee = Client::new(link, &open.info);
        let answered = Arc::downgrade(link);
        let answer = move |outcome| {
            if let Some(link) = answered.upgrade() {
                link.answer_offer(number, outcome);
            }
        };
        let service = &self.shared.service;
        service.offer(&open.info, offer, callee, Box::new(answer));
    }

    /// Says of calls whose client does not wait for them any more what they are.
    pub(super) fn overdue(&self, link: &Link) -> Vec<OverdueCall> {
        let Some(open) = self.open.get() else {
            return Vec::new();
        };
        let imports = open.imports.read().unwrap_or_else(PoisonError::into_inner);
        let all = link.overdue().into_iter().map(|call| OverdueCall {
            skill: match call.called {
                Ok(number) => imports
                    .get(&number)
                    .map(|imported| imported.name().to_owned())
                    .unwrap_or_default(),
                Err(name) => name,
            },
            session: Arc::clone(&open.info),
            time: call.time,
        });
        all.collect()
    }

    /// Tells the client which of its imports are served otherwise than it was told last.
    pub(super) fn tell_swaps(&self, link: &Link) {
        let Some(open) = self.open.get() else { return };
        let mut told = lock(&open.told);
        let imports = open.imports.read().unwrap_or_else(PoisonError::into_inner);
        for (number, imported) in imports.iter() {
            let now = imported.served();
            if told.served.get(number) != Some(&now) {
                self.tell(link, &mut told, *number, now);
            }
        }
    }

    /// Says what serves an import, after the code that it may name.
    fn tell(&self, link: &Link, told: &mut Told, number: u32, mut served: Served) {
        served
            .portable
            .take_if(|at| !self.send_code(link, told, &at.library));
        let frame = frame::encode_frame(Kind::Served, number.into(), 0, &served);
        // What is too long to be told is not told; the call says it.
        link.send(frame.unwrap_or_default());
        told.served.insert(number, served);
    }

    /// Sends a library with portable skills, and the page that says what serves, unless the client has
    /// them; false when there are none.
    fn send_code(&self, link: &Link, told: &mut Told, name: &str) -> bool {
        let service = &self.shared.service;
        if !told.page {
            let Some(page) = service.page() else {
                return false;
            };
            let frame = frame::frame(Kind::Page, 0, 0, &[]);
            link.send_with(frame.unwrap_or_default(), page);
            told.page = true;
        }
        if !told.libraries.contains(name) {
            let Some((library, memory)) = service.library(name) else {
                return false;
            };
            let frame = frame::encode_frame(Kind::Library, 0, 0, &library);
            link.send_with(frame.unwrap_or_default(), memory);
            told.libraries.insert(library.name);
        }
        true
    }
}

impl Side for CoreSide {
    fn take(&self, link: &Arc<Link>, frame: Received) -> Result<(), Failure> {
        if self.open.get().is_none() {
            return self.greet(link, &frame);
        }
        match frame.header.kind {
            Kind::Import => {
                let number = u32::try_from(frame.header.call)
                    .map_err(|_| frame::malformed("an import's number is below 2^32"))?;
                let bytes = frame.body.len();
                self.import(link, number, frame::decode_body(&frame.body)?, bytes)
            }
            Kind::Offer => {
                let number = frame.header.call;
                if number == 0 {
                    return Err(frame::malformed(
                        "offers are numbered from 1, this one is 0",
                    ));
                }
                self.offer(link, number, frame::decode_body(&frame.body)?);
                Ok(())
            }
            Kind::Hello => Err(frame::malformed("a second hello")),
            kind => Err(frame::malformed(format_args!(
                "a client sends no frames of kind {kind:?}"
            ))),
        }
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Failure> {
        let (Target::Import(number), Some(open)) = (call.target, self.open.get()) else {
            return Ok(());
        };
        let imports = open.imports.read().unwrap_or_else(PoisonError::into_inner);
        if imports.contains_key(&number) {
            return Ok(());
        }
        Err(no_import(number))
    }

    fn call(
        &self,
        _: &Arc<Link>,
        call: Call<'_>,
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let Some(open) = self.open.get() else {
            done(Err(fault(
                "expected a hello as the first frame, found a call",
            )));
            return None;
        };
        match call.target {
            Target::Name(name) => {
                let service = &self.shared.service;
                service.call(&open.info, name, call.arguments, timeout, done)
            }
            Target::Import(number) => {
                let imports = open.imports.read().unwrap_or_else(PoisonError::into_inner);
                let imported = imports.get(&number).map(Arc::clone);
                drop(imports);
                match imported {
                    Some(imported) => imported.call(call.arguments, timeout, done),
                    // It was there when the call was taken in.
                    None => {
                        done(Err(no_import(number)));
                        None
                    }
                }
            }
        }
    }

    fn open(
        &self,
        _: &Arc<Link>,
        call: Call<'_>,
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let Some(open) = self.open.get() else {
            return failed(fault("expected a hello as the first frame, found a call"));
        };
        match call.target {
            Target::Name(name) => {
                let service = &self.shared.service;
                service.open(&open.info, name, call.arguments, streams, timeout)
            }
            Target::Import(number) => {
                let imports = open.imports.read().unwrap_or_else(PoisonError::into_inner);
                let imported = imports.get(&number).map(Arc::clone);
                drop(imports);
                match imported {
                    Some(imported) => imported.open(call.arguments, streams, timeout),
                    // It was there when the call was taken in.
                    None => failed(no_import(number)),
                }
            }
        }
    }

    fn ended(&self, end: &End) {
        self.shared.forget(self.number);
        self.tell_end(end);
    }
}

impl CoreSide {
    /// Says that a session has ended, once; nothing when nobody was let in.
    fn tell_end(&self, end: &End) {
        let Some(Open { info, .. }) = self.open.get() else {
            return;
        };
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        let told = catch_unwind(AssertUnwindSafe(|| self.shared.service.ended(info)));
        if told.is_err() {
            tracing::error!(
                session = info.id,
                "the core panicked at the end of a session"
            );
        }
        if let End::Fault(_) | End::Stalled = end {
            tracing::warn!(
                session = info.id,
                client = info.client,
                "a session was ended: {end}"
            );
        }
    }
}
