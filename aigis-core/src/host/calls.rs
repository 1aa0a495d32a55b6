//! Calls: from a name and encoded arguments to whoever serves it, for plugins, sessions and embedders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aigis_plugin_api::__private::{
    Backend, Failure, FailureKind, Request, Signature, differences, timed_out,
};
use aigis_plugin_api::signature::SignatureId;

use super::{HostError, Inner};
use crate::config::PluginName;
use crate::loader::crash::CrashFile;
use crate::loader::guard::{Slot, Visit};
use crate::loader::{Route, Services};
use crate::logging::Level;
use crate::logging::spans::{Around, Carried};
use crate::logging::twin::Record;
use crate::registry::Offer;

/// What a caller was compiled with.
#[derive(Clone, Copy)]
pub(crate) struct Expects<'a> {
    pub(crate) id: SignatureId,
    pub(crate) signature: &'a Signature,
}

impl Inner {
    /// Finds a skill and runs it on this thread.
    pub(crate) fn call(
        &self,
        name: &str,
        expects: Option<Expects<'_>>,
        arguments: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let slot = self.registry().find(name);
        let visit = slot.as_ref().and_then(|slot| Visit::of(&slot.source()));
        self.run(visit, name, expects, arguments)
    }

    fn run(
        &self,
        visit: Option<Visit>,
        name: &str,
        expects: Option<Expects<'_>>,
        arguments: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        // Inside until the call has returned: it keeps the generation where it is.
        let Some(visit) = visit else {
            return Err(self.not_found(name));
        };
        let serving = visit.serving();
        if let Some(expects) = expects {
            check(serving.offer(), &expects)?;
        }
        let outcome = serving.call(arguments);
        outcome.map_err(|failure| failure.of_skill(name))
    }

    fn not_found(&self, name: &str) -> Failure {
        let nearest = self.registry().nearest(name);
        Failure::new(FailureKind::NotFound, format!("no plugin offers `{name}`"))
            .of_skill(name)
            .with_details(nearest)
    }
}

/// Refuses a call whose caller was compiled for another signature.
fn check(offer: &Offer, expects: &Expects<'_>) -> Result<(), Failure> {
    if offer.id == expects.id {
        return Ok(());
    }
    let differences = differences(expects.signature, &offer.signature);
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} has another signature than its caller expects\n  expected: {}\n  offered:  {}",
        offer.name, expects.signature, offer.signature
    );
    Err(Failure::new(FailureKind::Mismatch, message)
        .of_skill(&offer.name)
        .with_details(differences))
}

impl Services for Inner {
    fn call(&self, route: Route<'_>, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        match route {
            Route::Link(link) => {
                let expects = Expects {
                    id: link.id,
                    signature: &link.signature,
                };
                let visit = Visit::of(&link.source());
                Self::run(self, visit, link.slot.name(), Some(expects), arguments)
            }
            Route::Name(name) => Self::call(self, name, None, arguments),
            Route::Pinned(serving) => {
                let visit = Visit::at(serving);
                let name = visit
                    .as_ref()
                    .map(|visit| visit.serving().offer().name.clone());
                Self::run(self, visit, &name.unwrap_or_default(), None, arguments)
            }
        }
    }

    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        // Without a thread the job is dropped, which completes its call with a failure.
        let _ = self.calls.submit(job);
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        self.registry_mut().slot(name, |name| self.new_slot(name))
    }

    fn wake_idle(&self) {
        self.calls.wake_idle();
        if let Some(server) = self.server.get() {
            server.wake_idle();
        }
    }

    fn keeps(&self, level: Level) -> bool {
        self.logs.keeps(level)
    }

    fn is_closing(&self) -> bool {
        Self::is_closing(self)
    }

    fn log(&self, plugin: &PluginName, level: Level, message: &str) {
        self.logs.plugin(plugin.as_str(), level, message);
    }

    fn crash_file(&self) -> Option<Arc<CrashFile>> {
        self.crash.as_ref().map(|(file, _)| Arc::clone(file))
    }

    fn record(&self, plugin: &PluginName, around: &Around, record: &Record<'_>) {
        self.logs.record(plugin.as_str(), around, record);
    }
}

/// The embedder's own calls, on the embedder's own threads.
pub(super) struct Embedded(pub(super) Arc<Inner>);

impl Backend for Embedded {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        let expects = request.expected.map(|expected| Expects {
            id: expected.id,
            signature: &expected.signature,
        });
        self.0.call(request.name, expects, request.arguments)
    }

    fn start(
        &self,
        request: &Request<'_>,
        done: Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>,
    ) -> u64 {
        let inner = Arc::clone(&self.0);
        let name = request.name.to_owned();
        let arguments = request.arguments.to_vec();
        let expected = request
            .expected
            .map(|expected| (expected.id, expected.signature.clone()));
        let timeout = request.timeout;
        let begun = std::time::Instant::now();
        let carried = Carried::here();
        let job = move || {
            // The time may be over before a thread was free.
            if let Some(timeout) = timeout.filter(|timeout| begun.elapsed() > *timeout) {
                return done(Err(timed_out(&name, timeout)));
            }
            let expects = expected
                .as_ref()
                .map(|(id, signature)| Expects { id: *id, signature });
            done(inner.call(&name, expects, &arguments));
        };
        // A callback of the embedder's that panics must not take the thread with it. Without a
        // thread the job is dropped, and what waits for it is told.
        let _ = self.0.calls.submit(Box::new(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| carried.run(job)));
        }));
        0
    }

    /// A call that runs in this process runs to its end.
    fn cancel(&self, _: u64) {}
}

/// The type names of the failures of the core's own skills.
pub const UNKNOWN_PLUGIN: &str = "aigis::UnknownPlugin";
/// A reload or a start did not get through one of its steps.
pub const STEP_FAILED: &str = "aigis::StepFailed";

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let message = error.to_string();
        let author = |type_name: &str| Self {
            type_name: Some(type_name.to_owned()),
            ..Self::new(FailureKind::Skill, message.clone())
        };
        match error {
            HostError::UnknownPlugin { nearest, .. } => {
                author(UNKNOWN_PLUGIN).with_details(nearest)
            }
            HostError::Step(error) => Self {
                chain: super::causes(&error),
                ..author(STEP_FAILED)
            },
            HostError::Refused(_) => Self::new(FailureKind::Refused, message),
        }
    }
}
