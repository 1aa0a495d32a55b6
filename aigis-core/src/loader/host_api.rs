//! The functions that a loaded library calls.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use aigis_plugin_api::__private::{Failure, FailureKind, cancelled};
use aigis_plugin_api::abi::{
    Buffer, Bytes, Completion, Entered, HostApi, LogRecord, Request, Seat, Status, Text,
};
use aigis_plugin_api::codec;
use aigis_plugin_api::session::Underway;
use aigis_plugin_api::signature::{Signature, SignatureId};

use super::generation::Generation;
use super::guard::fences;
use super::guard::seats::{self, Stay, Visit};
use super::link::Pins;
use super::produced::Streams;
use super::pulling::{self, Pulls};
use super::runner::Done;
use super::serving::Serving;
use super::spans::{self, Spans};
use super::task::Frame;
use super::tasks::{self, Tasks};
use super::{Link, Route, Services, lock};
use crate::config::PluginName;
use crate::logging::Level;
use crate::logging::spans::Carried;
use crate::logging::twin::Record;

/// What the host knows of the generation that calls; lives as long as the library is mapped.
pub(super) struct HostContext {
    plugin: PluginName,
    services: Weak<dyn Services>,
    generation: OnceLock<Weak<Generation>>,
    /// By name and id; boxed, since the library keeps their addresses.
    links: Mutex<HashMap<(String, SignatureId), Box<Link>>>,
    /// Where its calls go while the set that it was replaced in drains.
    pins: RwLock<Option<Arc<Pins>>>,
    pub(super) started: Arc<Started>,
    pub(super) tasks: Tasks,
    /// The streams that it makes.
    pub(super) streams: Arc<Streams>,
    /// The streams that it consumes.
    pub(super) pulls: Pulls,
    spans: Spans,
}

/// The calls that were started and have not completed.
#[derive(Default)]
pub(super) struct Started {
    /// Counts started calls, and timers.
    pub(super) next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    done: Completion,
    /// It goes on without a thread.
    underway: Option<Arc<dyn Underway>>,
}

impl Started {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        lock(&self.waiting)
    }

    /// Completes a call, unless it has been completed already.
    fn complete(&self, call: u64, outcome: &Result<Vec<u8>, Failure>) {
        let waiting = self.waiting().remove(&call);
        if let Some(waiting) = waiting {
            complete(waiting.done, outcome);
        }
    }

    /// Remembers how to end a call, unless nobody waits for it any more.
    fn goes_on(&self, call: u64, underway: Arc<dyn Underway>) {
        if let Some(waiting) = self.waiting().get_mut(&call) {
            waiting.underway = Some(underway);
            return;
        }
        underway.give_up();
    }

    fn cancel(&self, call: u64) {
        let waiting = self.waiting().remove(&call);
        if let Some(waiting) = waiting {
            complete(waiting.done, &Err(cancelled()));
            if let Some(underway) = waiting.underway {
                underway.give_up();
            }
        }
    }
}

/// Hands an outcome to a library. The caller keeps the library where it is.
pub(super) fn complete(done: Completion, outcome: &Result<Vec<u8>, Failure>) {
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

/// A started call on its way; dropped by a host that is closing before it ran, it still completes.
struct Job {
    started: Arc<Started>,
    number: u64,
    /// Names the caller's generation, if it is known.
    caller: Frame,
    /// The callback is code of the caller's generation, which therefore stays.
    _stay: Option<Stay>,
}

impl Job {
    /// Completes the call; what the callback calls in turn counts as called from the caller.
    fn complete(&self, outcome: &Result<Vec<u8>, Failure>) {
        seats::within(self.caller.get(), || {
            self.started.complete(self.number, outcome);
        });
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let gone = Failure::new(
            FailureKind::Overloaded,
            "the call was not run: the core is shutting down, or has no thread for it",
        );
        self.complete(&Err(gone));
    }
}

impl HostContext {
    pub(super) fn new(plugin: PluginName, services: Weak<dyn Services>) -> Self {
        Self {
            spans: Spans::new(plugin.as_str()),
            plugin,
            services,
            generation: OnceLock::new(),
            links: Mutex::default(),
            pins: RwLock::default(),
            started: Arc::default(),
            tasks: Tasks::default(),
            streams: Arc::default(),
            pulls: Pulls::default(),
        }
    }

    pub(super) fn belongs_to(&self, generation: &Arc<Generation>) {
        // Called once, right after the library was opened.
        let _ = self.generation.set(Arc::downgrade(generation));
    }

    /// Returns what its imports expect.
    pub(super) fn imports(&self) -> Vec<(String, Signature)> {
        let links = lock(&self.links);
        let all = links.values();
        all.map(|link| (link.slot.name().to_owned(), link.expected.signature.clone()))
            .collect()
    }

    /// Makes every import, and those to come, go to `pins` or, without, to what the slots say.
    pub(super) fn pin(&self, pins: Option<&Arc<Pins>>) {
        // Held together: an import that is made meanwhile is made before or after.
        let links = lock(&self.links);
        *self.pins.write().unwrap_or_else(PoisonError::into_inner) = pins.map(Arc::clone);
        for link in links.values() {
            match pins.and_then(|pins| pins.get(link.slot.name())) {
                Some(serving) => link.pin(serving),
                None => link.unpin(),
            }
        }
    }

    /// Returns where a call of this name goes if it does not go to what the slot says.
    fn pinned(&self, name: &str) -> Option<*const super::Serving> {
        let pins = self.pins.read().unwrap_or_else(PoisonError::into_inner);
        pins.as_ref()?.get(name)
    }

    /// Finds the way of a call: its import's, or by its name.
    pub(super) fn route<'a>(&self, link: Option<&'a Link>, name: &'a str) -> Route<'a> {
        if let Some(link) = link {
            return Route::Link(link);
        }
        if self.pinned(name).is_none() {
            return Route::Name(name);
        }
        // It may be unpinned at any time, and what it was pinned to go: announced, then looked up
        // again.
        let look = || self.pinned(name).unwrap_or(std::ptr::null());
        Visit::looked_up(look).map_or(Route::Name(name), Route::Pinned)
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }

    pub(super) fn generation(&self) -> Option<Arc<Generation>> {
        self.generation.get().and_then(Weak::upgrade)
    }

    /// Returns what names its generation in a frame.
    pub(super) fn frame(&self) -> Frame {
        let generation = self.generation();
        Frame::of(generation.map_or(std::ptr::null(), |generation| generation.home()))
    }

    /// Returns what names its streams in a frame, once they have begun.
    pub(super) fn stream_frame(&self) -> Frame {
        let generation = self.generation();
        Frame::of(generation.map_or(std::ptr::null(), |generation| generation.stream_home()))
    }

    /// Returns what names it in a frame while it waits for items of others.
    pub(super) fn pull_frame(&self) -> Frame {
        let generation = self.generation();
        Frame::of(generation.map_or(std::ptr::null(), |generation| generation.pull_home()))
    }

    pub(super) fn weak_services(&self) -> Weak<dyn Services> {
        Weak::clone(&self.services)
    }

    pub(super) fn services(&self) -> Result<Arc<dyn Services>, Failure> {
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
        enter: match fences::are_everywhere() {
            true => enter::<true>,
            false => enter::<false>,
        },
        attend,
        inside,
        sleep: tasks::sleep,
        spawn: tasks::spawn,
        abort: tasks::abort,
        run: tasks::run,
        open: pulling::open,
        next: pulling::next,
        pull: pulling::pull,
        close_stream: pulling::close_stream,
    }
}

/// Reads the first argument of every function.
///
/// # Safety
/// `context` is the one that [`of`] put into the table.
pub(super) unsafe fn context_of(context: *const c_void) -> &'static HostContext {
    // SAFETY: `of` made it from a `&'static HostContext`.
    unsafe { &*context.cast::<HostContext>() }
}

/// Reads a link that a library hands back.
///
/// # Safety
/// `link` is null or came from [`link()`].
pub(super) unsafe fn link_of<'a>(link: *const c_void) -> Option<&'a Link> {
    // SAFETY: links are boxed in a context that is never freed, and never taken out of it.
    unsafe { link.cast::<Link>().as_ref() }
}

/// Runs the host's part of a call; its own panics must not unwind into a library.
pub(super) fn guard<R>(otherwise: impl FnOnce(Failure) -> R, body: impl FnOnce() -> R) -> R {
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

pub(super) fn level_of(number: u8) -> Level {
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
        let Ok(services) = context.services() else {
            return;
        };
        let level = level_of(record.level);
        if !services.keeps(level) {
            return;
        }
        let around = context.spans.around(record.span);
        let written = Record {
            level,
            target: record.target.as_str(),
            message: record.message.as_str(),
            fields: &spans::fields_of(record.fields.as_slice()),
            file: record.file.as_str(),
            line: record.line,
        };
        services.record(&context.plugin, &around, &written);
    });
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
        let arguments = request.arguments.as_slice();
        // An import that finds its skill in a library needs nothing else of the host.
        if let Some(link) = link
            && let Some(visit) = Visit::of(&link.source())
            && visit.serving().remote().is_none()
        {
            return visit.serving().serve(Some(&link.expected), arguments, None);
        }
        let route = context.route(link, request.name.as_str());
        context.services()?.call(route, arguments)
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
    let waiting = Waiting {
        done,
        underway: None,
    };
    started.waiting().insert(number, waiting);
    let name = request.name.as_str().to_owned();
    let arguments = request.arguments.as_slice().to_vec();
    let failed = guard(Some, || match context.services() {
        Ok(services) => {
            let caller = context.generation();
            let frame = context.frame();
            let job = Job {
                started: Arc::clone(started),
                number,
                caller: frame,
                _stay: caller.as_deref().map(Generation::stay),
            };
            let in_job = Arc::clone(&services);
            let carried = Carried::here();
            services.run(Box::new(move || {
                let started = Arc::clone(&job.started);
                // The job keeps the caller where it is until then, and completes the call when it is
                // dropped without an outcome.
                let done: Done = Box::new(move |outcome| job.complete(&outcome));
                let underway = guard(
                    |_| None,
                    || {
                        // Its calls count as the caller's, and stand in the caller's span.
                        carried.run(|| {
                            seats::within(frame.get(), || {
                                in_job.start(context.route(link, &name), &arguments, done)
                            })
                        })
                    },
                );
                if let Some(underway) = underway {
                    started.goes_on(number, underway);
                }
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
    guard(drop, || {
        if !context.tasks.cancel(call) {
            context.started.cancel(call);
        }
    });
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
                    let link = Link::new(services.slot(name.as_str()), signature);
                    if let Some(serving) = context.pinned(name.as_str()) {
                        link.pin(serving);
                    }
                    link
                });
            std::ptr::from_ref::<Link>(link).cast()
        },
    )
}

unsafe extern "C" fn enter<const FENCED: bool>(_: *const c_void, link: *const c_void) -> Entered {
    // SAFETY: the library passes what `link` returned.
    let straight = unsafe { link_of(link) }.and_then(|link| {
        seats::try_enter_typed::<FENCED>(&link.source(), |serving| fitting(link, serving))
    });
    match straight {
        Some((entry, seat)) => Entered { entry, seat },
        // SAFETY: as above.
        None => unsafe { enter_slowly(link) },
    }
}

/// Returns the entry of what serves a link, or null.
#[inline]
fn fitting(link: &Link, serving: &Serving) -> *const c_void {
    // The entry's type follows from the signature: it is for callers with the same one only.
    if serving.id.is(link.key) {
        serving.entry
    } else {
        std::ptr::null()
    }
}

/// Enters where something is out of the ordinary.
///
/// # Safety
/// `link` is null or came from [`link()`].
#[cold]
#[inline(never)]
unsafe fn enter_slowly(link: *const c_void) -> Entered {
    // SAFETY: the caller's to promise.
    let entered = unsafe { link_of(link) }
        .and_then(|link| seats::enter_typed(&link.source(), |serving| fitting(link, serving)));
    match entered {
        Some((entry, seat)) => Entered { entry, seat },
        None => Entered {
            entry: std::ptr::null(),
            seat: std::ptr::null(),
        },
    }
}

unsafe extern "C" fn attend(_: *const c_void, seat: *const Seat) {
    // SAFETY: the library hands back what `enter` returned, on the thread that entered, once it has
    // left.
    guard(drop, || unsafe { seats::attend_seat(seat) });
}

unsafe extern "C" fn inside(context: *const c_void) -> bool {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let generation = context.generation.get().and_then(Weak::upgrade);
    generation.is_some_and(|generation| generation.within().is_here())
}
