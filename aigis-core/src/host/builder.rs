//! From a home and its plugins to a running host.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

use super::deaths::Deaths;
use super::events::Logs;
use super::limits::MessageLimits;
use super::metrics::{Endpoint, Metrics, MetricsAddress};
use super::plugin::Plugin;
use super::portable::Portables;
use super::{
    Host, HostHandle, Inner, Observer, Phase, Threads, adoption, boot, core_skills, secrets_place,
};
use crate::build::{BuildFolders, Builder, Sdk, SdkCrate, Toolchain};
use crate::config::{Config, PluginEntry, PluginName, Standing};
use crate::home::{Home, LockError, at};
use crate::loader::crash::{self, CrashFile, Listed};
use crate::logging::{Level, LogError};
use crate::rpc::{RpcError, Server};
use aigis_plugin_api::session::reactor::Reactor;
use tokio::sync::watch;

/// The variable that names the program `aigis` for embedders.
const PROGRAM: &str = "AIGIS_PROGRAM";

/// The variable that names cargo's target folder.
const TARGET_FOLDER: &str = "AIGIS_TARGET_DIR";

/// How many threads run calls, as many as calls: a skill that waits for another call must not take the
/// thread that this one needs.
const MOST_CALLS: usize = 4096;

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
    /// The config files that were read for them.
    configs: Vec<PathBuf>,
    /// Those that stand in none of these files.
    unlisted: Vec<PluginName>,
    program: Option<PathBuf>,
    target: Option<PathBuf>,
    observer: Option<Arc<dyn Observer>>,
    level: Option<Level>,
    crash_records: bool,
    metrics: Option<MetricsAddress>,
    takeover: bool,
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
    /// The core that runs in the home is not taken over.
    #[error("the core in `{home}` is not taken over")]
    Takeover {
        /// The home.
        home: PathBuf,
        /// Why.
        source: super::TakeoverError,
    },
    /// The threads cannot be started.
    #[error("the core's threads cannot be started")]
    Threads(#[source] io::Error),
    /// The socket cannot be opened.
    #[error("the core's socket cannot be opened")]
    Socket(#[source] RpcError),
    /// Metrics cannot be offered where they were asked for.
    #[error("metrics cannot be offered at {address}")]
    Metrics {
        /// The address.
        address: MetricsAddress,
        /// What the system says.
        source: io::Error,
    },
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
        self.configs.push(config.path);
        self.entries.extend(config.plugins);
        self
    }

    /// Has the host offer metrics for Prometheus at an address, and count calls that come through sessions for that.
    #[must_use]
    pub fn metrics(mut self, address: MetricsAddress) -> Self {
        self.metrics = Some(address);
        self
    }

    /// Adds one plugin. Core plugins are loaded first, then internal, then external ones, whatever
    /// order they are added in; within a kind the order counts. It is in no config, so it stays when one is
    /// applied.
    #[must_use]
    pub fn plugin(mut self, entry: PluginEntry) -> Self {
        self.unlisted.push(entry.name.clone());
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
    ///
    /// It holds for as long as the host lives: plugins ask for it once, and what is below it is not
    /// even formatted.
    #[must_use]
    pub fn log_level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Records, for the next start in this home, whose code was running when this process dies of a
    /// fault: the program `aigis` does so.
    ///
    /// For this, handlers are installed for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGTRAP, once
    /// for the process and for good. Those that are there before the host starts run afterwards, as if
    /// they had been called by the system; those that are installed later should call the ones that
    /// they find. A signal that is ignored stays ignored. Without this, nothing is changed.
    #[must_use]
    pub fn crash_records(mut self, record: bool) -> Self {
        self.crash_records = record;
        self
    }

    /// Takes over from a core that runs in this home, if there is one: everything is made ready beside it,
    /// then it hands over and ends. Without this such a core is an error.
    #[must_use]
    pub fn takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
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
        let lock = match home.lock() {
            Ok(lock) => Some(lock),
            Err(LockError::InUse(_)) if self.takeover => None,
            Err(LockError::InUse(pid)) => {
                return Err(StartError::HomeInUse {
                    home: home.root().to_owned(),
                    pid,
                });
            }
            Err(LockError::Open(error)) => return Err(unusable(home.root(), error)),
        };
        // What is there may be a running core's.
        let takes_over = lock.is_none();
        if !takes_over {
            clear(&home.run().join("libraries"));
            secrets_place::clear_up(&home);
        }
        let program = match self.program {
            Some(program) => program,
            None => find_program().ok_or(StartError::NoProgram)?,
        };
        let level = self.level.unwrap_or(Level::Info);
        let logs = Logs::open(&home, level, self.observer).map_err(StartError::Log)?;
        let logs = logs.compressing();
        // What the last core has left is read before this one can leave anything.
        let deaths = Deaths::recall(&home, &self.entries, &logs, takes_over);
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
        let reactor =
            Reactor::new(MOST_CALLS, crate::loader::end_here).map_err(StartError::Threads)?;
        let inner = Arc::new(Inner {
            builder: Builder::new(folders, sdk(), Toolchain::from_environment()),
            home,
            lock: Mutex::new(lock),
            program,
            runtime: handle.clone(),
            calls: Arc::new(reactor),
            embedded: Default::default(),
            logs,
            registry: RwLock::default(),
            switchboard: Arc::default(),
            plugins: RwLock::new(
                self.entries
                    .into_iter()
                    .map(|entry| {
                        let crash = deaths.of(&entry.name);
                        let plugin = Plugin::new(entry, crash);
                        if self.unlisted.contains(plugin.name()) {
                            plugin.stands(Standing::Added);
                        }
                        Arc::new(plugin)
                    })
                    .collect(),
            ),
            launched: Mutex::default(),
            message_limits: MessageLimits::default(),
            portables: Portables::default(),
            sessions: Mutex::default(),
            server: OnceLock::new(),
            cgroups: OnceLock::new(),
            metrics: OnceLock::new(),
            metrics_endpoint: Mutex::default(),
            samples: Default::default(),
            cancel: Arc::default(),
            phase: Mutex::new(Phase::Open),
            changed: Condvar::new(),
            board: boot::Board::default(),
            booted: AtomicBool::new(false),
            changing: Mutex::default(),
            configs: self.configs,
            preparations: boot::Preparations::default(),
            closing: watch::Sender::new(false),
            letting_go: watch::Sender::new(false),
            states: Mutex::default(),
            gate: adoption::Gate::new(),
            deaths,
            crash: OnceLock::new(),
        });
        let boot_message = format!(
            "aigis {} starts in {}",
            env!("CARGO_PKG_VERSION"),
            inner.home.root().display()
        );
        inner.logs.core(Level::Boot, boot_message);
        core_skills::install(&inner);
        let mut ahead = None;
        if takes_over {
            boot::prepare(&inner).map_err(StartError::Threads)?;
            let taken = inner.take_over_from_running();
            let (ready, lock) = taken.map_err(|source| {
                inner.shutdown();
                StartError::Takeover {
                    home: inner.home.root().to_owned(),
                    source,
                }
            })?;
            *super::lock(&inner.lock) = Some(lock);
            ahead = Some(ready);
        }
        if self.crash_records
            && let Some(recorded) = record_crashes(&inner.home, &inner.logs)
        {
            // Set once, here.
            let _ = inner.crash.set(recorded);
        }
        // Before anybody can call.
        if let Some(address) = &self.metrics {
            let _ = inner.metrics.set(Metrics::new());
            match Endpoint::open(&inner, address) {
                Ok(endpoint) => {
                    let message = format!("metrics are at {}", endpoint.address());
                    inner.logs.core(Level::Info, message);
                    *super::lock(&inner.metrics_endpoint) = Some(endpoint);
                }
                // What was handed over has nobody else by now.
                Err(error) if takes_over => {
                    let message = format!("there are no metrics at {address}: {error}");
                    inner.logs.core(Level::Error, message);
                }
                Err(source) => {
                    let address = address.clone();
                    return Err(StartError::Metrics { address, source });
                }
            }
        }
        // Before anybody can come in: those that another core has launched may do so at once.
        adoption::begin(&inner);
        if let Some(ahead) = ahead {
            inner.open_ahead(ahead);
        }
        let service = super::service::of(&inner);
        let process = std::process::id();
        let server = Server::bind(&inner.calls, &inner.home.socket(), service, process)
            .map_err(StartError::Socket)?;
        // Set once, here.
        let _ = inner.server.set(server);
        inner.reopen_doors();
        // From here on the handle's drop takes everything down again.
        let host = Host {
            handle: Arc::new(HostHandle {
                inner,
                _threads: threads,
            }),
        };
        if !takes_over {
            boot::prepare(&host.handle.inner).map_err(StartError::Threads)?;
        }
        boot::begin(&host.handle.inner).map_err(StartError::Threads)?;
        Ok(host)
    }
}

/// Makes ready what is written when the process dies. A core that cannot is still a core.
fn record_crashes(home: &Home, logs: &Logs) -> Option<(Arc<CrashFile>, Listed)> {
    let file = CrashFile::create(&home.crash_file())
        .map_err(|error| at(&home.crash_file(), error))
        .and_then(|file| crash::install().map(|()| file));
    match file {
        Ok(file) => {
            let listed = Listed::host(&file);
            Some((file, listed))
        }
        Err(error) => {
            logs.core(
                Level::Warn,
                format!("crashes will not be recorded: {error}"),
            );
            None
        }
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
