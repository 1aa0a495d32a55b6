//! Futures of libraries, as the host holds and polls them.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Instant;

use aigis_plugin_api::__private::Failure;
use aigis_plugin_api::abi::{Buffer, Status, Task, TaskPoll, TaskWaker};

use super::guard::seats::{self, Stay};
use super::serving::read;
use super::{Services, Serving};

/// Names a generation in a frame.
#[derive(Clone, Copy)]
pub(super) struct Frame(*const Serving);

// SAFETY: it is an address that is put into a frame and read by nobody but who compares it.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    pub(super) fn of(serving: *const Serving) -> Self {
        Self(serving)
    }

    pub(super) fn get(self) -> *const Serving {
        self.0
    }
}

/// A future that is not over. Dropping it cancels it.
///
/// That of a call keeps its generation where it is, from the time it was made to its drop; that of a
/// spawned task belongs to its generation, which drops it before it ends.
pub(crate) struct Pending {
    task: Task,
    frame: Frame,
    /// Whose threads poll it.
    services: Weak<dyn Services>,
    /// Goes after the future: fields are dropped after `Drop::drop`.
    _stay: Option<Stay>,
    dropped: bool,
}

impl Pending {
    /// Takes over the future of a call; the caller is inside of `serving` now.
    pub(super) fn of_call(
        task: Task,
        serving: *const Serving,
        services: Weak<dyn Services>,
    ) -> Self {
        Self {
            task,
            frame: Frame::of(serving),
            services,
            _stay: Some(Stay::with(serving)),
            dropped: false,
        }
    }

    /// Takes over a task that the generation of `home` has spawned and will end.
    pub(super) fn of_generation(task: Task, frame: Frame, services: Weak<dyn Services>) -> Self {
        Self {
            task,
            frame,
            services,
            _stay: None,
            dropped: false,
        }
    }

    pub(super) fn services(&self) -> &Weak<dyn Services> {
        &self.services
    }

    /// Lets it go on; not again once it was ready.
    pub(super) fn poll(&mut self, waker: &TaskWaker) -> Poll<Result<Vec<u8>, Failure>> {
        let mut out = Buffer::default();
        let (data, poll) = (self.task.data, self.task.poll);
        // SAFETY: `&mut self` makes this the only call with the task now; it is not dropped, and
        // whoever polls stops when it is ready. The library stays: for `_stay`, or because the
        // generation ends its own tasks first. The waker is good as long as its maker, who polls.
        let polled = seats::within(self.frame.get(), || unsafe { poll(data, waker, &mut out) });
        match polled {
            TaskPoll::Pending => Poll::Pending,
            TaskPoll::Ready => Poll::Ready(read(Status::Ok, out)),
            TaskPoll::Failed => Poll::Ready(read(Status::Failed, out)),
        }
    }

    /// Drops the future; says how its own code failed meanwhile.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.dropped, true) {
            return Ok(());
        }
        let mut error = Buffer::default();
        let (data, drop) = (self.task.data, self.task.drop);
        // SAFETY: `dropped` makes this the one drop, after which nothing is called; the library stays
        // as for `poll`.
        let status = seats::within(self.frame.get(), || unsafe { drop(data, &mut error) });
        read(status, error).map(|_| ())
    }

    /// Polls it on this thread, which sleeps in between, until it is over or `deadline` is. `None` when
    /// the time came first; then it has been dropped.
    pub(crate) fn wait(mut self, deadline: Option<Instant>) -> Option<Result<Vec<u8>, Failure>> {
        let parker = Parker::new();
        loop {
            if let Poll::Ready(outcome) = self.poll(&parker.waker) {
                return Some(outcome);
            }
            if !parker.park(deadline) {
                return None;
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // What went wrong is in the plugin's log; there is nobody to tell.
        let _ = self.finish();
    }
}

/// Wakes the thread that waits for a future.
struct Parker {
    waker: TaskWaker,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            waker: TaskWaker {
                data: own.as_ptr().cast(),
                retain: retain::<Self>,
                release: release::<Self>,
                wake: unpark,
            },
            woken: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    /// Waits for a wake; false when `deadline` came first.
    fn park(&self, deadline: Option<Instant>) -> bool {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *woken) {
            woken = match deadline {
                None => {
                    let waited = self.changed.wait(woken);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.changed.wait_timeout(woken, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

/// # Safety
/// `data` is the address of a [`Parker`] in an `Arc`, of which the caller has a reference.
unsafe extern "C" fn unpark(data: *const c_void) {
    // SAFETY: the caller's reference keeps it where it is.
    let parker = unsafe { &*data.cast::<Parker>() };
    *parker.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
    parker.changed.notify_one();
}

/// # Safety
/// `data` is the address of a `T` in an `Arc`, of which the caller has a reference.
pub(super) unsafe extern "C" fn retain<T>(data: *const c_void) {
    // SAFETY: the caller's promise.
    unsafe { Arc::increment_strong_count(data.cast::<T>()) }
}

/// # Safety
/// As for [`retain`]; the reference is given back.
pub(super) unsafe extern "C" fn release<T>(data: *const c_void) {
    // SAFETY: the caller's promise.
    unsafe { Arc::decrement_strong_count(data.cast::<T>()) }
}
