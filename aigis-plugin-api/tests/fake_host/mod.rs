//! A host that a test's own skills are loaded into: it calls them through their descriptor, keeps
//! what they log, and counts the direct calls.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod spans;
mod streams;
mod tasks;

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;

use aigis_plugin_api::__private::{
    Description, Failure, FailureKind, Grant, Signature, SkillDescription,
};
use aigis_plugin_api::Value;
use aigis_plugin_api::abi::{
    self, Buffer, Bytes, Completion, Descriptor, Entered, HostApi, LogRecord, Request, Seat,
    Status, Task, Text,
};
use aigis_plugin_api::codec;
use aigis_plugin_api::signature::differences;

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use tasks::{Poller, Tasks, begin};

/// One event that reached the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    pub level: u8,
    pub target: String,
    pub message: String,
    pub fields: Value,
    /// The spans around it, from the outermost.
    pub spans: Vec<spans::Span>,
    pub file: String,
    pub line: u32,
}

struct Link {
    name: String,
    signature: Signature,
}

/// The host of this process.
pub struct FakeHost {
    api: HostApi,
    descriptor: &'static Descriptor,
    description: Description,
    logs: Mutex<Vec<Logged>>,
    spans: spans::Spans,
    /// Boxed, because the library keeps pointers to them.
    #[expect(clippy::vec_box, reason = "the library keeps pointers to them")]
    links: Mutex<Vec<Box<Link>>>,
    entered: Mutex<HashMap<String, usize>>,
    encoded: Mutex<HashMap<String, usize>>,
    calls: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    running: (Mutex<usize>, Condvar),
    pub tasks: Tasks,
    pub streams: streams::Streams,
}

/// A started call: where its outcome goes, and who polls it if it is async.
#[derive(Clone)]
struct Pending {
    place: Arc<Mutex<Option<Completion>>>,
    poller: Arc<Poller>,
}

// SAFETY: nothing in it is written without a lock; the pointers in `api` are to itself.
unsafe impl Sync for FakeHost {}
// SAFETY: as above.
unsafe impl Send for FakeHost {}

/// What the host grants unless a test says otherwise.
pub fn grant(settings: Option<Value>) -> Grant {
    Grant {
        plugin: "tested".to_owned(),
        generation: 3,
        home: PathBuf::from("/home/of/tests"),
        data: PathBuf::from("/home/of/tests/data/tested"),
        core_pid: std::process::id(),
        instance: 0,
        settings,
        brought: false,
    }
}

pub fn describe() -> Description {
    try_describe().expect("a description")
}

/// Asks the library what it offers, which it may refuse to say.
pub fn try_describe() -> Result<Description, Failure> {
    let mut out = Buffer::default();
    match (abi::descriptor().describe)(&mut out) {
        Status::Ok => Ok(codec::from_slice(out.as_slice()).expect("a description")),
        Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
    }
}

/// Makes what a version that had these blocks would have saved.
pub fn saved_by<'n>(blocks: impl IntoIterator<Item = (&'n str, Vec<u8>)>) -> Vec<u8> {
    let states: Value = blocks.into_iter().collect();
    codec::to_vec(&states).expect("encodes")
}

impl FakeHost {
    /// Makes the host, without opening the library.
    pub fn new() -> &'static Self {
        let host = Box::leak(Box::new(Self {
            api: HostApi {
                size: size_of::<HostApi>(),
                context: std::ptr::null(),
                log,
                enabled,
                span_open: spans::span_open,
                span_record: spans::span_record,
                span_enter: spans::span_enter,
                span_exit: spans::span_exit,
                span_clone: spans::span_clone,
                span_close: spans::span_close,
                current_span: spans::current_span,
                call,
                start,
                cancel,
                link,
                enter,
                attend,
                inside,
                sleep: tasks::sleep,
                spawn: tasks::spawn,
                abort: tasks::abort,
                run: tasks::run,
                open: streams::open,
                next: streams::next,
                pull: streams::pull,
                close_stream: streams::close_stream,
            },
            descriptor: abi::descriptor(),
            description: describe(),
            logs: Mutex::default(),
            spans: spans::Spans::default(),
            links: Mutex::default(),
            entered: Mutex::default(),
            encoded: Mutex::default(),
            calls: AtomicU64::new(1),
            pending: Mutex::default(),
            running: (Mutex::new(0), Condvar::new()),
            tasks: Tasks::default(),
            streams: streams::Streams::default(),
        }));
        host.api.context = std::ptr::from_ref(host).cast();
        host
    }

    /// Opens the library.
    pub fn open(&'static self, settings: Option<Value>) -> Result<(), Failure> {
        self.open_with(settings, &[])
    }

    /// Opens the library with what the version before has saved.
    pub fn open_with(&'static self, settings: Option<Value>, saved: &[u8]) -> Result<(), Failure> {
        self.open_as(&grant(settings), saved)
    }

    /// Opens the library with everything that a host can say.
    pub fn open_as(&'static self, grant: &Grant, saved: &[u8]) -> Result<(), Failure> {
        let grant = codec::to_vec(grant).expect("encodes");
        let mut error = Buffer::default();
        match (self.descriptor.open)(&self.api, grant.as_slice().into(), saved.into(), &mut error) {
            Status::Ok => Ok(()),
            Status::Failed | Status::Absent => Err(Failure::decode(error.as_slice())),
        }
    }

    /// Asks the library for its state; `None` when it has nothing to hand over.
    pub fn save(&self) -> Result<Option<Vec<u8>>, Failure> {
        let mut out = Buffer::default();
        match (self.descriptor.save)(&mut out) {
            Status::Ok => Ok(Some(out.into_vec())),
            Status::Absent => Ok(None),
            Status::Failed => Err(Failure::decode(out.as_slice())),
        }
    }

    /// Ends the library's tasks, and closes it.
    pub fn close(&self) -> Result<(), Failure> {
        self.tasks.retire();
        let mut error = Buffer::default();
        match (self.descriptor.close)(&mut error) {
            Status::Ok => Ok(()),
            Status::Failed | Status::Absent => Err(Failure::decode(error.as_slice())),
        }
    }

    /// Returns the host that all tests of a program share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<&'static FakeHost> = OnceLock::new();
        SHARED.get_or_init(|| {
            let host = Self::new();
            let settings = Value::from_iter([("start", Value::from(100))]);
            host.open(Some(settings)).expect("opens");
            host
        })
    }

    pub fn skill(&self, name: &str) -> Option<(u32, &SkillDescription)> {
        let index = self
            .description
            .skills
            .iter()
            .position(|s| s.name == name)?;
        Some((
            u32::try_from(index).expect("few skills"),
            &self.description.skills[index],
        ))
    }

    /// Calls a skill with encoded arguments, as a core does.
    pub fn call(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        self.call_with(&Poller::new(), name, arguments)
    }

    /// Begins an async skill.
    pub fn begin(&self, name: &str, arguments: &[u8]) -> Task {
        let (index, _) = self.skill(name).expect("a skill");
        let begun = begin(self.descriptor, index, arguments).expect("begins");
        begun.expect("the skill is async")
    }

    fn call_with(&self, poller: &Poller, name: &str, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some((index, _)) = self.skill(name) else {
            return Err(
                Failure::new(FailureKind::NotFound, format!("no plugin offers `{name}`"))
                    .with_details(vec!["kitchen.cook".to_owned()]),
            );
        };
        if let Some(task) = begin(self.descriptor, index, arguments)? {
            return poller.drive(task);
        }
        let mut out = Buffer::default();
        match (self.descriptor.call)(index, arguments.into(), &mut out) {
            Status::Ok => Ok(out.into_vec()),
            Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
        }
    }

    /// Calls a skill with arguments that serde can write, and reads its result.
    pub fn ask<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        arguments: impl serde::Serialize,
    ) -> Result<T, Failure> {
        let mut arguments = codec::to_vec(&arguments).expect("encodes");
        if arguments == [0xc0] {
            // Nothing given: an empty list.
            arguments = vec![0x90];
        }
        let bytes = self.call(name, &arguments)?;
        Ok(codec::from_slice(&bytes).expect("the result has this type"))
    }

    /// Tells whether a skill has a direct entry.
    pub fn is_direct(&self, name: &str) -> bool {
        let (index, _) = self.skill(name).expect("a skill");
        !(self.descriptor.direct)(index).is_null()
    }

    /// How often `name` was called directly.
    pub fn entered(&self, name: &str) -> usize {
        *self.entered.lock().unwrap().get(name).unwrap_or(&0)
    }

    /// How often `name` was called through the host.
    pub fn encoded(&self, name: &str) -> usize {
        *self.encoded.lock().unwrap().get(name).unwrap_or(&0)
    }

    /// How many direct calls of this thread are inside now; those of other tests are not counted.
    pub fn inside(&self) -> usize {
        SEAT.with(|seat| seat.frames().count())
    }

    /// The events whose message contains `text`.
    pub fn logged(&self, text: &str) -> Vec<Logged> {
        let logs = self.logs.lock().unwrap();
        logs.iter()
            .filter(|logged| logged.message.contains(text))
            .cloned()
            .collect()
    }

    /// Waits until no started call is running.
    pub fn wait_until_idle(&self) {
        let (running, changed) = &self.running;
        let guard = running.lock().unwrap();
        drop(changed.wait_while(guard, |running| *running > 0).unwrap());
    }

    fn serve(&self, poller: &Poller, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        let name = request.name.as_str();
        *self
            .encoded
            .lock()
            .unwrap()
            .entry(name.to_owned())
            .or_default() += 1;
        if !request.link.is_null() {
            // SAFETY: a link that is not null came from `link`, and links are never removed.
            let link = unsafe { &*request.link.cast::<Link>() };
            assert_eq!(link.name, name);
            if let Some((_, skill)) = self.skill(name) {
                let found = differences(&link.signature, &skill.signature);
                if !found.is_empty() {
                    let message = format!(
                        "`{name}` is called as {}, but is {}",
                        link.signature, skill.signature
                    );
                    return Err(Failure::new(FailureKind::Mismatch, message).with_details(found));
                }
            }
        }
        self.call_with(poller, name, request.arguments.as_slice())
    }
}

fn host<'a>(context: *const c_void) -> &'a FakeHost {
    // SAFETY: every `HostApi` here has a leaked host as its context.
    unsafe { &*context.cast::<FakeHost>() }
}

unsafe extern "C" fn log(context: *const c_void, record: LogRecord<'_>) {
    if record.message.as_str().starts_with("a thread panicked") {
        // The library's panic hook is that of the whole test program: show why a test fails.
        eprintln!("{}", record.message.as_str());
    }
    let host = host(context);
    let logged = Logged {
        level: record.level,
        target: record.target.as_str().to_owned(),
        message: record.message.as_str().to_owned(),
        fields: spans::decode(record.fields.as_slice()),
        spans: host.spans_around(record.span),
        file: record.file.as_str().to_owned(),
        line: record.line,
    };
    host.logs.lock().unwrap().push(logged);
}

/// Traces are not kept here.
unsafe extern "C" fn enabled(_: *const c_void, level: u8) -> bool {
    level > 0
}

unsafe extern "C" fn call(
    context: *const c_void,
    request: Request<'_>,
    out: &mut Buffer,
) -> Status {
    match host(context).serve(&Poller::new(), &request) {
        Ok(bytes) => {
            *out = bytes.into();
            Status::Ok
        }
        Err(failure) => {
            *out = failure.encode().into();
            Status::Failed
        }
    }
}

fn complete(place: &Mutex<Option<Completion>>, outcome: &Result<Vec<u8>, Failure>) {
    let Some(completion) = place.lock().unwrap().take() else {
        return;
    };
    let (status, bytes) = match outcome {
        Ok(bytes) => (Status::Ok, bytes.clone()),
        Err(failure) => (Status::Failed, failure.encode()),
    };
    // SAFETY: it was taken from its place, so this is the only call.
    unsafe { (completion.complete)(completion.data, status, bytes.as_slice().into()) }
}

unsafe extern "C" fn start(context: *const c_void, request: Request<'_>, done: Completion) -> u64 {
    let host = host(context);
    let number = host.calls.fetch_add(1, Ordering::SeqCst);
    let place = Arc::new(Mutex::new(Some(done)));
    let poller = Poller::new();
    let pending = Pending {
        place: Arc::clone(&place),
        poller: Arc::clone(&poller),
    };
    host.pending.lock().unwrap().insert(number, pending);
    let (name, link) = (request.name.as_str().to_owned(), request.link as usize);
    let arguments = request.arguments.as_slice().to_vec();
    *host.running.0.lock().unwrap() += 1;
    thread::spawn(move || {
        let request = Request {
            name: name.as_str().into(),
            link: link as *const c_void,
            arguments: arguments.as_slice().into(),
            timeout_ms: 0,
        };
        let outcome = host.serve(&poller, &request);
        complete(&place, &outcome);
        host.pending.lock().unwrap().remove(&number);
        *host.running.0.lock().unwrap() -= 1;
        host.running.1.notify_all();
    });
    number
}

unsafe extern "C" fn cancel(context: *const c_void, number: u64) {
    if host(context).tasks.cancel(number) {
        return;
    }
    let pending = host(context).pending.lock().unwrap().get(&number).cloned();
    if let Some(Pending { place, poller }) = pending {
        let failure = Failure::new(FailureKind::Cancelled, "cancelled");
        complete(&place, &Err(failure));
        poller.abort();
    }
}

unsafe extern "C" fn link(
    context: *const c_void,
    name: Text<'_>,
    signature: Bytes<'_>,
) -> *const c_void {
    let link = Box::new(Link {
        name: name.as_str().to_owned(),
        signature: codec::from_slice(signature.as_slice()).expect("a signature"),
    });
    let pointer = std::ptr::from_ref(&*link);
    host(context).links.lock().unwrap().push(link);
    pointer.cast()
}

thread_local! {
    /// Where this thread sits. Every leave is heard of.
    static SEAT: &'static Seat = Box::leak(Box::new(Seat::new(1)));
}

unsafe extern "C" fn enter(context: *const c_void, link: *const c_void) -> Entered {
    let host = host(context);
    // SAFETY: it came from `link`, and links are never removed.
    let link = unsafe { &*link.cast::<Link>() };
    let absent = Entered {
        entry: std::ptr::null(),
        seat: std::ptr::null(),
    };
    let Some((index, skill)) = host.skill(&link.name) else {
        return absent;
    };
    if skill.signature.id() != link.signature.id() {
        return absent;
    }
    let entry = (host.descriptor.direct)(index);
    if entry.is_null() {
        return absent;
    }
    *host
        .entered
        .lock()
        .unwrap()
        .entry(link.name.clone())
        .or_default() += 1;
    SEAT.with(|seat| {
        let frame = std::ptr::from_ref(link).cast_mut().cast::<c_void>();
        assert_eq!(seat.enter(|| frame, || {}, || {}), Some(frame));
        Entered {
            entry,
            seat: seat.innermost(),
        }
    })
}

unsafe extern "C" fn attend(_: *const c_void, seat: *const Seat) {
    assert_eq!(seat, SEAT.with(|own| std::ptr::from_ref(*own)));
}

unsafe extern "C" fn inside(_: *const c_void) -> bool {
    SEAT.with(|seat| seat.frames().next().is_some())
}
