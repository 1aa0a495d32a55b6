//! What the core offers to a library while it is loaded.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{
    Buffer, Bytes, CurrentSpan, Job, Produced, Producer, Seat, Slice, SpanRecord, Status, Task,
    Text,
};
use crate::error::Failure;
use crate::stream::Next;

/// One call by name, with encoded arguments.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The full name of the skill.
    pub name: Text<'a>,
    /// What [`HostApi::link`] returned for the import that calls, or null for a call without types.
    pub link: *const c_void,
    /// Encoded arguments: an array by position or a map by name.
    pub arguments: Bytes<'a>,
    /// How long the caller waits, in milliseconds; 0 for as long as it takes.
    pub timeout_ms: u64,
}

/// Where the outcome of a started call goes.
#[repr(C)]
pub struct Completion {
    /// Handed back to `complete`.
    pub data: *mut c_void,
    /// Called exactly once, from a thread of the host.
    pub complete: unsafe extern "C" fn(data: *mut c_void, status: Status, outcome: Bytes<'_>),
}

// SAFETY: `data` belongs to whoever made the completion, who promises (it is the contract of
// `HostApi::start`) that `complete` may be called with it from any thread.
unsafe impl Send for Completion {}

/// A call that has been let into a generation, or has not.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entered {
    /// The typed entry, for exactly the signature the link was made with; null when there is none.
    pub entry: *const c_void,
    /// Where the calling thread sits, and in the low bits which of its frames is this call's
    /// ([`Seat::parts`]); it keeps the generation loaded until it leaves. Read only when `entry` is not
    /// null.
    pub seat: *const Seat,
}

/// One event of a plugin's code.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LogRecord<'a> {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error.
    pub level: u8,
    /// The module or name that the event belongs to; empty when there is none.
    pub target: Text<'a>,
    /// The message.
    pub message: Text<'a>,
    /// The other fields: an encoded map, or empty.
    pub fields: Bytes<'a>,
    /// The number of the span around it, [`NO_SPAN`](super::NO_SPAN) or
    /// [`CURRENT_SPAN`](super::CURRENT_SPAN).
    pub span: u64,
    /// The source file that it was written in; empty when that is not known.
    pub file: Text<'a>,
    /// The line there, or 0.
    pub line: u32,
}

/// The functions of the host, for one generation of one plugin.
///
/// New functions are added at the end, with a higher minor ABI version.
#[repr(C)]
pub struct HostApi {
    /// The size of this struct in bytes, as the host was built.
    pub size: usize,
    /// The host's own; first argument of every function.
    pub context: *const c_void,
    /// Writes an event into the plugin's log.
    pub log: unsafe extern "C" fn(context: *const c_void, record: LogRecord<'_>),
    /// Tells whether events of this level are kept.
    pub enabled: unsafe extern "C" fn(context: *const c_void, level: u8) -> bool,
    /// Opens a span with one handle and returns its number, never 0.
    pub span_open: unsafe extern "C" fn(context: *const c_void, record: SpanRecord<'_>) -> u64,
    /// Adds fields, an encoded map, to a span, in the place of those of the same names.
    pub span_record: unsafe extern "C" fn(context: *const c_void, span: u64, fields: Bytes<'_>),
    /// Makes a span the current one of the calling thread.
    pub span_enter: unsafe extern "C" fn(context: *const c_void, span: u64),
    /// Undoes the latest `span_enter` of this span on the calling thread.
    pub span_exit: unsafe extern "C" fn(context: *const c_void, span: u64),
    /// Makes another handle of a span and returns its number, which may be another one; 0 when
    /// there is no such span.
    pub span_clone: unsafe extern "C" fn(context: *const c_void, span: u64) -> u64,
    /// Gives a handle back; true when it was the last. What a generation still holds at its end is
    /// given back for it.
    pub span_close: unsafe extern "C" fn(context: *const c_void, span: u64) -> bool,
    /// Returns the span that the calling thread is in, whoever opened it.
    pub current_span: unsafe extern "C" fn(context: *const c_void) -> CurrentSpan,
    /// Calls a skill and waits. The result, or the error, is in `out`.
    pub call: unsafe extern "C" fn(
        context: *const c_void,
        request: Request<'_>,
        out: &mut Buffer,
    ) -> Status,
    /// Starts a call and returns at once with its number; `done` receives the outcome.
    pub start:
        unsafe extern "C" fn(context: *const c_void, request: Request<'_>, done: Completion) -> u64,
    /// Gives up on a started call or a sleep: `done` receives a "cancelled" error if it has not
    /// completed.
    pub cancel: unsafe extern "C" fn(context: *const c_void, call: u64),
    /// Registers what an import expects of a skill; the skill need not exist yet. The link lives as
    /// long as the generation.
    pub link: unsafe extern "C" fn(
        context: *const c_void,
        name: Text<'_>,
        signature: Bytes<'_>,
    ) -> *const c_void,
    /// Enters the generation that serves a link, for a direct call. No entry when there is none for
    /// it: then `call` serves, or says what is wrong.
    pub enter: unsafe extern "C" fn(context: *const c_void, link: *const c_void) -> Entered,
    /// Does what the host wants of a thread, after [`Seat::leave`] has returned true.
    pub attend: unsafe extern "C" fn(context: *const c_void, seat: *const Seat),
    /// Tells whether the calling thread is inside a call that the host has made into this generation.
    pub inside: unsafe extern "C" fn(context: *const c_void) -> bool,
    /// Completes `done` after this many milliseconds, and returns the number that `cancel` knows it
    /// by. Since 1.1.
    pub sleep:
        unsafe extern "C" fn(context: *const c_void, milliseconds: u64, done: Completion) -> u64,
    /// Polls a task until it is over, and drops it; at the latest before `close`. Returns its number.
    /// Once the generation retires, what is handed over is dropped at once. Since 1.1.
    pub spawn: unsafe extern "C" fn(context: *const c_void, task: Task) -> u64,
    /// Drops a spawned task soon, unless it is over. Since 1.1.
    pub abort: unsafe extern "C" fn(context: *const c_void, task: u64),
    /// Runs a job on a thread of its own and is back at once; `close` waits for it. Once the
    /// generation retires, what is handed over is dropped at once. Since 1.1.
    pub run: unsafe extern "C" fn(context: *const c_void, job: Job),
    /// Opens a skill and returns at once with the number of the stream that the call brings; whatever
    /// goes wrong is said there. Nothing is done before the first item is asked for. `streams` are the
    /// arguments that are streams, in the order of the parameters; they are handed over. Since 1.2.
    pub open: unsafe extern "C" fn(
        context: *const c_void,
        request: Request<'_>,
        streams: Slice<'_, Producer>,
    ) -> u64,
    /// Asks for the next item of a stream and waits for it; never [`Produced::Pending`]. Since 1.2.
    pub next:
        unsafe extern "C" fn(context: *const c_void, stream: u64, out: &mut Buffer) -> Produced,
    /// Asks for the next item of a stream; `done` receives it, [`Status::Absent`] at the end. One
    /// question at a time. Since 1.2.
    pub pull: unsafe extern "C" fn(context: *const c_void, stream: u64, done: Completion),
    /// Gives a stream up; `done` of a `pull` receives a "cancelled" error if it has not completed. Since
    /// 1.2.
    pub close_stream: unsafe extern "C" fn(context: *const c_void, stream: u64),
}

// SAFETY: every function may be called from any thread with `context`; that is what the host
// promises by making one.
unsafe impl Send for HostApi {}
// SAFETY: as above; the fields are never written after the host has made it.
unsafe impl Sync for HostApi {}

/// The host of this library, once it has one.
pub(crate) struct HostCell(AtomicPtr<HostApi>);

impl HostCell {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Sets the host; false when there is one already.
    pub(crate) fn set(&self, host: &'static HostApi) -> bool {
        let host = std::ptr::from_ref(host).cast_mut();
        self.0
            .compare_exchange(
                std::ptr::null_mut(),
                host,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    /// Returns the host: one load, which every direct call makes.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static HostApi> {
        // SAFETY: it is null or came from a `&'static HostApi`, see `set`.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

/// Receives the outcome of a started call.
pub(crate) type OnOutcome = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// Makes the place where an outcome goes.
fn completion(done: OnOutcome) -> Completion {
    unsafe extern "C" fn complete(data: *mut c_void, status: Status, outcome: Bytes<'_>) {
        // SAFETY: `data` is the box made below; the host completes a call exactly once.
        let done = unsafe { Box::from_raw(data.cast::<OnOutcome>()) };
        let outcome = match status {
            Status::Ok => Ok(outcome.as_slice().to_vec()),
            Status::Failed | Status::Absent => Err(Failure::decode(outcome.as_slice())),
        };
        // The callback is the author's: a panic in it ends here, and not in the host.
        let run = || crate::library::contain_callback(|| done(outcome));
        crate::backend::without_blocking(run);
    }

    Completion {
        data: Box::into_raw(Box::new(done)).cast::<c_void>(),
        complete,
    }
}

/// Receives an item.
pub(crate) type OnItem = Box<dyn FnOnce(Next) + Send>;

/// Makes the place where an item goes.
fn item_completion(done: OnItem) -> Completion {
    unsafe extern "C" fn complete(data: *mut c_void, status: Status, item: Bytes<'_>) {
        // SAFETY: `data` is the box made below; the host completes a question exactly once.
        let done = unsafe { Box::from_raw(data.cast::<OnItem>()) };
        let next = match status {
            Status::Ok => Ok(Some(item.as_slice().to_vec())),
            Status::Absent => Ok(None),
            Status::Failed => Err(Failure::decode(item.as_slice())),
        };
        // It wakes whoever waits, and a waker may be the author's: a panic in it ends here.
        let run = || crate::library::contain_callback(|| done(next));
        crate::backend::without_blocking(run);
    }

    Completion {
        data: Box::into_raw(Box::new(done)).cast::<c_void>(),
        complete,
    }
}

/// A call that is inside a generation; leaving is its drop.
pub(crate) struct Inside<'h> {
    host: &'h HostApi,
    entered: Entered,
}

impl Inside<'_> {
    #[inline]
    pub(crate) fn entry(&self) -> *const c_void {
        self.entered.entry
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        let (seat, depth) = Seat::parts(self.entered.seat);
        // SAFETY: the host let this thread in, so the seat is this thread's own (or made for this
        // one call) and stays where it is until the thread has left.
        let wanted = unsafe { (*seat).leave_at(depth) };
        if wanted {
            attend(self.host, seat);
        }
    }
}

/// Does what the host wants of this thread. By value, so that the call itself stays in registers.
#[cold]
#[inline(never)]
fn attend(host: &HostApi, seat: *const Seat) {
    // SAFETY: the seat came from this host's `enter`, on this thread.
    unsafe { (host.attend)(host.context, seat) }
}

impl HostApi {
    pub(crate) fn is_enabled(&self, level: u8) -> bool {
        // SAFETY: `context` is the host's own; any thread may call.
        unsafe { (self.enabled)(self.context, level) }
    }

    pub(crate) fn write_log(&self, record: LogRecord<'_>) {
        // SAFETY: as above; the host copies what it keeps of the record.
        unsafe { (self.log)(self.context, record) }
    }

    /// Calls a skill by name and waits.
    pub(crate) fn call_skill(&self, request: Request<'_>) -> Result<Vec<u8>, Failure> {
        let mut out = Buffer::default();
        // SAFETY: `request.link` is null or came from this host's `link`; `out` is a valid buffer.
        let status = unsafe { (self.call)(self.context, request, &mut out) };
        match status {
            Status::Ok => Ok(out.into_vec()),
            Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
        }
    }

    /// Starts a call; `done` runs on a thread of the host.
    pub(crate) fn start_skill(&self, request: Request<'_>, done: OnOutcome) -> u64 {
        // SAFETY: `complete` takes its `data` back from any thread (the closure is `Send`), once.
        unsafe { (self.start)(self.context, request, completion(done)) }
    }

    /// Has `done` run after `milliseconds`, on a thread of the host.
    pub(crate) fn start_sleep(&self, milliseconds: u64, done: OnOutcome) -> u64 {
        // SAFETY: as for `start_skill`.
        unsafe { (self.sleep)(self.context, milliseconds, completion(done)) }
    }

    pub(crate) fn spawn_task(&self, task: Task) -> u64 {
        // SAFETY: `task` is whole and is handed over.
        unsafe { (self.spawn)(self.context, task) }
    }

    pub(crate) fn abort_task(&self, task: u64) {
        // SAFETY: a number that is not known (any more) is ignored by the host.
        unsafe { (self.abort)(self.context, task) }
    }

    pub(crate) fn run_job(&self, job: Job) {
        // SAFETY: `job` is whole and is handed over.
        unsafe { (self.run)(self.context, job) }
    }

    pub(crate) fn cancel_call(&self, call: u64) {
        // SAFETY: a number that is not known (any more) is ignored by the host.
        unsafe { (self.cancel)(self.context, call) }
    }

    /// Opens a skill; what is in `streams` is handed over.
    pub(crate) fn open_skill(&self, request: Request<'_>, streams: &[Producer]) -> u64 {
        // SAFETY: `request.link` is null or came from this host's `link`; the producers are whole, and
        // the host takes each of them over. What is left in `streams` has no drop of its own.
        unsafe { (self.open)(self.context, request, Slice::of(streams)) }
    }

    /// Asks for the next item of a stream and waits for it.
    pub(crate) fn next_item(&self, stream: u64) -> Next {
        let mut out = Buffer::default();
        // SAFETY: a number that is not known is answered with a failure; `out` is a valid buffer.
        match unsafe { (self.next)(self.context, stream, &mut out) } {
            Produced::Item => Ok(Some(out.into_vec())),
            Produced::End => Ok(None),
            Produced::Pending | Produced::Failed => Err(Failure::decode(out.as_slice())),
        }
    }

    /// Asks for the next item of a stream; `done` runs on a thread of the host.
    pub(crate) fn pull_item(&self, stream: u64, done: OnItem) {
        // SAFETY: `complete` takes its `data` back from any thread (the closure is `Send`), once.
        unsafe { (self.pull)(self.context, stream, item_completion(done)) }
    }

    pub(crate) fn close_stream(&self, stream: u64) {
        // SAFETY: a number that is not known (any more) is ignored by the host.
        unsafe { (self.close_stream)(self.context, stream) }
    }

    pub(crate) fn link_import(&self, name: &str, signature: &[u8]) -> *const c_void {
        // SAFETY: both are borrowed for the call only.
        unsafe { (self.link)(self.context, name.into(), signature.into()) }
    }

    /// Tells whether this thread runs a call that the host has made into this library.
    pub(crate) fn is_inside(&self) -> bool {
        // SAFETY: `context` is the host's own; any thread may call.
        unsafe { (self.inside)(self.context) }
    }

    /// Enters the generation that serves `link`, if it has a direct entry for it.
    ///
    /// # Safety
    /// `link` came from this host's [`link_import`](Self::link_import).
    #[inline]
    pub(crate) unsafe fn enter_link(&self, link: *const c_void) -> Option<Inside<'_>> {
        // SAFETY: `link` is this host's by the caller's promise.
        let entered = unsafe { (self.enter)(self.context, link) };
        if entered.entry.is_null() {
            return None;
        }
        Some(Inside {
            host: self,
            entered,
        })
    }
}
