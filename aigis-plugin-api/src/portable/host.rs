//! The host of a library that was brought into a caller's process: what it asks goes to the session of
//! the thread that asks.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::is_inside as is_inside_call;
use crate::abi::{
    Buffer, Bytes, Completion, CurrentSpan, Entered, HostApi, Job, LogRecord, NO_SPAN, Produced,
    Producer, Request, Seat, Slice, SpanRecord, Status, Task, Text,
};
use crate::backend::{self, Backend, Expected};
use crate::codec::{self, Value};
use crate::error::{Failure, FailureKind, cancelled};
use crate::logger::LogLevel;
use crate::program::{self, start_timer, stop_timer};
use crate::signature::Signature;

/// What is known of one library.
struct Guest {
    plugin: String,
}

/// What an import of a library expects.
struct Wanted {
    name: String,
    expected: Expected,
}

/// A started call or a timer that nobody has completed yet.
struct Waiting {
    done: Completion,
    way: Way,
}

/// How it is given up.
enum Way {
    /// It has not begun.
    Beginning,
    Call(Weak<dyn Backend>, u64),
    Timer(program::Timer),
}

static LAST: AtomicU64 = AtomicU64::new(0);
static WAITING: LazyLock<Mutex<HashMap<u64, Waiting>>> = LazyLock::new(Mutex::default);

fn waiting() -> MutexGuard<'static, HashMap<u64, Waiting>> {
    // Nothing that can panic runs under this lock.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the functions for the library of a plugin. They stay, as it does.
pub(super) fn of(plugin: &str) -> &'static HostApi {
    let guest: &'static Guest = Box::leak(Box::new(Guest {
        plugin: plugin.to_owned(),
    }));
    Box::leak(Box::new(HostApi {
        size: size_of::<HostApi>(),
        context: ptr::from_ref(guest).cast(),
        log,
        enabled,
        span_open,
        span_record,
        span_enter,
        span_exit,
        span_clone,
        span_close,
        current_span,
        call,
        start,
        cancel,
        link,
        enter,
        attend,
        inside,
        sleep,
        spawn,
        abort,
        run,
        open,
        next,
        pull,
        close_stream,
    }))
}

/// Runs the host's part; its own panics must not unwind into a library.
fn guard<R>(otherwise: impl FnOnce(Failure) -> R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        // A payload whose own drop panics is not dropped.
        std::mem::forget(payload);
        let message = "the host of a portable skill has panicked";
        otherwise(Failure::new(FailureKind::Internal, message))
    })
}

/// Hands an outcome to a library.
fn complete(done: Completion, outcome: &Result<Vec<u8>, Failure>) {
    let encoded;
    let (status, bytes) = match outcome {
        Ok(result) => (Status::Ok, result),
        Err(failure) => {
            encoded = failure.encode();
            (Status::Failed, &encoded)
        }
    };
    // SAFETY: the completion is consumed, and cannot be copied, so this is its one call; the contract
    // of `HostApi::start` lets it be made from any thread.
    unsafe { (done.complete)(done.data, status, bytes.as_slice().into()) };
}

/// Takes what waits under a number and completes it; nothing if that has happened.
fn complete_waiting(number: u64, outcome: &Result<Vec<u8>, Failure>) -> Option<Way> {
    let taken = waiting().remove(&number)?;
    complete(taken.done, outcome);
    Some(taken.way)
}

/// Has `done` wait under a number of its own.
fn wait(done: Completion) -> u64 {
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let way = Way::Beginning;
    waiting().insert(number, Waiting { done, way });
    number
}

/// Says how to give up what waits under a number; at once if nobody waits for it any more.
fn goes_on(number: u64, way: Way) {
    if let Some(waiting) = waiting().get_mut(&number) {
        waiting.way = way;
        return;
    }
    way.give_up();
}

impl Way {
    fn give_up(self) {
        match self {
            Self::Call(backend, call) => {
                if let Some(backend) = backend.upgrade() {
                    backend.cancel(call);
                }
            }
            Self::Timer(timer) => stop_timer(timer),
            Self::Beginning => {}
        }
    }
}

/// A started call; dropped before it was answered, it completes all the same.
struct Answer(u64);

impl Drop for Answer {
    fn drop(&mut self) {
        let message = "the call was not run: there is no thread for it";
        let gone = Failure::new(FailureKind::Overloaded, message);
        complete_waiting(self.0, &Err(gone));
    }
}

fn level_of(number: u8) -> LogLevel {
    match number {
        0 => LogLevel::Trace,
        1 => LogLevel::Debug,
        2 => LogLevel::Info,
        3 => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

/// What the log of this process keeps of a library's events.
const LEAST: LogLevel = LogLevel::Info;

unsafe extern "C" fn log(context: *const c_void, record: LogRecord<'_>) {
    // SAFETY: the library passes the context of its table, which `of` has made.
    let guest = unsafe { &*context.cast::<Guest>() };
    guard(drop, || {
        let level = level_of(record.level);
        if level < LEAST {
            return;
        }
        // In one piece, so that lines of several threads stay whole.
        let message = record.message.as_str();
        let mut line = format!("{} {}: {message}", level.name(), guest.plugin);
        let fields = record.fields.as_slice();
        if !fields.is_empty()
            && let Ok(Value::Map(fields)) = codec::from_slice(fields)
        {
            for (name, value) in fields {
                let name = name.as_str().unwrap_or_default();
                // Writing into a `String` cannot fail.
                let _ = write!(line, " {name}={value}");
            }
        }
        eprintln!("{line}");
    });
}

unsafe extern "C" fn enabled(_: *const c_void, level: u8) -> bool {
    level_of(level) >= LEAST
}

/// Spans are not kept here: one number stands for all of them.
const SPAN: u64 = 1;

unsafe extern "C" fn span_open(_: *const c_void, _: SpanRecord<'_>) -> u64 {
    SPAN
}

unsafe extern "C" fn span_record(_: *const c_void, _: u64, _: Bytes<'_>) {}

unsafe extern "C" fn span_enter(_: *const c_void, _: u64) {}

unsafe extern "C" fn span_exit(_: *const c_void, _: u64) {}

unsafe extern "C" fn span_clone(_: *const c_void, span: u64) -> u64 {
    span
}

unsafe extern "C" fn span_close(_: *const c_void, _: u64) -> bool {
    false
}

unsafe extern "C" fn current_span(_: *const c_void) -> CurrentSpan {
    CurrentSpan {
        id: NO_SPAN,
        mark: 0,
    }
}

/// Runs `body` with a library's request, as this process makes it.
///
/// # Safety
/// `request.link` is null or came from [`link()`].
unsafe fn with_request<R>(
    request: &Request<'_>,
    body: impl FnOnce(&backend::Request<'_>) -> R,
) -> R {
    // SAFETY: what `link` has returned is never freed.
    let wanted = unsafe { request.link.cast::<Wanted>().as_ref() };
    body(&backend::Request {
        name: wanted.map_or(request.name.as_str(), |wanted| &wanted.name),
        expected: wanted.map(|wanted| &wanted.expected),
        portable: false,
        arguments: request.arguments.as_slice(),
        tail: &[],
        timeout: (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms)),
    })
}

unsafe extern "C" fn call(_: *const c_void, request: Request<'_>, out: &mut Buffer) -> Status {
    let outcome = guard(Err, || {
        let backend = backend::current()?;
        // SAFETY: the library passes a link of its own host.
        unsafe { with_request(&request, |request| backend.call(request)) }
    });
    match outcome {
        Ok(result) => {
            *out = result.into();
            Status::Ok
        }
        Err(failure) => {
            *out = failure.encode().into();
            Status::Failed
        }
    }
}

unsafe extern "C" fn start(_: *const c_void, request: Request<'_>, done: Completion) -> u64 {
    let number = wait(done);
    let answer = Answer(number);
    guard(
        |failure| drop(complete_waiting(number, &Err(failure))),
        || {
            let backend = match backend::current() {
                Ok(backend) => backend,
                Err(failure) => {
                    complete_waiting(number, &Err(failure));
                    return;
                }
            };
            let done: crate::abi::OnOutcome = Box::new(move |outcome| {
                complete_waiting(answer.0, &outcome);
                drop(answer);
            });
            // SAFETY: the library passes a link of its own host.
            let call = unsafe { with_request(&request, |request| backend.start(request, done)) };
            goes_on(number, Way::Call(Arc::downgrade(&backend), call));
        },
    );
    number
}

unsafe extern "C" fn cancel(_: *const c_void, number: u64) {
    guard(drop, || {
        if let Some(way) = complete_waiting(number, &Err(cancelled())) {
            way.give_up();
        }
    });
}

unsafe extern "C" fn link(_: *const c_void, name: Text<'_>, signature: Bytes<'_>) -> *const c_void {
    guard(
        |_| ptr::null(),
        || {
            // What cannot be read is called without types: whoever serves it says what is wrong.
            let Ok(signature) = codec::from_slice::<Signature>(signature.as_slice()) else {
                return ptr::null();
            };
            let wanted = Wanted {
                name: name.as_str().to_owned(),
                expected: Expected::new(signature),
            };
            // One for each import of a library, which stays as they do.
            ptr::from_ref(Box::leak(Box::new(wanted))).cast()
        },
    )
}

/// Every call goes through the session.
unsafe extern "C" fn enter(_: *const c_void, _: *const c_void) -> Entered {
    Entered {
        entry: ptr::null(),
        seat: ptr::null(),
    }
}

/// Nobody has been let in.
unsafe extern "C" fn attend(_: *const c_void, _: *const Seat) {}

unsafe extern "C" fn inside(_: *const c_void) -> bool {
    is_inside_call()
}

unsafe extern "C" fn sleep(_: *const c_void, milliseconds: u64, done: Completion) -> u64 {
    let number = wait(done);
    guard(
        |failure| drop(complete_waiting(number, &Err(failure))),
        || {
            let now = Instant::now();
            let at = now.checked_add(Duration::from_millis(milliseconds));
            // A time that cannot be told never comes.
            let Some(at) = at else { return };
            let ring = move || {
                complete_waiting(number, &Ok(Vec::new()));
            };
            goes_on(number, Way::Timer(start_timer(at, Box::new(ring))));
        },
    );
    number
}

/// Nothing asks for it without a `Context`, which no portable skill has; as in a version that has
/// retired, what is handed over is dropped.
unsafe extern "C" fn spawn(_: *const c_void, task: Task) -> u64 {
    let mut error = Buffer::default();
    // SAFETY: the task was handed over, and neither of its functions has been called.
    unsafe { (task.drop)(task.data, &mut error) };
    0
}

unsafe extern "C" fn abort(_: *const c_void, _: u64) {}

/// As [`spawn`].
unsafe extern "C" fn run(_: *const c_void, job: Job) {
    // SAFETY: the job was handed over, and neither of its functions has been called.
    unsafe { (job.drop)(job.data) };
}

/// What asks for a stream here hears this.
fn no_streams() -> Failure {
    Failure::new(
        FailureKind::Refused,
        "a portable skill in its caller's process has no streams: a skill that asks others for some is not \
         portable",
    )
}

unsafe extern "C" fn open(_: *const c_void, _: Request<'_>, streams: Slice<'_, Producer>) -> u64 {
    for producer in streams.as_slice() {
        let mut error = Buffer::default();
        // SAFETY: the producers were handed over, and no function of theirs has been called. Each is
        // dropped once; the library does not look at them again.
        unsafe { (producer.drop)(producer.data, &mut error) };
    }
    0
}

unsafe extern "C" fn next(_: *const c_void, _: u64, out: &mut Buffer) -> Produced {
    *out = no_streams().encode().into();
    Produced::Failed
}

unsafe extern "C" fn pull(_: *const c_void, _: u64, done: Completion) {
    complete(done, &Err(no_streams()));
}

unsafe extern "C" fn close_stream(_: *const c_void, _: u64) {}
