//! Futures and jobs that cross: a library makes them, the host polls, runs and drops them.
//!
//! Since 1.1. A future never leaves its library, and neither does a waker of the standard library: the
//! host gets a [`Task`], two functions over a pointer, and hands in a [`TaskWaker`] that is its own.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};

use super::layout::{Fields, fields};
use super::{Buffer, Status};
use crate::library::{Closure, Running};

/// What polling a [`Task`] came to; the number is the ABI.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskPoll {
    /// It waits for something; the waker is used when it can go on.
    Pending,
    /// It is over: the result is in the output.
    Ready,
    /// It is over: an encoded [`crate::error::Failure`] is in the output.
    Failed,
}

/// A future of a library, polled by its host.
///
/// Whoever holds it calls `drop` once, at the end, and nothing afterwards; neither function is called
/// while the other, or another `poll`, is running. Any thread may call.
#[repr(C)]
#[derive(Debug)]
pub struct Task {
    /// The library's own; first argument of both functions.
    pub data: *mut c_void,
    /// Lets the future go on. Not called again once it is over. `waker` is borrowed for the call.
    pub poll: unsafe extern "C" fn(
        data: *mut c_void,
        waker: *const TaskWaker,
        out: &mut Buffer,
    ) -> TaskPoll,
    /// Drops the future; one that was not over is cancelled by it. Fails if the future's own code
    /// panicked meanwhile: then an encoded [`crate::error::Failure`] is in `error`.
    pub drop: unsafe extern "C" fn(data: *mut c_void, error: &mut Buffer) -> Status,
}

// SAFETY: the future behind it is `Send` (`Running` is made of such ones only), and whoever holds the
// task calls one function at a time.
unsafe impl Send for Task {}

/// Wakes one task. Made and counted by the host; the library keeps its address, which is good for as
/// long as a reference that was retained has not been released.
#[repr(C)]
#[derive(Debug)]
pub struct TaskWaker {
    /// The host's own; the argument of every function. Any thread may call them.
    pub data: *const c_void,
    /// Takes one more reference.
    pub retain: unsafe extern "C" fn(data: *const c_void),
    /// Gives one reference back.
    pub release: unsafe extern "C" fn(data: *const c_void),
    /// Has the task polled again, soon, on a thread of the host. Never polls it itself.
    pub wake: unsafe extern "C" fn(data: *const c_void),
}

// SAFETY: the functions may be called from any thread with `data`; that is what the host promises by
// making one.
unsafe impl Send for TaskWaker {}
// SAFETY: as above; the fields are never written after the host has made it.
unsafe impl Sync for TaskWaker {}

/// Work that blocks, run by the host on a thread of its own. Exactly one of the two functions is
/// called, once, from any thread.
#[repr(C)]
#[derive(Debug)]
pub struct Job {
    /// The library's own; the argument of both functions.
    pub data: *mut c_void,
    /// Does the work.
    pub run: unsafe extern "C" fn(data: *mut c_void),
    /// Gives it up.
    pub drop: unsafe extern "C" fn(data: *mut c_void),
}

// SAFETY: the closure behind it is `Send`, see `Job::new`.
unsafe impl Send for Job {}

pub(super) const TASK: Fields = fields!("Task", Task { data, poll, drop });
pub(super) const TASK_WAKER: Fields = fields!(
    "TaskWaker",
    TaskWaker {
        data,
        retain,
        release,
        wake
    }
);
pub(super) const JOB: Fields = fields!("Job", Job { data, run, drop });

impl Task {
    /// Hands a future over.
    pub(crate) fn new(running: Running) -> Self {
        Self {
            data: Box::into_raw(Box::new(running)).cast(),
            poll: poll_running,
            drop: drop_running,
        }
    }
}

/// # Safety
/// `data` came from [`Task::new`], and no other call uses it now; `waker` is the host's, and good for
/// the call.
unsafe extern "C" fn poll_running(
    data: *mut c_void,
    waker: *const TaskWaker,
    out: &mut Buffer,
) -> TaskPoll {
    // SAFETY: `Task::new` made the pointer from a box that is not dropped yet, and the host calls one
    // function at a time.
    let running = unsafe { &mut *data.cast::<Running>() };
    // SAFETY: the pointer is good for the call, and what is made of it is not dropped, so the host's
    // reference is not given back; a clone of it retains one of its own.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw(waker)) });
    match running.poll(&waker) {
        Poll::Pending => TaskPoll::Pending,
        Poll::Ready(Ok(bytes)) => {
            *out = bytes.into();
            TaskPoll::Ready
        }
        Poll::Ready(Err(failure)) => {
            *out = failure.encode().into();
            TaskPoll::Failed
        }
    }
}

/// # Safety
/// `data` came from [`Task::new`], and this is the last call with it.
unsafe extern "C" fn drop_running(data: *mut c_void, error: &mut Buffer) -> Status {
    // SAFETY: `Task::new` made the pointer from a box, and the host drops a task once.
    let running = unsafe { Box::from_raw(data.cast::<Running>()) };
    match running.end() {
        Ok(()) => Status::Ok,
        Err(failure) => {
            *error = failure.encode().into();
            Status::Failed
        }
    }
}

/// The functions of every waker that is made over a [`TaskWaker`]; the pointer is its address.
static WAKER: RawWakerVTable =
    RawWakerVTable::new(clone_waker, wake_waker, wake_waker_by_ref, drop_waker);

pub(super) const fn raw(waker: *const TaskWaker) -> RawWaker {
    RawWaker::new(waker.cast(), &WAKER)
}

/// # Safety
/// `waker` points to a [`TaskWaker`] of which the caller has a reference.
unsafe fn clone_waker(waker: *const ()) -> RawWaker {
    let waker = waker.cast::<TaskWaker>();
    // SAFETY: the caller's reference keeps it where it is, and the host counts one more.
    unsafe { ((*waker).retain)((*waker).data) };
    raw(waker)
}

/// # Safety
/// As for [`clone_waker`]; the reference is given back.
unsafe fn wake_waker(waker: *const ()) {
    // SAFETY: the reference is the caller's until the second call has returned.
    unsafe {
        wake_waker_by_ref(waker);
        drop_waker(waker);
    }
}

/// # Safety
/// As for [`clone_waker`].
unsafe fn wake_waker_by_ref(waker: *const ()) {
    let waker = waker.cast::<TaskWaker>();
    // SAFETY: the caller's reference keeps it where it is.
    unsafe { ((*waker).wake)((*waker).data) }
}

/// # Safety
/// As for [`clone_waker`]; the reference is given back.
unsafe fn drop_waker(waker: *const ()) {
    let waker = waker.cast::<TaskWaker>();
    // SAFETY: the caller's reference keeps it where it is up to here, and is given back once.
    unsafe { ((*waker).release)((*waker).data) }
}

impl Job {
    /// Hands work over; `closure` contains the author's panics.
    pub(crate) fn new(closure: Closure) -> Self {
        Self {
            data: Box::into_raw(Box::new(closure)).cast(),
            run: run_closure,
            drop: drop_closure,
        }
    }
}

/// # Safety
/// `data` came from [`Job::new`], and this is the only call with it.
unsafe extern "C" fn run_closure(data: *mut c_void) {
    // SAFETY: `Job::new` made the pointer from a box, and the host uses a job once.
    let closure = unsafe { Box::from_raw(data.cast::<Closure>()) };
    closure.run();
}

/// # Safety
/// As for [`run_closure`].
unsafe extern "C" fn drop_closure(data: *mut c_void) {
    // SAFETY: `Job::new` made the pointer from a box, and the host uses a job once.
    let closure = unsafe { Box::from_raw(data.cast::<Closure>()) };
    closure.give_up();
}
