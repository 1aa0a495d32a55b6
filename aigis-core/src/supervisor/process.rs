//! A launched plugin as the core sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::following::{
    Connection, Events, Launch, Order, State, clear_up, send_commands, watch_over,
};
use super::protocol::{Command, Event, LaunchFailure, LaunchSpec, encode};
use super::record::remove_abandoned;
use super::remarks::Remarks;
use super::starter::ShimProcess;
use super::{Exit, ProcessName, linux};
use crate::config::{OnCoreDeath, PluginName};
use crate::logging::Level;

/// How long a shim has to launch its plugin.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shim has, beyond the grace, to kill a tree and say so.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How many messages to a shim may wait before lines of the core's own are dropped.
const QUEUE_LENGTH: usize = 8192;

/// Why a plugin was not launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The shim could not launch it.
    #[error("plugin `{plugin}` could not be launched")]
    Plugin {
        /// The plugin.
        plugin: PluginName,
        /// Why.
        source: LaunchFailure,
    },
    /// The shim itself could not be started.
    #[error("failed to start `{program}` as the shim of plugin `{plugin}`")]
    Shim {
        /// The plugin.
        plugin: PluginName,
        /// The program that was to become the shim.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The shim ended, or said something else than what was expected, before the plugin ran.
    #[error(
        "the shim of plugin `{plugin}` ended before the plugin ran; was `{program}` replaced by another program?"
    )]
    ShimEnded {
        /// The plugin.
        plugin: PluginName,
        /// The program that was to become the shim.
        program: PathBuf,
        /// What was found on the connection.
        source: io::Error,
    },
    /// The shim took too long.
    #[error("plugin `{plugin}` was not launched within {} s", waited.as_secs())]
    TimedOut {
        /// The plugin.
        plugin: PluginName,
        /// How long it had.
        waited: Duration,
    },
}

/// What a stop has achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// How the plugin ended; none if its shim is still trying to end it.
    pub exit: Option<Exit>,
    /// The processes that had to be killed.
    pub killed: Vec<ProcessName>,
    /// The processes that are still there although they were killed.
    pub survivors: Vec<ProcessName>,
}

/// A launched plugin.
///
/// Dropping it stops the plugin, with the grace of its spec, without waiting for the end. If the plugin has
/// ended by itself its record goes: it is there until then for a core that comes after this one.
#[derive(Debug)]
pub struct Supervised {
    pid: u32,
    start_time: u64,
    started_at: String,
    launch: Launch,
    shim_pid: u32,
    shim: Arc<OwnedFd>,
    orders: mpsc::Sender<Order>,
    following: AbortHandle,
    dropped: Arc<AtomicU64>,
    state: watch::Receiver<State>,
}

impl Supervised {
    /// Launches a plugin under a shim of its own, which is `program` with the hidden
    /// argument [`SHIM_ARGUMENT`](super::SHIM_ARGUMENT): an executable whose `main` calls
    /// [`shim_main`](super::shim_main) then.
    ///
    /// # Errors
    ///
    /// Fails if the plugin cannot be launched, if the shim cannot, and if that takes more
    /// than 10 s. Nothing of the plugin runs then.
    pub async fn launch(program: &Path, spec: LaunchSpec) -> Result<Supervised, LaunchError> {
        let plugin = spec.plugin.clone();
        let shim_error = |source| LaunchError::Shim {
            plugin: plugin.clone(),
            program: program.to_owned(),
            source,
        };
        let frame = absolute(spec.clone())
            .and_then(|spec| encode(&spec))
            .map_err(shim_error)?;
        let launch = Launch {
            // It was made absolute above.
            record: std::path::absolute(spec.record.as_path()).map_err(shim_error)?,
            plugin: plugin.clone(),
            invocation: spec.invocation.clone(),
            grace: spec.grace(),
            group: spec.confinement.group(),
        };
        let (socket, shim) = ShimProcess::start(program, &plugin)
            .await
            .map_err(shim_error)?;
        // From here on a dropped future is a closed socket, which ends the shim: it has not been told yet
        // that this launch is known.
        let (reader, mut writer) = socket.into_split();
        let mut events = Events { reader };
        let first = timeout(LAUNCH_TIMEOUT, async {
            // A shim that has nothing but bad news may have closed its end already.
            let sent = writer.write_all(&frame).await;
            match (events.next().await, sent) {
                (Err(_), Err(error)) => Err(error),
                (event, _) => event,
            }
        })
        .await;
        let failure = match first {
            Ok(Ok(Event::Started {
                pid,
                start_time,
                started_at,
            })) => {
                let connection = Connection {
                    shim,
                    events,
                    writer,
                };
                let supervised =
                    Supervised::started((pid, start_time), started_at, None, launch, connection);
                supervised.on_core_death(spec.on_core_death);
                return Ok(supervised);
            }
            Ok(Ok(Event::LaunchFailed { failure })) => {
                events.end().await;
                shim.finish().await;
                if let Some(group) = &launch.group {
                    group.remove();
                }
                return Err(LaunchError::Plugin {
                    plugin,
                    source: failure,
                });
            }
            Ok(Ok(other)) => LaunchError::ShimEnded {
                plugin,
                program: program.to_owned(),
                source: io::Error::other(format!("expected the start, found {other:?}")),
            },
            Ok(Err(source)) => LaunchError::ShimEnded {
                plugin,
                program: program.to_owned(),
                source,
            },
            Err(_) => LaunchError::TimedOut {
                plugin,
                waited: LAUNCH_TIMEOUT,
            },
        };
        shim.finish().await;
        clear_up(None, &launch).await;
        Err(failure)
    }

    /// Follows a plugin that runs, or whose leader has ended so.
    pub(super) fn started(
        leader: (u32, u64),
        started_at: String,
        exit: Option<Exit>,
        launch: Launch,
        connection: Connection,
    ) -> Supervised {
        let Connection {
            shim,
            events,
            writer,
        } = connection;
        let (orders, queue) = mpsc::channel(QUEUE_LENGTH);
        let (sender, state) = watch::channel(State {
            exit,
            ..State::default()
        });
        let dropped = Arc::new(AtomicU64::new(0));
        let (shim_pid, descriptor) = (shim.pid, shim.descriptor());
        let (over, when_over) = oneshot::channel();
        let at_last = Command::Stop {
            grace_ms: milliseconds(launch.grace),
        };
        let sending = send_commands(writer, queue, dropped.clone(), when_over, at_last);
        tokio::spawn(sending);
        let following = tokio::spawn(watch_over(
            events,
            shim,
            sender,
            over,
            leader,
            launch.clone(),
        ))
        .abort_handle();
        let (pid, start_time) = leader;
        Supervised {
            pid,
            start_time,
            started_at,
            launch,
            shim_pid,
            shim: descriptor,
            orders,
            following,
            dropped,
            state,
        }
    }

    /// Returns the plugin.
    pub fn plugin(&self) -> &PluginName {
        &self.launch.plugin
    }

    /// Returns the process id of the plugin's leader.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns when the leader started, in clock ticks since the machine did; with the
    /// pid it names one process for good.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Returns when the plugin was launched, RFC 3339.
    pub fn started_at(&self) -> &str {
        &self.started_at
    }

    /// Returns for how long the leader has been there, whatever was done to the clock.
    pub fn age(&self) -> Duration {
        linux::age(self.start_time)
    }

    /// Says what is to become of the plugin when this process dies.
    pub fn on_core_death(&self, then: OnCoreDeath) {
        self.tell(Command::OnCoreDeath { then });
    }

    /// Replaces what the next core is to know of this launch.
    pub fn remember(&self, memo: Value) {
        self.tell(Command::Memo { memo });
    }

    /// Says something that has to arrive, without waiting for it.
    fn tell(&self, command: Command) {
        match self.orders.try_send(Order::Say(command)) {
            // A shim that takes no commands any more is ending.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(order)) => {
                let orders = self.orders.clone();
                tokio::spawn(async move {
                    let _ = orders.send(order).await;
                });
            }
        }
    }

    /// Returns the process id of the shim.
    pub fn shim_pid(&self) -> u32 {
        self.shim_pid
    }

    /// Returns how the leader ended, once it has, even if parts of its tree still run.
    pub fn leader_exit(&self) -> Option<Exit> {
        self.state.borrow().exit
    }

    /// Writes a line of the core's own into the plugin's log, without ever waiting.
    ///
    /// Returns false once the shim is gone: whoever has something to say then opens the
    /// log itself. If the shim cannot keep up, lines are dropped and one says how many.
    pub fn log(&self, level: Level, message: impl Into<String>) -> bool {
        let message = message.into();
        let line = Command::Log { level, message };
        match self.orders.try_send(Order::Say(line)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Stops the plugin's whole tree: asks it to end and kills what is left after `grace`.
    ///
    /// Returns when nothing of the tree is left, or when it is clear that something
    /// cannot be ended; that is named in the report.
    pub async fn stop(&self, grace: Duration) -> StopReport {
        let grace_ms = milliseconds(grace);
        self.end(Command::Stop { grace_ms }, grace).await
    }

    /// Kills the plugin's whole tree at once; otherwise as [`stop`](Self::stop).
    pub async fn kill(&self) -> StopReport {
        self.end(Command::Kill, Duration::ZERO).await
    }

    /// Lets go of a plugin that runs, without stopping it: its shim goes on alone until another core comes.
    pub async fn release(self) {
        self.on_core_death(OnCoreDeath::Keep);
        let (done, closed) = oneshot::channel();
        // First: the end of the connection is not the end of the plugin.
        self.following.abort();
        if self.orders.send(Order::LetGo(done)).await.is_ok() {
            // It fails if the shim has gone, which the next core finds out.
            let _ = closed.await;
        }
    }

    async fn end(&self, command: Command, grace: Duration) -> StopReport {
        // A shim that takes no commands any more is ending anyhow.
        let _ = timeout(STOP_TIMEOUT, self.orders.send(Order::Say(command))).await;
        let deadline = grace.saturating_add(STOP_TIMEOUT);
        if let Ok(report) = timeout(deadline, self.stopped()).await {
            return report;
        }
        // A shim that neither reports nor gives up is stopped or stuck itself: without
        // it the core can do the rest.
        linux::kill_by(&self.shim);
        self.stopped().await
    }

    async fn stopped(&self) -> StopReport {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| state.gone.is_some() || !state.survivors.is_empty())
            .await;
        match settled {
            Ok(state) => StopReport {
                exit: state.gone.as_ref().map(|_| exit_of(&state)),
                killed: state.gone.clone().unwrap_or_default(),
                survivors: state.survivors.clone(),
            },
            // The runtime is ending and the watching task with it.
            Err(_) => StopReport {
                exit: Some(Exit::ShimLost),
                killed: Vec::new(),
                survivors: Vec::new(),
            },
        }
    }

    /// Returns what the plugin and its shim have said of it last.
    pub fn remarks(&self) -> Remarks {
        self.state.borrow().remarks.clone()
    }

    /// Waits until there is something else to say than `seen`.
    ///
    /// May be called any number of times, by anybody, and dropped at any point; never returns once nothing more can come.
    pub async fn more_remarks(&self, seen: &Remarks) -> Remarks {
        let mut state = self.state.clone();
        let more = state.wait_for(|state| state.remarks != *seen).await;
        match more.map(|state| state.remarks.clone()) {
            Ok(remarks) => remarks,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the plugin has said that it is ready, as its spec's `ready` asks for.
    ///
    /// # Errors
    ///
    /// It cannot say so any more, and why. Its end is no reason: [`wait`](Self::wait) tells that.
    pub async fn ready(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        let said = state.wait_for(|state| state.remarks.ready.is_some()).await;
        match said.map(|state| state.remarks.ready.clone()) {
            Ok(ready) => ready.unwrap_or(Ok(())),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the plugin's whole tree is gone and returns how its leader ended.
    ///
    /// May be called any number of times, by anybody, and dropped at any point.
    pub async fn wait(&self) -> Exit {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.gone.is_some()).await {
            Ok(state) => exit_of(&state),
            Err(_) => Exit::ShimLost,
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.state.borrow().gone.is_some() {
            remove_abandoned(&self.launch.record, &self.launch.invocation);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn exit_of(state: &State) -> Exit {
    state.exit.unwrap_or(Exit::ShimLost)
}

/// Returns a name for a launch that no other launch has, on this machine or after it restarts.
pub(crate) fn new_invocation() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{:x}-{:x}-{:x}",
        jiff::Timestamp::now().as_microsecond(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Makes the spec's paths independent of the working folder: a shim has another.
fn absolute(mut spec: LaunchSpec) -> io::Result<LaunchSpec> {
    let paths = [&mut spec.cwd, &mut spec.log, &mut spec.record];
    for path in paths.into_iter().chain(&mut spec.secrets_record) {
        *path = std::path::absolute(path.as_path())?.into();
    }
    Ok(spec)
}
