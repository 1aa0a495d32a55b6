//! The host: loads plugins, routes calls of skills, supervises processes.
//!
//! Start at [`HostBuilder`]. A [`Host`] works in the background, on its own threads; every method
//! may be called from any thread, and what blocks says so.
//!
//! # `tracing`
//!
//! A program that has a `tracing` subscriber of its own, global or of the calling thread, sees there
//! what goes into the logs: the records of the core and of its core plugins, and the spans of those
//! plugins. The subscriber's own span is the parent of what is called below it, also where a started
//! call goes on on another thread, and plugins' log lines name it.
//!
//! Callsites of `tracing` are static, and plugins are not. So everything comes from one callsite for
//! each level and kind, with the target `aigis` and these fields; `fields` is text, and what has no
//! value is left out:
//!
//! | | `plugin` | `target` | `fields` | others |
//! |---|---|---|---|---|
//! | records | whose log it is in; none for the core's | the plugin's own | its own, `key=value key=value` | `message`, `file`, `line` |
//! | spans, named `span` | whose it is | the plugin's own | its own, `key=value key=value` | `span_name` |
//!
//! Of the subscriber's spans a plugin sees the name of the innermost one: `tracing` does not tell more.
//! Spans stay in one process: the calls of a session begin without any.

mod add;
mod adoption;
mod apply;
mod boot;
mod builder;
mod calls;
mod compatibility;
mod confine;
mod core_skills;
mod deaths;
mod events;
mod grants;
mod health;
mod instances;
mod isolate;
mod isolated;
mod launch;
mod library;
mod limits;
mod measure;
mod membership;
mod memo;
mod metrics;
mod offering;
mod operations;
mod order;
mod plugin;
mod portable;
mod prepare;
mod probe;
mod process;
mod processes;
mod readiness;
mod remote;
mod replace;
mod requirements;
mod secrets;
mod secrets_place;
mod service;
mod status;
mod step;
mod stopping;
mod swap;
mod takeover;
mod watch;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{call_by_name, dynamic};
use aigis_plugin_api::session::reactor::Reactor;
use aigis_plugin_api::{CallError, SkillFailure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use crate::build::Builder;
use crate::config::{Config, Diagnostics, PluginEntry, PluginName};
use crate::home::{Home, HomeLock};
use crate::loader::crash::{CrashFile, Listed};
use crate::loader::guard::{Slot, Switchboard};
use crate::logging::Level;
use crate::registry::{Part, Registry};
use crate::rpc::Server;
use crate::supervisor::cgroup::Parent;

use add::Addition;
use apply::Applying;
use events::Logs;
use isolated::Isolated;
use limits::MessageLimits;
use operations::Reload;
use plugin::Plugin;
use replace::Replacement;

pub use crate::loader::{GenerationState, GenerationStatus, SlowCall};
pub use apply::{ApplyAction, ApplyReport, ApplyStep, Outcome};
pub use builder::{HostBuilder, StartError};
pub use calls::{CONFIG_INVALID, STEP_FAILED, UNKNOWN_PLUGIN};
pub use confine::ConfineError;
pub use deaths::Crash;
pub use events::{Event, Observer};
pub(crate) use isolate::{ISOLATE_ARGUMENT, isolate_main};
pub use metrics::{MetricsAddress, MetricsAddressError};
pub use requirements::RequirementsError;
pub use secrets::SecretsError;
pub use status::{
    CoreStatus, Isolation, LastExit, OverdueCall, PluginStatus, ProcessStatus, ServingProcess,
    SkillInfo, State,
};
pub use step::{Step, StepError};
pub use takeover::TakeoverError;

/// Why a host does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// It has no plugin of that name.
    #[error("there is no plugin `{name}`{}", .nearest.first().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownPlugin {
        /// The name that was asked for.
        name: String,
        /// The names most like it.
        nearest: Vec<String>,
    },
    /// A step failed; what ran before runs on.
    #[error("{}", full_message(.0))]
    Step(StepError),
    /// A plugin's process was launched and has failed before it was ready; all is as it was.
    #[error("{0}")]
    NotUp(String),
    /// A config has mistakes; nothing was done.
    #[error("{0}")]
    Config(Diagnostics),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
}

/// Joins an error and its causes.
pub(crate) fn full_message(error: &dyn Error) -> String {
    let mut message = error.to_string();
    for cause in causes(error) {
        // Some errors say what their cause says.
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}

pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| (*cause).source())
        .map(ToString::to_string)
        .collect()
}

/// A running host. Clones share it; when the last one goes, it is shut down.
#[derive(Clone)]
pub struct Host {
    handle: Arc<HostHandle>,
}

struct HostHandle {
    inner: Arc<Inner>,
    /// Apart from `inner`, which its own tasks hold: a runtime cannot be dropped by one of them.
    _threads: Threads,
}

/// The runtime. It may go on any thread, one that runs an embedder's futures included, and does not
/// wait for jobs that are still running.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("home", &self.handle.inner.home.root())
            .finish_non_exhaustive()
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        self.inner.shutdown();
    }
}

/// What every part of a host shares.
pub(crate) struct Inner {
    pub(crate) home: Home,
    /// Let go of at the end of a shutdown.
    lock: Mutex<Option<HomeLock>>,
    pub(crate) program: PathBuf,
    pub(crate) runtime: Handle,
    /// Reads sessions and runs calls, those included that were started and not waited for; apart from
    /// the host's own work: calls that wait for one another must not keep a plugin from being launched.
    calls: Arc<Reactor>,
    /// The calls that the embedder has started.
    embedded: calls::StartedCalls,
    pub(crate) logs: Logs,
    registry: RwLock<Registry<Arc<Slot>>>,
    switchboard: Arc<Switchboard>,
    pub(crate) builder: Builder,
    plugins: RwLock<Vec<Arc<Plugin>>>,
    /// The tokens of launched plugins.
    launched: Mutex<HashMap<TokenHash, Launched>>,
    message_limits: MessageLimits,
    portables: portable::Portables,
    sessions: Mutex<service::Sessions>,
    server: OnceLock<Server>,
    /// Where control groups of launches are made, once that has been looked for.
    cgroups: OnceLock<Option<Parent>>,
    metrics: metrics::Asked,
    /// Where they are asked for; open until the end of a shutdown.
    metrics_endpoint: Mutex<Option<metrics::Endpoint>>,
    /// What plugins were using when somebody last asked.
    samples: measure::Samples,
    /// Ends fetches, requirements commands and builds.
    pub(crate) cancel: Arc<AtomicBool>,
    phase: Mutex<Phase>,
    /// Notified under `phase` when a plugin's state or the phase has changed.
    changed: Condvar,
    board: boot::Board,
    /// The start has brought every plugin to its turn.
    booted: AtomicBool,
    /// Held by whoever changes which plugins there are.
    changing: Mutex<()>,
    /// The config files that it was started with.
    configs: Vec<PathBuf>,
    preparations: boot::Preparations,
    /// Whether the host closes, for tasks.
    closing: tokio::sync::watch::Sender<bool>,
    /// Whether what was launched is let go of, for another core.
    letting_go: tokio::sync::watch::Sender<bool>,
    /// The states that another core has handed over, by plugin.
    states: Mutex<HashMap<String, Vec<u8>>>,
    /// When those come in at the latest that another core has launched; see [`adoption`].
    gate: adoption::Gate,
    deaths: deaths::Deaths,
    /// Where it is recorded that the process dies; kept so that the handler finds it.
    crash: OnceLock<(Arc<CrashFile>, Listed)>,
}

/// What stands for a token: how long it takes to find out that one is wrong tells nothing of the right ones, since nobody
/// can choose how a hash begins, and hashes are compared in constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(blake3::Hash);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// Reads one that was written down.
    fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }

    fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }
}

/// A launched plugin that is not ready yet, or is.
struct Launched {
    plugin: Arc<Plugin>,
    /// The number of the launch.
    number: u64,
    /// The library that it runs, if it is not the plugin's program.
    isolated: Option<Arc<Isolated>>,
    /// Another core has launched it.
    adopted: bool,
    up: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Closed,
}

/// Takes a lock of the host's. Each holder changes one thing, so one that panicked leaves nothing half
/// changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry<Arc<Slot>>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry<Arc<Slot>>> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the place of a name.
    fn new_slot(&self, name: &str) -> Arc<Slot> {
        Slot::new(name, &self.switchboard)
    }

    fn board_of_slots(&self) -> &Switchboard {
        &self.switchboard
    }

    /// Returns the plugins, in the order of the config.
    pub(crate) fn plugins(&self) -> Vec<Arc<Plugin>> {
        let plugins = self.plugins.read();
        plugins.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        *lock(&self.phase) != Phase::Open
    }

    pub(crate) fn state_changed(&self, plugin: &PluginName, state: State) {
        let plugin = plugin.as_str();
        self.logs.notify(&Event::State { plugin, state });
        self.wake();
    }

    /// Has everybody look again who waits for something to change.
    fn wake(&self) {
        let _phase = lock(&self.phase);
        self.changed.notify_all();
    }

    pub(crate) fn status(&self) -> Vec<PluginStatus> {
        crate::loader::look_for_slow_calls();
        let plugins = self.plugins();
        let mut all: Vec<_> = plugins.iter().map(|plugin| plugin.status()).collect();
        self.measure(&mut all);
        let overdue = self.server.get().map(|server| server.overdue());
        for call in overdue.into_iter().flatten() {
            // Whose it is: a skill that is withdrawn meanwhile is nobody's, and a call of it is seen in the
            // generation that it keeps.
            let visit = self.visit(&call.skill);
            let plugin = visit.map(|visit| visit.serving().offer().plugin.clone());
            let status = all
                .iter_mut()
                .find(|status| Some(&status.name) == plugin.as_ref());
            if let Some(status) = status {
                status.overdue_calls.push(OverdueCall {
                    skill: call.skill,
                    session: call.session.id,
                    client: call.session.client.clone(),
                    overdue_ms: u64::try_from(call.time.as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
        all
    }

    pub(crate) fn skills(&self) -> Vec<SkillInfo> {
        let offers = self.registry().offers();
        let plugins = self.plugins();
        let is_served = |name: &PluginName, part: Part| {
            let found = plugins.iter().find(|plugin| plugin.name() == name);
            found.is_some_and(|plugin| plugin.is_served(part))
        };
        offers
            .into_iter()
            .map(|(plugin, part, offer)| SkillInfo {
                name: offer.name.clone(),
                available: is_served(&plugin, part),
                plugin: plugin.to_string(),
                signature: offer.signature.to_string(),
                doc: offer.doc.clone(),
                types: offer.signature.clone(),
            })
            .collect()
    }

    pub(crate) fn settled(&self, timeout: Option<Duration>) -> Vec<PluginStatus> {
        self.wait_settled(timeout, |_| true);
        self.status()
    }

    /// Waits until the plugins of interest have settled, the time is over, or the host closes.
    fn wait_settled(&self, timeout: Option<Duration>, of_interest: impl Fn(&Plugin) -> bool) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let on_their_way = || {
            let plugins = self.plugins();
            let mut plugins = plugins.iter().filter(|plugin| of_interest(plugin));
            plugins.any(|plugin| !plugin.state().is_settled() || plugin.left().is_turn_to_come())
        };
        let mut phase = lock(&self.phase);
        while *phase == Phase::Open && on_their_way() {
            let Some(deadline) = deadline else {
                let woken = self.changed.wait(phase);
                phase = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(phase, left);
            phase = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Expects a launched plugin to present its token.
    fn admit_launched(&self, token: TokenHash, launched: Launched) {
        lock(&self.launched).insert(token, launched);
    }

    fn revoke(&self, token: TokenHash) {
        lock(&self.launched).remove(&token);
    }

    /// Waits for a future on this thread, which may be anybody's. Blocks.
    pub(crate) fn wait_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        if Handle::try_current().is_err() {
            return self.runtime.block_on(future);
        }
        // A thread that runs futures, an embedder's or our own, cannot wait for another one.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| self.runtime.block_on(future));
            match waiting.join() {
                Ok(output) => output,
                Err(payload) => std::panic::resume_unwind(payload),
            }
        })
    }
}

/// Returns the status of the one plugin that was asked for.
fn only(mut of_one: Vec<PluginStatus>) -> PluginStatus {
    of_one.swap_remove(0)
}

impl Host {
    /// Waits until every plugin is ready, finished, failed, stopped or in a crash loop, at most
    /// `timeout`; then returns the status. Blocks.
    pub fn settled(&self, timeout: Option<Duration>) -> Vec<PluginStatus> {
        self.handle.inner.settled(timeout)
    }

    /// Returns how every plugin is, in load order.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.handle.inner.status()
    }

    /// Returns the skills that plugins offer, by name.
    pub fn skills(&self) -> Vec<SkillInfo> {
        self.handle.inner.skills()
    }

    /// Fetches, builds and swaps a plugin; with `fresh` a local source is copied anew. Blocks.
    ///
    /// # Errors
    /// An unknown name, or the step that failed: then what ran before runs on.
    pub fn reload(&self, name: &str, fresh: bool) -> Result<PluginStatus, HostError> {
        self.handle
            .inner
            .reload(
                &[name],
                Reload {
                    fresh,
                    force: false,
                },
            )
            .map(only)
    }

    /// Reloads several plugins together: all of them are switched in one instant, or none. With `force`
    /// also if others lose what they were compiled for. Blocks.
    ///
    /// # Errors
    /// An unknown name, or the step that failed: then what ran before runs on.
    pub fn reload_set(
        &self,
        names: &[&str],
        fresh: bool,
        force: bool,
    ) -> Result<Vec<PluginStatus>, HostError> {
        self.handle.inner.reload(names, Reload { fresh, force })
    }

    /// Puts a new plugin in the place of another, under the same names, in one instant. `source` is a
    /// git URL, a folder, or a table as in the config. Blocks.
    ///
    /// # Errors
    /// An unknown or a taken name, a source that cannot be read, or the step that failed: then the old
    /// plugin runs on.
    pub fn replace(
        &self,
        old: &str,
        new: &str,
        source: &str,
        force: bool,
    ) -> Result<PluginStatus, HostError> {
        self.handle.inner.replace(Replacement {
            old,
            new,
            source,
            force,
        })
    }

    /// Stops a plugin and waits until its processes are gone and its `cleanup` has run. Blocks.
    ///
    /// # Errors
    /// An unknown name, or a library with skills that others have been compiled for; see
    /// [`stop_forced`](Self::stop_forced).
    pub fn stop(&self, name: &str) -> Result<PluginStatus, HostError> {
        self.handle.inner.stop(name, false)
    }

    /// Stops a plugin also if others have been compiled for its skills: their calls fail from then on.
    /// Blocks.
    ///
    /// # Errors
    /// An unknown name.
    pub fn stop_forced(&self, name: &str) -> Result<PluginStatus, HostError> {
        self.handle.inner.stop(name, true)
    }

    /// Makes what runs what a config says, plugin by plugin: what fails leaves its plugin as it was, and is in
    /// the report. With `dry_run` nothing is done. What was [added](Self::add) stays. Blocks.
    ///
    /// # Errors
    /// It makes no sense now: the host is shutting down, or a plugin's `new` asks for it.
    pub fn apply(&self, config: &Config, dry_run: bool) -> Result<ApplyReport, HostError> {
        let how = Applying {
            dry_run,
            force: false,
        };
        self.handle.inner.apply(config, how)
    }

    /// Adds a plugin, after the others of its kind, until the host is shut down; its source is fetched anew.
    /// No config file is changed. Blocks until it is up.
    ///
    /// # Errors
    /// A taken name, or the step that failed: then it is not there.
    pub fn add(&self, entry: PluginEntry) -> Result<PluginStatus, HostError> {
        self.handle.inner.add(Addition::of(entry))
    }

    /// Stops a plugin and forgets it; its folders stay. With `force` also if others have been compiled for
    /// its skills. No config file is changed. Blocks.
    ///
    /// # Errors
    /// An unknown name, or a library with skills that others have been compiled for.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), HostError> {
        self.handle.inner.remove(name, force, false)
    }

    /// Stops several plugins side by side, those that start after others before these, and waits until all are gone.
    /// Blocks.
    ///
    /// # Errors
    /// An unknown name, a plugin that is on its way, or, without `force`, a library with skills that others have been
    /// compiled for; then none is stopped.
    pub fn stop_set(&self, names: &[&str], force: bool) -> Result<Vec<PluginStatus>, HostError> {
        self.handle.inner.stop_set(names, force)
    }

    /// Stops plugins and starts them again, those that others start after first. Blocks.
    ///
    /// # Errors
    /// An unknown name, a plugin that is on its way, or the step that the first of those did not get through that failed;
    /// the others are started all the same.
    pub fn restart(&self, names: &[&str]) -> Result<Vec<PluginStatus>, HostError> {
        self.handle.inner.restart(names)
    }

    /// Starts a plugin that is stopped, finished or has failed. Blocks.
    ///
    /// # Errors
    /// An unknown name, one that runs already, or the step that failed.
    pub fn start_plugin(&self, name: &str) -> Result<PluginStatus, HostError> {
        self.handle.inner.start_plugin(name)
    }

    /// Calls a skill by name, on this thread. Arguments are a tuple by position, or a struct or map
    /// by name; `()` for none.
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn call<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<T, CallError<SkillFailure>> {
        let backend = calls::Embedded(Arc::clone(&self.handle.inner));
        call_by_name(&backend, name, arguments, None).map_err(dynamic)
    }

    /// Runs `body` with this host as the one that imports and `aigis_plugin_api::call` ask.
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        let backend = Arc::new(calls::Embedded(Arc::clone(&self.handle.inner)));
        aigis_plugin_api::__private::scope(backend, body)
    }

    /// Returns where the host's metrics are to be had, if it was asked for them.
    pub fn metrics_address(&self) -> Option<MetricsAddress> {
        let endpoint = lock(&self.handle.inner.metrics_endpoint);
        endpoint.as_ref().map(|open| open.address().clone())
    }

    /// Returns the folder that the host works in.
    pub fn home(&self) -> &Home {
        &self.handle.inner.home
    }

    /// Stops every process, runs every `cleanup`, closes the socket and lets go of the home. Blocks
    /// until all of it is done; a second call waits for the first.
    pub fn shutdown(&self) {
        self.handle.inner.shutdown();
    }

    /// Waits until somebody has asked for the host's end. Blocks.
    pub(crate) fn wait_closing(&self) {
        let inner = &self.handle.inner;
        let mut phase = lock(&inner.phase);
        while *phase == Phase::Open {
            let woken = inner.changed.wait(phase);
            phase = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.handle.inner.is_closing()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *lock(&self.handle.inner.phase) == Phase::Closed
    }

    /// Does what SIGHUP asks for: reads the config that it was started with again, and applies it. How it goes is in the
    /// log.
    pub(crate) fn hang_up(&self) {
        let inner = &self.handle.inner;
        inner
            .logs
            .core(Level::Info, "SIGHUP: reading the config again");
        if let Err(error) = inner.apply_file(None, Applying::default()) {
            let message = format!(
                "nothing of the config was applied: {}",
                full_message(&error)
            );
            inner.logs.core(Level::Error, message);
        }
    }

    /// Waits until somebody has shut the host down: [`shutdown`](Self::shutdown), or the skill
    /// `aigis.shutdown`. Blocks.
    pub fn wait_shutdown(&self) {
        let inner = &self.handle.inner;
        let mut phase = lock(&inner.phase);
        while *phase != Phase::Closed {
            let woken = inner.changed.wait(phase);
            phase = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
