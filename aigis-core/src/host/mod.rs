//! The host: loads plugins, routes calls of skills, supervises processes.
//!
//! Start at [`HostBuilder`]. A [`Host`] works in the background, on its own threads; every method
//! may be called from any thread, and what blocks says so.

mod boot;
mod calls;
mod core_skills;
mod events;
mod plugin;
mod process;
mod requirements;
mod secrets;
mod service;
mod status;
mod step;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{call_by_name, dynamic};
use aigis_plugin_api::{CallError, SkillFailure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use crate::build::{BuildFolders, Builder, Sdk, SdkCrate, Toolchain};
use crate::config::{Config, PluginEntry, PluginName};
use crate::home::{Home, HomeLock, LockError};
use crate::loader::{self, Target};
use crate::logging::{Level, LogError};
use crate::registry::{self, Registry};
use crate::rpc::{RpcError, Server};

use events::Logs;
use plugin::{Plugin, Running};

pub use calls::{STEP_FAILED, UNKNOWN_PLUGIN};
pub use events::{Event, Observer};
pub use requirements::RequirementsError;
pub use secrets::SecretsError;
pub use status::{PluginStatus, SkillInfo, State};
pub use step::{Step, StepError};

/// The variable that names the program `aigis` for embedders.
const PROGRAM: &str = "AIGIS_PROGRAM";

/// The variable that names cargo's target folder.
const TARGET_FOLDER: &str = "AIGIS_TARGET_DIR";

/// How long a shutdown waits for builds and requirements commands, which it has killed.
const PREPARATIONS_END: Duration = Duration::from_secs(10);

/// How long a reload or a start waits for the plugin to be ready, once it has been launched.
const SETTLE: Duration = Duration::from_secs(65);

/// Makes a [`Host`].
///
/// ```no_run
/// use aigis_core::{Config, HostBuilder};
///
/// let config = Config::load("config/config.aigis".as_ref())?;
/// let host = HostBuilder::new(".").config(config).start()?;
/// host.settled(None);
/// let text: String = host.call("greeter.greet", ("zaltu",))?;
/// host.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct HostBuilder {
    home: PathBuf,
    entries: Vec<PluginEntry>,
    program: Option<PathBuf>,
    target: Option<PathBuf>,
    observer: Option<Arc<dyn Observer>>,
    level: Option<Level>,
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBuilder")
            .field("home", &self.home)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

/// Why a host cannot start; nothing has been started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another core works in this home.
    #[error(
        "another core works in `{home}`{}; stop it with `aigis shutdown`, or choose another home \
         with --home",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    HomeInUse {
        /// The home.
        home: PathBuf,
        /// The other core's process, where known.
        pid: Option<u32>,
    },
    /// The home cannot be used.
    #[error("the home `{home}` cannot be used")]
    Home {
        /// The home.
        home: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two plugins have one name.
    #[error("two plugins are named `{0}`")]
    Duplicate(PluginName),
    /// The program `aigis`, which runs probes and shims, was not found.
    #[error(
        "the program `aigis`, which a host runs as probes and shims, is not next to this one or on \
         the PATH; name it with `HostBuilder::program` or {PROGRAM}"
    )]
    NoProgram,
    /// The core's log cannot be opened.
    #[error("the core's log cannot be opened")]
    Log(#[source] LogError),
    /// The threads cannot be started.
    #[error("the core's threads cannot be started")]
    Threads(#[source] io::Error),
    /// The socket cannot be opened.
    #[error("the core's socket cannot be opened")]
    Socket(#[source] RpcError),
}

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

impl HostBuilder {
    /// Starts with a home folder and no plugins.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            ..Self::default()
        }
    }

    /// Adds the plugins of a config.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.entries.extend(config.plugins);
        self
    }

    /// Adds one plugin. Core plugins are loaded first, then internal, then external ones, whatever
    /// order they are added in; within a kind the order counts.
    #[must_use]
    pub fn plugin(mut self, entry: PluginEntry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Names the program `aigis`, which is run as probes and shims. Without this it is the running
    /// program if that is `aigis`, else the one that `AIGIS_PROGRAM` names, else one next to the
    /// running program or on the PATH.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Names cargo's target folder, which several homes may share. Without this it is the one that
    /// `AIGIS_TARGET_DIR` names, else `run/target` in the home.
    #[must_use]
    pub fn target_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.target = Some(folder.into());
        self
    }

    /// Adds somebody who is told of everything as it happens.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the least level that is logged; [`Level::Info`] without this.
    #[must_use]
    pub fn log_level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Takes the home, opens the socket and begins to load the plugins, which goes on in the
    /// background; see [`Host::settled`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(mut self) -> Result<Host, StartError> {
        // Stable: the order within a kind stays.
        self.entries.sort_by_key(|entry| entry.kind);
        for (index, entry) in self.entries.iter().enumerate() {
            if self.entries[..index]
                .iter()
                .any(|other| other.name == entry.name)
            {
                return Err(StartError::Duplicate(entry.name.clone()));
            }
        }
        let unusable = |home: &Path, source| StartError::Home {
            home: home.to_owned(),
            source,
        };
        let home = Home::new(&self.home).map_err(|error| unusable(&self.home, error))?;
        home.make_folders()
            .map_err(|error| unusable(home.root(), error))?;
        let lock = home.lock().map_err(|error| match error {
            LockError::InUse(pid) => StartError::HomeInUse {
                home: home.root().to_owned(),
                pid,
            },
            LockError::Open(error) => unusable(home.root(), error),
        })?;
        clear(&home.run().join("libraries"));
        let program = match self.program {
            Some(program) => program,
            None => find_program().ok_or(StartError::NoProgram)?,
        };
        let level = self.level.unwrap_or(Level::Info);
        let logs = Logs::open(&home, level, self.observer).map_err(StartError::Log)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(1024)
            .thread_name("aigis-core")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let handle = runtime.handle().clone();
        let threads = Threads(Some(runtime));
        let run = home.run();
        let target = self
            .target
            .or_else(|| std::env::var_os(TARGET_FOLDER).map(PathBuf::from))
            .unwrap_or_else(|| run.join("target"));
        let folders = BuildFolders {
            artifacts: run.join("artifacts"),
            stamps: run.join("stamps"),
            // Cargo compiles a crate anew for each place it finds it in: who shares the one shares
            // the other.
            sdk: target.join("aigis-sdk"),
            target,
        };
        let inner = Arc::new(Inner {
            builder: Builder::new(folders, sdk(), Toolchain::from_environment()),
            home,
            lock: Mutex::new(Some(lock)),
            program,
            runtime: handle.clone(),
            logs,
            registry: RwLock::default(),
            plugins: self
                .entries
                .into_iter()
                .map(|entry| Arc::new(Plugin::new(entry)))
                .collect(),
            launched: Mutex::default(),
            sessions: Mutex::default(),
            server: OnceLock::new(),
            cancel: Arc::default(),
            phase: Mutex::new(Phase::Open),
            changed: Condvar::new(),
            board: boot::Board::default(),
            preparations: boot::Preparations::default(),
        });
        let boot_message = format!(
            "aigis {} starts in {}",
            env!("CARGO_PKG_VERSION"),
            inner.home.root().display()
        );
        inner.logs.core(Level::Boot, boot_message);
        inner
            .registry_mut()
            .install_core(core_skills::core_skills(&inner));
        let service = Arc::clone(&inner) as Arc<dyn crate::rpc::Service>;
        let server = Server::bind(&handle, &inner.home.socket(), service, std::process::id())
            .map_err(StartError::Socket)?;
        // Set once, here.
        let _ = inner.server.set(server);
        // From here on the handle's drop takes everything down again.
        let host = Host {
            handle: Arc::new(HostHandle {
                inner,
                _threads: threads,
            }),
        };
        boot::begin(&host.handle.inner).map_err(StartError::Threads)?;
        Ok(host)
    }
}

/// Removes the copies that an earlier core opened.
fn clear(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // What stays is only a file too many.
        let _ = std::fs::remove_file(entry.path());
    }
}

fn find_program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    if own.file_name().is_some_and(|name| name == "aigis") {
        return Some(own);
    }
    if let Some(named) = std::env::var_os(PROGRAM) {
        return Some(named.into());
    }
    let near = own.ancestors().skip(1).take(2);
    near.map(|folder| folder.join("aigis"))
        .find(|path| path.is_file())
        .or_else(|| which::which("aigis").ok())
}

/// Returns the crates that plugins are built with.
fn sdk() -> Sdk {
    let crates = aigis_plugin_api::__private::SOURCES.iter();
    Sdk {
        crates: crates
            .map(|(name, files)| SdkCrate {
                name,
                version: env!("CARGO_PKG_VERSION"),
                files,
            })
            .collect(),
        lock: crate::LOCK_FILE,
    }
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
    pub(crate) logs: Logs,
    registry: RwLock<Registry<Target>>,
    pub(crate) builder: Builder,
    plugins: Vec<Arc<Plugin>>,
    /// The tokens of launched plugins.
    launched: Mutex<HashMap<String, Launched>>,
    sessions: Mutex<service::Sessions>,
    server: OnceLock<Server>,
    /// Ends fetches, requirements commands and builds.
    pub(crate) cancel: Arc<AtomicBool>,
    phase: Mutex<Phase>,
    /// Notified under `phase` when a plugin's state or the phase has changed.
    changed: Condvar,
    board: boot::Board,
    preparations: boot::Preparations,
}

/// A launched plugin that has not opened its session, or has.
struct Launched {
    plugin: Arc<Plugin>,
    up: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Closed,
}

/// Refuses what cannot be done to a plugin that is being fetched or built: it would come up all the
/// same.
fn refuse_on_its_way(plugin: &Plugin, running: &Running) -> Result<(), HostError> {
    let state = plugin.state();
    if running.is_empty() && !state.is_settled() {
        let message = format!(
            "plugin `{}` is {state}; wait until it is up or has failed",
            plugin.name()
        );
        return Err(HostError::Refused(message));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry<Target>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry<Target>> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closing(&self) -> bool {
        *lock(&self.phase) != Phase::Open
    }

    pub(crate) fn state_changed(&self, plugin: &PluginName, state: State) {
        let plugin = plugin.as_str();
        self.logs.notify(&Event::State { plugin, state });
        let _phase = lock(&self.phase);
        self.changed.notify_all();
    }

    pub(crate) fn status(&self) -> Vec<PluginStatus> {
        self.plugins.iter().map(|plugin| plugin.status()).collect()
    }

    pub(crate) fn skills(&self) -> Vec<SkillInfo> {
        let offers = self.registry().offers();
        offers
            .into_iter()
            .map(|(plugin, offer)| SkillInfo {
                name: offer.name.clone(),
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
            let mut plugins = self.plugins.iter().filter(|plugin| of_interest(plugin));
            plugins.any(|plugin| !plugin.state().is_settled())
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

    fn find(&self, name: &str) -> Result<&Arc<Plugin>, HostError> {
        let found = self.plugins.iter().find(|p| p.name().as_str() == name);
        found.ok_or_else(|| {
            let known = self.plugins.iter().map(|plugin| plugin.name().as_str());
            HostError::UnknownPlugin {
                name: name.to_owned(),
                nearest: registry::nearest(name, known),
            }
        })
    }

    /// Refuses what cannot be done now, whichever plugin it is for.
    fn refuse_now(&self) -> Result<(), HostError> {
        if self.is_closing() {
            return Err(HostError::Refused("the core is shutting down".to_owned()));
        }
        if loader::is_constructing() {
            // It could wait for the very plugin that waits for it.
            let message = "a plugin's `new` cannot reload, stop or start plugins; a skill can";
            return Err(HostError::Refused(message.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn reload(
        self: &Arc<Self>,
        name: &str,
        fresh: bool,
    ) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        self.logs.core(Level::Info, format!("reloading {name}"));
        let mut running = plugin.lock_running();
        refuse_on_its_way(plugin, &running)?;
        // What runs goes on until its next version is ready to take its place.
        let outcome = self
            .prepare(plugin, fresh)
            .and_then(|prepared| self.activate(plugin, &mut running, prepared));
        match outcome {
            Ok(()) => {
                drop(running);
                self.logs.core(Level::Info, format!("reloaded {name}"));
                self.wait_settled(Some(SETTLE), |p| p.name() == plugin.name());
                Ok(plugin.status())
            }
            Err(error) => {
                self.report_failure(plugin, &error);
                let message = full_message(&error.step);
                if running.is_empty() {
                    plugin.fail(self, State::Failed, message);
                } else {
                    plugin.keep(self, message);
                }
                Err(HostError::Step(error))
            }
        }
    }

    pub(crate) fn stop(&self, name: &str) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let mut running = plugin.lock_running();
        refuse_on_its_way(plugin, &running)?;
        if !running.is_empty() {
            self.take_down(plugin, &mut running, State::Stopped);
            self.logs.core(Level::Info, format!("stopped {name}"));
        }
        Ok(plugin.status())
    }

    pub(crate) fn start_plugin(self: &Arc<Self>, name: &str) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let mut running = plugin.lock_running();
        if !running.is_empty() || !plugin.state().is_settled() {
            let message = format!("plugin `{name}` is {} already", plugin.state());
            return Err(HostError::Refused(message));
        }
        plugin.enter(self, State::Fetching, None);
        let prepared = self.prepare(plugin, false);
        self.bring_up(plugin, &mut running, prepared)
            .map_err(HostError::Step)?;
        drop(running);
        self.wait_settled(Some(SETTLE), |p| p.name() == plugin.name());
        Ok(plugin.status())
    }

    pub(crate) fn shutdown_in_background(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        // When even that cannot be done, whoever asked sees the core go on.
        let _ = std::thread::Builder::new()
            .name("aigis-shutdown".to_owned())
            .spawn(move || inner.shutdown());
    }

    pub(crate) fn shutdown(&self) {
        {
            let mut phase = lock(&self.phase);
            match *phase {
                Phase::Open => *phase = Phase::Closing,
                Phase::Closing | Phase::Closed => {
                    while *phase != Phase::Closed {
                        let woken = self.changed.wait(phase);
                        phase = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                    return;
                }
            }
            self.changed.notify_all();
        }
        self.logs.core(Level::Shutdown, "shutting down");
        self.cancel.store(true, Ordering::Relaxed);
        self.board.close();
        // Processes first, in reverse order; then what they may have been using.
        for plugin in self.plugins.iter().rev() {
            let mut running = plugin.lock_running();
            if running.has_process() {
                plugin.enter(self, State::Stopping, None);
                running.stop_process(self);
            }
        }
        // They have been told to end; what they leave running would outlive this process.
        let left = self.preparations.close(PREPARATIONS_END);
        if left > 0 {
            let message = format!("{left} programs that prepare plugins could not be ended");
            self.logs.core(Level::Error, message);
        }
        for plugin in self.plugins.iter().rev() {
            let mut running = plugin.lock_running();
            if plugin.state() != State::Stopped {
                let before = plugin.state();
                let state = if before.is_settled() && before != State::Ready {
                    before
                } else {
                    State::Stopped
                };
                self.take_down(plugin, &mut running, state);
            }
        }
        if let Some(server) = self.server.get() {
            self.wait_on(server.shutdown(Duration::from_secs(2)));
        }
        self.logs.core(Level::Shutdown, "shut down");
        lock(&self.lock).take();
        *lock(&self.phase) = Phase::Closed;
        self.changed.notify_all();
    }

    /// Expects a launched plugin to present `token`; `up` hears when it does.
    pub(crate) fn admit_launched(
        &self,
        token: &str,
        plugin: &Arc<Plugin>,
        up: oneshot::Sender<()>,
    ) {
        let launched = Launched {
            plugin: Arc::clone(plugin),
            up: Some(up),
        };
        lock(&self.launched).insert(token.to_owned(), launched);
    }

    pub(crate) fn revoke(&self, token: &str) {
        lock(&self.launched).remove(token);
    }

    /// Ends a plugin whose process, launch `id`, has ended for good.
    pub(crate) fn bury(&self, plugin: &Plugin, id: u64, state: State, error: Option<String>) {
        let mut running = plugin.lock_running();
        // A stop or a reload that came first has taken the process and decides what follows.
        if !running.forget_process(id) {
            return;
        }
        self.unload(plugin, &mut running);
        let name = plugin.name().as_str();
        self.logs.plugin(name, Level::Shutdown, "Plugin shut down.");
        self.logs
            .core(Level::Warn, format!("{name} has terminated."));
        match error {
            Some(error) => plugin.fail(self, state, error),
            None => plugin.enter(self, state, None),
        }
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
        self.handle.inner.reload(name, fresh)
    }

    /// Stops a plugin and waits until its processes are gone and its `cleanup` has run. Blocks.
    ///
    /// # Errors
    /// An unknown name.
    pub fn stop(&self, name: &str) -> Result<PluginStatus, HostError> {
        self.handle.inner.stop(name)
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
    pub fn call<T: DeserializeOwned>(
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

    /// Returns the folder that the host works in.
    pub fn home(&self) -> &Home {
        &self.handle.inner.home
    }

    /// Stops every process, runs every `cleanup`, closes the socket and lets go of the home. Blocks
    /// until all of it is done; a second call waits for the first.
    pub fn shutdown(&self) {
        self.handle.inner.shutdown();
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
