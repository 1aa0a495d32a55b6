//! The functions that a loaded library calls.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::abi::{
    Buffer, Bytes, Completion, Entered, HostApi, LogRecord, Request, Status, Text,
};
use aigis_plugin_api::codec::{self, Value};
use aigis_plugin_api::signature::{Signature, SignatureId};

use super::{Generation, Link, Services, Target};
use crate::config::PluginName;
use crate::logging::Level;
use crate::registry::Offer;

/// What the host knows of the generation that calls; lives as long as the library is mapped.
pub(super) struct HostContext {
    plugin: PluginName,
    services: Weak<dyn Services>,
    generation: OnceLock<Weak<Generation>>,
    /// By name and id; boxed, since the library keeps their addresses.
    links: Mutex<HashMap<(String, SignatureId), Box<Link>>>,
    started: Arc<Started>,
}

/// The calls that were started and have not completed.
#[derive(Default)]
struct Started {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Completion>>,
}

impl Started {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Completion>> {
        lock(&self.waiting)
    }

    /// Completes a call, unless it has been completed already.
    fn complete(&self, call: u64, outcome: &Result<Vec<u8>, Failure>) {
        let Some(done) = self.waiting().remove(&call) else {
            return;
        };
        let (status, bytes) = match outcome {
            Ok(result) => (Status::Ok, result.clone()),
            Err(failure) => (Status::Failed, failure.encode()),
        };
        // SAFETY: the completion was taken out of the map, so this is its one call; the contract of
        // `HostApi::start` lets it be made from any thread.
        unsafe { (done.complete)(done.data, status, bytes.as_slice().into()) };
    }
}

/// A started call on its way; dropped by a host that is closing before it ran, it still completes.
struct Job {
    started: Arc<Started>,
    number: u64,
    /// The callback is code of the caller's generation, which therefore stays open.
    _caller: Option<Arc<Generation>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let gone = Failure::new(
            FailureKind::Overloaded,
            "the call was not run: the core is shutting down, or has no thread for it",
        );
        self.started.complete(self.number, &Err(gone));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostContext {
    pub(super) fn new(plugin: PluginName, services: Weak<dyn Services>) -> Self {
        Self {
            plugin,
            services,
            generation: OnceLock::new(),
            links: Mutex::default(),
            started: Arc::default(),
        }
    }

    pub(super) fn belongs_to(&self, generation: &Arc<Generation>) {
        // Called once, right after the library was opened.
        let _ = self.generation.set(Arc::downgrade(generation));
    }

    fn services(&self) -> Result<Arc<dyn Services>, Failure> {
        self.services.upgrade().ok_or_else(|| {
            Failure::new(
                FailureKind::CoreGone,
                "the core that this plugin was loaded into has shut down",
            )
        })
    }
}

/// Makes the table of functions for one generation.
pub(super) fn of(context: &'static HostContext) -> HostApi {
    HostApi {
        size: size_of::<HostApi>(),
        context: std::ptr::from_ref(context).cast(),
        log,
        enabled,
        call,
        start,
        cancel,
        link,
        enter,
        leave,
    }
}

/// Reads the first argument of every function.
///
/// # Safety
/// `context` is the one that [`of`] put into the table.
unsafe fn context_of(context: *const c_void) -> &'static HostContext {
    // SAFETY: `of` made it from a `&'static HostContext`.
    unsafe { &*context.cast::<HostContext>() }
}

/// Reads a link that a library hands back.
///
/// # Safety
/// `link` is null or came from [`link()`].
unsafe fn link_of<'a>(link: *const c_void) -> Option<&'a Link> {
    // SAFETY: links are boxed in a context that is never freed, and never taken out of it.
    unsafe { link.cast::<Link>().as_ref() }
}

/// Runs the host's part of a call; its own panics must not unwind into a library.
fn guard<R>(otherwise: impl FnOnce(Failure) -> R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload: Box<dyn Any + Send>| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        otherwise(Failure::new(
            FailureKind::Internal,
            format!("the core failed: {message}"),
        ))
    })
}

fn answer(out: &mut Buffer, outcome: Result<Vec<u8>, Failure>) -> Status {
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

fn level_of(number: u8) -> Level {
    match number {
        0 => Level::Trace,
        1 => Level::Debug,
        2 => Level::Info,
        3 => Level::Warn,
        _ => Level::Error,
    }
}

unsafe extern "C" fn log(context: *const c_void, record: LogRecord<'_>) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(drop, || {
        if let Ok(services) = context.services() {
            let level = level_of(record.level);
            if services.keeps(level) {
                services.log(&context.plugin, level, &text_of(&record));
            }
        }
    });
}

/// Writes an event as people read it: target, message, fields.
fn text_of(record: &LogRecord<'_>) -> String {
    let mut text = String::new();
    let target = record.target.as_str();
    if !target.is_empty() {
        text.push_str(target);
        text.push_str(": ");
    }
    text.push_str(record.message.as_str());
    if let Ok(Value::Map(fields)) = codec::from_slice(record.fields.as_slice()) {
        for (key, value) in fields {
            let key = key.as_str().unwrap_or("?").to_owned();
            // Text without blanks reads better without its quotes.
            let value = match value.as_str() {
                Some(plain) if !plain.contains(char::is_whitespace) => plain.to_owned(),
                _ => value.to_json(),
            };
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

unsafe extern "C" fn enabled(context: *const c_void, level: u8) -> bool {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(
        |_| false,
        || {
            let services = context.services();
            services.is_ok_and(|services| services.keeps(level_of(level)))
        },
    )
}

unsafe extern "C" fn call(
    context: *const c_void,
    request: Request<'_>,
    out: &mut Buffer,
) -> Status {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    // SAFETY: a request's link is null or came from `link`.
    let link = unsafe { link_of(request.link) };
    let outcome = guard(Err, || {
        let services = context.services()?;
        services.call(request.name.as_str(), link, request.arguments.as_slice())
    });
    answer(out, outcome)
}

unsafe extern "C" fn start(context: *const c_void, request: Request<'_>, done: Completion) -> u64 {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    // SAFETY: a request's link is null or came from `link`; links live as long as the context.
    let link: Option<&'static Link> = unsafe { link_of(request.link) };
    let started = &context.started;
    let number = started.next.fetch_add(1, Ordering::Relaxed);
    started.waiting().insert(number, done);
    let name = request.name.as_str().to_owned();
    let arguments = request.arguments.as_slice().to_vec();
    let failed = guard(Some, || match context.services() {
        Ok(services) => {
            let caller = context.generation.get().and_then(Weak::upgrade);
            let job = Job {
                started: Arc::clone(started),
                number,
                _caller: caller,
            };
            let in_job = Arc::clone(&services);
            services.run(Box::new(move || {
                let outcome = guard(Err, || in_job.call(&name, link, &arguments));
                job.started.complete(job.number, &outcome);
            }));
            None
        }
        Err(failure) => Some(failure),
    });
    if let Some(failure) = failed {
        started.complete(number, &Err(failure));
    }
    number
}

unsafe extern "C" fn cancel(context: *const c_void, call: u64) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let cancelled = Failure::new(FailureKind::Cancelled, "the call was cancelled");
    context.started.complete(call, &Err(cancelled));
}

unsafe extern "C" fn link(
    context: *const c_void,
    name: Text<'_>,
    signature: Bytes<'_>,
) -> *const c_void {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(
        |_| std::ptr::null(),
        || {
            let (Ok(services), Ok(signature)) = (
                context.services(),
                codec::from_slice::<Signature>(signature.as_slice()),
            ) else {
                // Without a link a call is made by name alone, and says what is wrong.
                return std::ptr::null();
            };
            let id = signature.id();
            let mut links = lock(&context.links);
            let link = links
                .entry((name.as_str().to_owned(), id))
                .or_insert_with(|| {
                    Box::new(Link {
                        slot: services.slot(name.as_str()),
                        signature,
                        id,
                    })
                });
            std::ptr::from_ref::<Link>(link).cast()
        },
    )
}

unsafe extern "C" fn enter(
    _: *const c_void,
    link: *const c_void,
    out: &mut MaybeUninit<Entered>,
) -> Status {
    // SAFETY: the library passes what `link` returned.
    let Some(link) = (unsafe { link_of(link) }) else {
        return Status::Absent;
    };
    let Some(offer) = link.slot.offer() else {
        return Status::Absent;
    };
    let Target::Library { entry, .. } = &offer.target else {
        return Status::Absent;
    };
    // The entry's type follows from the signature: it is for callers with the same one only.
    if entry.0.is_null() || offer.id != link.id {
        return Status::Absent;
    }
    let entry = entry.0;
    out.write(Entered {
        entry,
        guard: Arc::into_raw(offer).cast(),
    });
    Status::Ok
}

unsafe extern "C" fn leave(_: *const c_void, guard: *const c_void) {
    // SAFETY: `enter` made the guard with `Arc::into_raw`, and the library hands it back once.
    drop(unsafe { Arc::from_raw(guard.cast::<Offer<Target>>()) });
}
