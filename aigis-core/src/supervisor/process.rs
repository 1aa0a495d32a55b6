//! A launched plugin as the core sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::protocol::{
    Command, Event, LaunchFailure, LaunchSpec, announced_length, decode, encode,
};
use super::record::remove_abandoned;
use super::starter::ShimProcess;
use super::{Exit, ProcessName, linux};
use crate::config::PluginName;
use crate::logging::Level;

/// How long a shim has to launch its plugin.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shim has, beyond the grace, to kill a tree and say so.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shim has to end after its last message.
const SHIM_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

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
/// Dropping it stops the plugin, with the grace of its spec, without waiting for the end.
#[derive(Debug)]
pub struct Supervised {
    pid: u32,
    start_time: u64,
    shim_pid: u32,
    shim: Arc<OwnedFd>,
    commands: mpsc::Sender<Command>,
    dropped: Arc<AtomicU64>,
    state: watch::Receiver<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    exit: Option<Exit>,
    survivors: Vec<ProcessName>,
    /// Set once the tree is gone: the processes that had to be killed.
    gone: Option<Vec<ProcessName>>,
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
        let (socket, shim) = ShimProcess::start(program, &plugin)
            .await
            .map_err(shim_error)?;
        // From here on a dropped future is a closed socket, which ends the shim.
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
            Ok(Ok(Event::Started { pid, start_time })) => {
                return Ok(Supervised::started(
                    pid, start_time, spec, shim, events, writer,
                ));
            }
            Ok(Ok(Event::LaunchFailed { failure })) => {
                events.end().await;
                shim.finish().await;
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
        clear_up(None, &spec).await;
        Err(failure)
    }

    fn started(
        pid: u32,
        start_time: u64,
        spec: LaunchSpec,
        shim: ShimProcess,
        events: Events,
        writer: OwnedWriteHalf,
    ) -> Supervised {
        let (commands, queue) = mpsc::channel(QUEUE_LENGTH);
        let (sender, state) = watch::channel(State::default());
        let dropped = Arc::new(AtomicU64::new(0));
        let (shim_pid, descriptor) = (shim.pid, shim.descriptor());
        let (over, when_over) = oneshot::channel();
        tokio::spawn(send_commands(writer, queue, dropped.clone(), when_over));
        tokio::spawn(watch_over(
            events,
            shim,
            sender,
            over,
            (pid, start_time),
            spec,
        ));
        Supervised {
            pid,
            start_time,
            shim_pid,
            shim: descriptor,
            commands,
            dropped,
            state,
        }
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
        match self.commands.try_send(Command::Log { level, message }) {
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
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.end(Command::Stop { grace_ms }, grace).await
    }

    /// Kills the plugin's whole tree at once; otherwise as [`stop`](Self::stop).
    pub async fn kill(&self) -> StopReport {
        self.end(Command::Kill, Duration::ZERO).await
    }

    async fn end(&self, command: Command, grace: Duration) -> StopReport {
        // A shim that takes no commands any more is ending anyhow.
        let _ = timeout(STOP_TIMEOUT, self.commands.send(command)).await;
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

fn exit_of(state: &State) -> Exit {
    state.exit.unwrap_or(Exit::ShimLost)
}

/// Returns a name for a launch that no other launch has, on this machine or after it restarts.
pub(super) fn new_invocation() -> String {
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
    for path in [&mut spec.cwd, &mut spec.log, &mut spec.record] {
        *path = std::path::absolute(path.as_path())?.into();
    }
    Ok(spec)
}

/// Sends what is queued, and ends when the tree is gone and nothing is queued any more.
///
/// When the last sender is gone the connection is closed in this direction, which a shim
/// takes as the loss of its core: it stops the tree.
async fn send_commands(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Command>,
    dropped: Arc<AtomicU64>,
    mut over: oneshot::Receiver<()>,
) {
    let mut is_over = false;
    loop {
        let command = tokio::select! {
            command = queue.recv() => command,
            _ = &mut over, if !is_over => {
                // What is queued by now is still sent: the shim waits for the end of it.
                is_over = true;
                queue.close();
                continue;
            }
        };
        let Some(command) = command else {
            return;
        };
        let missing = dropped.swap(0, Ordering::Relaxed);
        let gap = (missing > 0).then(|| Command::Log {
            level: Level::Warn,
            message: format!("{missing} lines of the core are missing here, they came too fast"),
        });
        for command in gap.into_iter().chain([command]) {
            // A line longer than a message may be is not sent.
            let Ok(frame) = encode(&command) else {
                continue;
            };
            if writer.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

/// Follows a shim's events to its end.
async fn watch_over(
    mut events: Events,
    shim: ShimProcess,
    state: watch::Sender<State>,
    over: oneshot::Sender<()>,
    leader: (u32, u64),
    spec: LaunchSpec,
) {
    let killed = loop {
        match events.next().await {
            Ok(Event::Exited { exit }) => state.send_modify(|state| state.exit = Some(exit)),
            Ok(Event::Stuck { survivors }) => {
                state.send_modify(|state| state.survivors = survivors);
            }
            Ok(Event::TreeGone { killed }) => break Some(killed),
            // Not from a shim of this version.
            Ok(Event::Started { .. } | Event::LaunchFailed { .. }) | Err(_) => break None,
        }
    };
    // If nobody listens any more, all commands have been sent.
    let _ = over.send(());
    let gone = match killed {
        Some(killed) => {
            events.end().await;
            shim.finish().await;
            // What could not be killed for a while has ended after all.
            state.send_modify(|state| state.survivors.clear());
            killed
        }
        None => {
            shim.finish().await;
            let survivors = clear_up(Some(leader), &spec).await;
            if !survivors.is_empty() {
                state.send_modify(|state| state.survivors = survivors);
                // Only the kernel holds them now; the next launch will look again.
            }
            Vec::new()
        }
    };
    state.send_modify(|state| state.gone = Some(gone));
}

/// Kills what a lost shim has left behind. Returns what could not be killed.
async fn clear_up(leader: Option<(u32, u64)>, spec: &LaunchSpec) -> Vec<ProcessName> {
    let invocation = spec.invocation.clone();
    let record = std::path::absolute(spec.record.as_path());
    let group = spec.confinement.group();
    let work = tokio::task::spawn_blocking(move || {
        let survivors = linux::kill_leftovers(leader, &invocation, group.as_ref());
        if let (true, Ok(record)) = (survivors.is_empty(), record) {
            remove_abandoned(&record, &invocation);
        }
        survivors
    });
    // It can only fail when the runtime is ending.
    let survivors = work.await.unwrap_or_default();
    survivors.iter().map(linux::Process::named).collect()
}

/// The events of a shim.
#[derive(Debug)]
struct Events {
    reader: OwnedReadHalf,
}

impl Events {
    async fn next(&mut self) -> io::Result<Event> {
        let mut head = [0; 4];
        self.reader.read_exact(&mut head).await?;
        let mut body = vec![0; announced_length(head)?];
        self.reader.read_exact(&mut body).await?;
        decode(&body)
    }

    /// Waits a moment for the connection's end, which is the shim's.
    async fn end(&mut self) {
        let mut rest = Vec::new();
        // What a shim says after its last message is of no interest.
        let _ = timeout(SHIM_EXIT_TIMEOUT, self.reader.read_to_end(&mut rest)).await;
    }
}
