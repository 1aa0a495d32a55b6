//! Panics of a plugin's code end where they start.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;

use crate::abi::HostApi;
use crate::error::{Failure, FailureKind};
use crate::logger::{LogLevel, Logger};

thread_local! {
    /// How many pieces of contained code are running on this thread, typed entries apart: of those
    /// the host knows, and they are to cost nothing. Without a destructor: nothing is to be left in
    /// threads that live on.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Where the panics started that are being caught now, by thread.
static LOCATIONS: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());

/// Names the current thread, without allocating or registering anything.
fn thread_key() -> usize {
    DEPTH.with(|depth| std::ptr::from_ref(depth) as usize)
}

/// Makes panics of this library's code quiet, and their place known.
///
/// The hook does not symbolise a backtrace: in a library that is loaded and closed again, that
/// leaks tens of megabytes a time.
pub(super) fn install() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let host = super::host();
        if DEPTH.get() > 0 || host.is_some_and(HostApi::is_inside) {
            note_location(info);
        } else if let Some(host) = host {
            // A thread of the plugin's own: nobody is waiting for it, so the log is told.
            Logger::to_host(host).log(
                LogLevel::Error,
                format_args!(
                    "a thread panicked: {} (at {})",
                    text_of(info.payload()),
                    location_of(info)
                ),
            );
        }
    }));
}

/// Makes panics of this program's skills quiet, and their place known; for all others the hook that is
/// there now goes on.
pub(super) fn install_in_program() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if DEPTH.get() > 0 {
            note_location(info);
        } else {
            before(info);
        }
    }));
}

fn location_of(info: &PanicHookInfo<'_>) -> String {
    info.location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string)
}

fn note_location(info: &PanicHookInfo<'_>) {
    let location = location_of(info);
    let mut locations = LOCATIONS.lock().unwrap_or_else(|e| e.into_inner());
    let key = thread_key();
    locations.retain(|(thread, _)| *thread != key);
    locations.push((key, location));
}

fn take_location() -> Option<String> {
    let mut locations = LOCATIONS.lock().unwrap_or_else(|e| e.into_inner());
    let key = thread_key();
    let place = locations.iter().position(|(thread, _)| *thread == key)?;
    Some(locations.swap_remove(place).1)
}

/// Returns what a panic says.
fn text_of(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}

/// Returns what a panic says, and drops its payload.
pub(crate) fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = text_of(&*payload).to_owned();
    // A payload whose own drop panics must not take the thread down with it.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    message
}

/// Runs the code of `skill`; a panic becomes a failure, and a line in the plugin's log.
///
/// # Errors
/// What `body` returned, or how it panicked.
pub fn contain<R>(skill: &str, body: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    outcome
        .unwrap_or_else(|payload| Err(caught(skill, payload)))
        .map_err(|failure| failure.of_skill(skill))
}

/// Does the same for a typed entry, which the host has let this thread into.
///
/// The failure is in a box, so that a good result is not moved about in the room a failure needs.
#[inline]
pub(crate) fn contain_entry<R>(
    skill: &str,
    body: impl FnOnce() -> Result<R, Failure>,
) -> Result<R, Box<Failure>> {
    let body = || match body() {
        Ok(value) => Ok(value),
        Err(failure) => Err(boxed(failure, skill)),
    };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(outcome) => outcome,
        Err(payload) => Err(boxed(caught(skill, payload), skill)),
    }
}

#[cold]
#[inline(never)]
fn boxed(failure: Failure, skill: &str) -> Box<Failure> {
    Box::new(failure.of_skill(skill))
}

#[cold]
#[inline(never)]
fn caught(skill: &str, payload: Box<dyn Any + Send>) -> Failure {
    let failure = Failure {
        // First: the drop of the payload may panic as well.
        location: take_location(),
        ..Failure::new(FailureKind::Panicked, message_of(payload)).of_skill(skill)
    };
    match super::host() {
        Some(host) => Logger::to_host(host).error(&failure),
        None => Logger::to_stderr().error(&failure),
    }
    failure
}

/// Runs a callback of the author's, for which nobody waits.
pub(crate) fn contain_callback(body: impl FnOnce()) {
    // The panic is in the log by then; there is nobody else to tell.
    let _ = contain("a callback", || {
        body();
        Ok(())
    });
}
