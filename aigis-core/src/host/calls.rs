//! Calls: from a name and encoded arguments to whoever serves it, for plugins, sessions and embedders.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aigis_plugin_api::__private::{
    Backend, BoxItems, Expected, Failure, FailureKind, Limit, Request, failed, lazily, timed,
    timed_out,
};
use tokio::task::AbortHandle;

use super::{HostError, Inner, lock};
use crate::config::PluginName;
use crate::loader::crash::CrashFile;
use crate::loader::guard::{Slot, Visit};
use crate::loader::{self, Done, Entering, Route, Services};
use crate::logging::Level;
use crate::logging::spans::{Around, Carried};
use crate::logging::twin::Record;
use crate::rpc::Underway;

impl Inner {
    /// Finds a skill and runs it on this thread.
    pub(crate) fn call(
        &self,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        self.run(self.visit(name), name, expects, arguments, timeout)
    }

    /// Goes where a route leads and runs the skill on this thread, or begins it where it is async; see
    /// [`Services::start`].
    pub(crate) fn start(
        &self,
        route: Route<'_>,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let (visit, name, expects) = self.follow(route);
        self.begin(visit, &name, expects, arguments, timeout, done)
    }

    /// Goes where a route leads and opens the skill; it begins when the first item is asked for.
    pub(crate) fn open(
        &self,
        route: Route<'_>,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let (visit, name, expects) = self.follow(route);
        self.open_at(visit, &name, expects, arguments, streams, timeout)
    }

    fn open_at(
        &self,
        visit: Option<Visit>,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let visit = visit.ok_or_else(|| self.not_found(name));
        let visit = match visit.and_then(|visit| visit.serving().admit(expects).map(|()| visit)) {
            Ok(visit) => visit,
            Err(failure) => return failed(failure),
        };
        if let Some(entering) = visit.serving().remote().map(Entering::new) {
            drop(visit);
            return entering.remote().open(name, arguments, streams, timeout);
        }
        visit.serving().open(arguments, streams, timeout)
    }

    pub(super) fn visit(&self, name: &str) -> Option<Visit> {
        let slot = self.registry().find(name);
        slot.and_then(|slot| Visit::of(&slot.source()))
    }

    fn run(
        &self,
        visit: Option<Visit>,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        // Inside until the call has returned: it keeps the generation where it is.
        let visit = visit.ok_or_else(|| self.not_found(name))?;
        if let Some(entering) = visit.serving().remote().map(Entering::new) {
            visit.serving().admit(expects)?;
            // It lasts as long as another process likes, and nothing of it runs here.
            drop(visit);
            let outcome = entering.remote().call(name, arguments, timeout);
            return outcome.map_err(|failure| failure.of_skill(name));
        }
        visit.serving().serve(expects, arguments, timeout)
    }

    fn begin(
        &self,
        visit: Option<Visit>,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let visit = visit.ok_or_else(|| self.not_found(name));
        let visit = match visit.and_then(|visit| visit.serving().admit(expects).map(|()| visit)) {
            Ok(visit) => visit,
            Err(failure) => {
                done(Err(failure));
                return None;
            }
        };
        if let Some(entering) = visit.serving().remote().map(Entering::new) {
            drop(visit);
            return entering.remote().start(name, arguments, timeout, done);
        }
        loader::begin(visit, arguments, timeout, done)
    }

    fn not_found(&self, name: &str) -> Failure {
        let nearest = self.registry().nearest(name);
        Failure::new(FailureKind::NotFound, format!("no plugin offers `{name}`"))
            .of_skill(name)
            .with_details(nearest)
    }
}

impl Inner {
    /// Goes in where a route leads.
    fn follow<'r>(&self, route: Route<'r>) -> (Option<Visit>, Cow<'r, str>, Option<&'r Expected>) {
        match route {
            Route::Link(link) => {
                let visit = Visit::of(&link.source());
                (visit, link.slot.name().into(), Some(&link.expected))
            }
            Route::Name(name) => (self.visit(name), name.into(), None),
            Route::Pinned(visit) => {
                let name = visit.serving().offer().name.clone();
                (Some(visit), name.into(), None)
            }
        }
    }
}

impl Services for Inner {
    fn call(&self, route: Route<'_>, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        let (visit, name, expects) = self.follow(route);
        Self::run(self, visit, &name, expects, arguments, None)
    }

    fn start(&self, route: Route<'_>, arguments: &[u8], done: Done) -> Option<Arc<dyn Underway>> {
        Self::start(self, route, arguments, None, done)
    }

    fn open(&self, route: Route<'_>, arguments: &[u8], streams: Vec<BoxItems>) -> BoxItems {
        Self::open(self, route, arguments, streams, None)
    }

    fn after(&self, time: Duration, then: Box<dyn FnOnce() + Send>) -> AbortHandle {
        let timer = self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            then();
        });
        timer.abort_handle()
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
        self.crash.get().map(|(file, _)| Arc::clone(file))
    }

    fn record(&self, plugin: &PluginName, around: &Around, record: &Record<'_>) {
        self.logs.record(plugin.as_str(), around, record);
    }
}

/// The embedder's own calls, on the embedder's own threads.
pub(super) struct Embedded(pub(super) Arc<Inner>);

impl Backend for Embedded {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        let (name, timeout) = (request.name, request.timeout);
        self.0
            .call(name, request.expected, &request.whole_arguments(), timeout)
    }

    fn start(
        &self,
        request: &Request<'_>,
        done: Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>,
    ) -> u64 {
        let inner = Arc::clone(&self.0);
        let name = request.name.to_owned();
        let arguments = request.whole_arguments().into_owned();
        let expected = request.expected.cloned();
        let timeout = request.timeout;
        let begun = std::time::Instant::now();
        let carried = Carried::here();
        let number = inner.embedded.begin();
        let host = Arc::clone(&inner);
        let done: Done = Box::new(move |outcome| {
            host.embedded.is_over(number);
            // A callback of the embedder's that panics must not take the thread with it.
            let _ = catch_unwind(AssertUnwindSafe(|| done(outcome)));
        });
        // Without a thread the job is dropped, and what waits for it is told.
        let _ = self.0.calls.submit(Box::new(move || {
            let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            // The time may be over before a thread was free.
            if let Some(timeout) = timeout.filter(|_| left == Some(Duration::ZERO)) {
                return done(Err(timed_out(&name, timeout)));
            }
            let expects = expected.as_ref();
            let visit = inner.visit(&name);
            let started =
                carried.run(|| inner.begin(visit, &name, expects, &arguments, left, done));
            if let Some(underway) = started {
                inner.embedded.goes_on(number, underway);
            }
        }));
        number
    }

    fn open(&self, request: &Request<'_>, streams: Vec<BoxItems>) -> BoxItems {
        let inner = Arc::clone(&self.0);
        let name = request.name.to_owned();
        let arguments = request.whole_arguments().into_owned();
        let expected = request.expected.cloned();
        let timeout = request.timeout;
        let items = lazily(move || {
            let visit = inner.visit(&name);
            inner.open_at(
                visit,
                &name,
                expected.as_ref(),
                &arguments,
                streams,
                timeout,
            )
        });
        match timeout {
            Some(timeout) => timed(items, request.name, Limit::Whole(timeout)),
            None => items,
        }
    }

    /// A plain skill that runs in this process runs to its end; an async one is dropped where it waits.
    fn cancel(&self, call: u64) {
        self.0.embedded.cancel(call);
    }
}

/// The embedder's started calls, by number.
#[derive(Default)]
pub(super) struct StartedCalls {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Option<Arc<dyn Underway>>>>,
}

impl StartedCalls {
    fn begin(&self) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.open).insert(number, None);
        number
    }

    fn goes_on(&self, number: u64, underway: Arc<dyn Underway>) {
        if let Some(place) = lock(&self.open).get_mut(&number) {
            *place = Some(underway);
            return;
        }
        // Over already, or given up before it went on.
        underway.give_up();
    }

    fn is_over(&self, number: u64) {
        let underway = lock(&self.open).remove(&number);
        drop(underway);
    }

    fn cancel(&self, number: u64) {
        let underway = lock(&self.open).remove(&number).flatten();
        if let Some(underway) = underway {
            underway.give_up();
        }
    }
}

/// The type names of the failures of the core's own skills.
pub const UNKNOWN_PLUGIN: &str = "aigis::UnknownPlugin";
/// A reload or a start did not get through one of its steps.
pub const STEP_FAILED: &str = "aigis::StepFailed";

/// A config that was to be applied has mistakes.
pub const CONFIG_INVALID: &str = "aigis::ConfigInvalid";

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
            HostError::NotUp(_) => author(STEP_FAILED),
            HostError::Config(_) => author(CONFIG_INVALID),
            HostError::Refused(_) => Self::new(FailureKind::Refused, message),
        }
    }
}
