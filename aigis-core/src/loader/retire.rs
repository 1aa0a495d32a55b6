//! The end of generations: the last call leaves, `cleanup` runs, the library goes.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;

use aigis_plugin_api::__private::Failure;
use aigis_plugin_api::abi::Buffer;

use super::generation::Generation;
use super::guard::{Within, seats};
use super::life::GenerationState;
use super::serving::read;
use crate::logging::Level;

/// Retires generations that were replaced or stopped together: they have been taken out of their
/// slots. Returns at once; how far it is is told by each [`Life`](super::Life).
///
/// Calls that the old versions make into one another stay among them until all have drained.
pub(crate) fn retire(set: Vec<Arc<Generation>>) {
    for generation in &set {
        generation.life.enter(GenerationState::Draining, None);
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

fn wait_and_end(set: Vec<Arc<Generation>>) {
    let inside = || {
        set.iter()
            .fold(Within::default(), |all, one| all.and(one.within()))
    };
    seats::wait_until_gone(&inside(), None, || false);
    // What they still call from threads of their own goes to whoever serves it now.
    for generation in &set {
        generation.unpin();
    }
    seats::wait_until_gone(&inside(), None, || false);
    for generation in &set {
        generation.context.tasks.retire();
    }
    // The tasks may have left calls behind whose ends they do not hear.
    seats::wait_until_gone(&inside(), None, || false);
    for generation in set {
        generation.life.enter(GenerationState::Retired, None);
        if generation.open.swap(false, Ordering::SeqCst) {
            let outcome = generation.close();
            generation.report(&outcome);
        }
        generation.context.tasks.close();
        generation.life.clean_up();
        let held = std::mem::take(
            &mut *generation
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        drop(held);
        generation.unmap();
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

    fn unmap(self: Arc<Self>) {
        let _ = fs::remove_file(&self.copy);
        keep_for_good(
            self,
            "what it has left in threads is not followed".to_owned(),
        );
    }
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
