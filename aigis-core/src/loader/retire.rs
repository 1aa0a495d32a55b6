//! The end of generations: the last call leaves, `cleanup` runs, the library goes.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::Failure;
use aigis_plugin_api::abi::Buffer;

use super::follow::{Followed, Outcome};
use super::generation::Generation;
use super::guard::{Within, seats};
use super::life::GenerationState;
use super::serving::read;
use super::{end_here, lock};
use crate::logging::Level;

/// How long threads have to end what they have of a library before that is told.
const LINGER: Duration = Duration::from_secs(1);

/// Retires generations that were replaced or stopped together: they have been taken out of their
/// slots. Returns at once; how far it is is told by each [`Life`](super::Life).
///
/// Calls that the old versions make into one another stay among them until all have drained.
pub(crate) fn retire(set: Vec<Arc<Generation>>) {
    for generation in &set {
        generation.life.enter(GenerationState::Draining, None);
        generation.supersede_later();
    }
    let Some(first) = set.first() else { return };
    let name = format!("retire-{}-{}", first.plugin(), first.number());
    let leftover: Vec<_> = set.iter().map(Arc::clone).collect();
    let spawned = thread::Builder::new()
        .name(name)
        .spawn(move || wait_and_end(set));
    if let Err(error) = spawned {
        for generation in leftover {
            let reason = format!("cleanup skipped, no thread can be started for it: {error}");
            generation.log(Level::Error, &reason);
            keep_for_good(generation, reason);
        }
    }
}

fn wait_and_end(mut set: Vec<Arc<Generation>>) {
    // Not for the items that it waits for: nobody knows when they come, and its tasks ask again.
    let at_work = Within::any(set.iter().map(|one| one.within_work()));
    seats::wait_until_gone(&at_work, None, || false);
    // What they still call from threads of their own goes to whoever serves it now.
    for generation in &set {
        generation.unpin();
    }
    seats::wait_until_gone(&at_work, None, || false);
    for generation in &set {
        generation.context.tasks.retire();
        generation.context.pulls.close();
    }
    // The tasks may have left calls behind whose ends they do not hear, and items that are being made.
    let inside = Within::any(set.iter().map(|one| one.within()));
    seats::wait_until_gone(&inside, None, || false);
    for generation in &set {
        generation.life.enter(GenerationState::Retired, None);
        if generation.open.swap(false, Ordering::SeqCst) {
            let outcome = generation.close();
            generation.report(&outcome);
        }
        generation.context.spans().end();
        generation.context.tasks.close();
        generation.life.clean_up();
        let held = std::mem::take(&mut *lock(&generation.held));
        drop(held);
    }
    // Each on a thread of its own: what holds one of them for ever must not hold the others.
    let last = set.pop();
    for generation in set {
        let name = format!("unmap-{}-{}", generation.plugin(), generation.number());
        let leftover = Arc::clone(&generation);
        let spawned = thread::Builder::new().name(name);
        if let Err(error) = spawned.spawn(move || generation.unmap()) {
            keep_for_good(
                leftover,
                format!("no thread can be started for it: {error}"),
            );
        }
    }
    if let Some(last) = last {
        last.unmap();
    }
}

impl Generation {
    /// Runs `cleanup` and drops the state.
    fn close(&self) -> Result<(), Failure> {
        let mut error = Buffer::default();
        let status = seats::within(self.home(), || (self.descriptor.close)(&mut error));
        read(status, error).map(|_| ())
    }

    fn report(&self, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => {
                let message = format!("generation {} has ended", self.number());
                self.log(Level::Info, &message);
            }
            Err(failure) => {
                let message = format!(
                    "PROBLEM CLEANING UP {}, CLEANUP SKIPPED! CHECK YOUR RESOURCES. {failure}",
                    self.plugin()
                );
                self.log(Level::Error, &message);
            }
        }
    }

    fn log(&self, level: Level, message: &str) {
        if let Some(services) = self.services.upgrade() {
            services.log(self.plugin(), level, message);
        }
    }

    fn log_staying(&self, reason: &str) {
        let message = format!("generation {} stays in memory: {reason}", self.number());
        self.log(Level::Warn, &message);
    }

    /// Waits until nothing of the library is left in any thread, then closes it.
    fn unmap(self: Arc<Self>) {
        let followed = self.library.followed();
        if let Some(gap) = followed.gap() {
            let reason = format!("its threads cannot be followed: {gap}");
            self.log_staying(&reason);
            return keep_for_good(self, reason);
        }
        let _listed = Listed::new(followed, self.within());
        end_here();
        seats::ask_for_endings();
        if let Some(services) = self.services.upgrade() {
            services.wake_idle();
        }
        if let Err(holding) = followed.wait_clear(Some(Instant::now() + LINGER)) {
            let reason = holding.to_string();
            self.log_staying(&reason);
            self.life.enter(GenerationState::Retained, Some(reason));
        }
        self.wait_until_nothing_runs();
        // SAFETY: nothing of the library runs, and nothing leads into it any more: see there.
        let outcome = unsafe { self.library.close() };
        match outcome {
            Outcome::Unmapped { bytes } => {
                // Its addresses may be another library's from now on.
                drop(self.listed.lock().map(|mut listed| listed.take()));
                if let Some(copy) = &self.copy {
                    let _ = fs::remove_file(copy);
                }
                let message = format!(
                    "generation {} is gone from memory ({} KiB)",
                    self.number(),
                    bytes / 1024
                );
                self.log(Level::Debug, &message);
                self.life.enter(GenerationState::Unmapped, None);
            }
            Outcome::Retained { reason, .. } => {
                self.log_staying(&reason);
                keep_for_good(self, reason);
            }
        }
    }

    /// Waits until no code of the library runs and none can begin to.
    ///
    /// Code begins to run by a call from the host, which has a frame, or on a thread of the library's
    /// own. When no such thread has lived between two looks, at the second of which there is none, and
    /// there was no frame at some point between them, then nothing ran at that point, and so nothing
    /// can have begun since: no slot leads here, and what was started elsewhere has frames.
    fn wait_until_nothing_runs(&self) {
        let followed = self.library.followed();
        let within = self.within();
        loop {
            // Without a deadline it ends when it is clear.
            let _ = followed.wait_clear(None);
            let started = followed.started();
            if followed.clear().is_err() {
                continue;
            }
            seats::wait_until_gone(&within, None, || false);
            if followed.clear().is_ok() && followed.started() == started {
                return;
            }
        }
    }
}

/// The libraries that are waited for to be clear, and the frames of who is inside.
static CLEARING: Mutex<Vec<(Arc<Followed>, Within)>> = Mutex::new(Vec::new());

/// A library in [`CLEARING`], for as long as this lives.
struct Listed(Arc<Followed>);

impl Listed {
    fn new(followed: &Arc<Followed>, within: Within) -> Self {
        clearing().push((Arc::clone(followed), within));
        Self(Arc::clone(followed))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        clearing().retain(|(followed, _)| !Arc::ptr_eq(followed, &self.0));
    }
}

fn clearing() -> MutexGuard<'static, Vec<(Arc<Followed>, Within)>> {
    lock(&CLEARING)
}

/// Tells whether this thread may end what it has of a library: it is retired, and this thread is
/// outside of it.
pub(super) fn may_end_here(library: &Arc<Followed>) -> bool {
    let list = clearing();
    let found = list.iter().find(|(listed, _)| Arc::ptr_eq(listed, library));
    found.is_some_and(|(_, within)| !within.is_here())
}

/// Leaves a library where it is, with all that its code may still reach for.
fn keep_for_good(generation: Arc<Generation>, reason: String) {
    generation.life.clean_up();
    generation
        .life
        .enter(GenerationState::Retained, Some(reason));
    // Never freed: threads that the library has left behind may call the host for ever.
    std::mem::forget(generation);
}
