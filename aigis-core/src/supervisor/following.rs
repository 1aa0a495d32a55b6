//! What goes between the core and one shim once the plugin runs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::cgroup::Cgroup;
use super::protocol::{Command, Event, announced_length, decode, encode};
use super::record::remove_abandoned;
use super::remarks::Remarks;
use super::starter::ShimProcess;
use super::{Exit, ProcessName, linux};
use crate::config::PluginName;
use crate::logging::Level;

/// How long a shim has to end after its last message.
const SHIM_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A shim and the connection to it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shim: ShimProcess,
    pub(super) events: Events,
    pub(super) writer: OwnedWriteHalf,
}

/// What is to be done with the connection to a shim.
#[derive(Debug)]
pub(super) enum Order {
    /// Say this.
    Say(Command),
    /// Say nothing any more, and close it when everything has been said.
    LetGo(oneshot::Sender<()>),
}

/// By what a launch is known.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) record: PathBuf,
    pub(super) plugin: PluginName,
    pub(super) invocation: String,
    pub(super) grace: Duration,
    /// What holds all of its processes, if there is one.
    pub(super) group: Option<Cgroup>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) exit: Option<Exit>,
    pub(super) survivors: Vec<ProcessName>,
    pub(super) remarks: Remarks,
    /// Set once the tree is gone: the processes that had to be killed.
    pub(super) gone: Option<Vec<ProcessName>>,
}

/// Sends what is queued, and ends when the tree is gone and nothing is queued any more.
///
/// When the last sender is gone, nobody is there any more who wants the plugin: the shim is told
/// `at_last`.
pub(super) async fn send_commands(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Order>,
    dropped: Arc<AtomicU64>,
    mut over: oneshot::Receiver<()>,
    at_last: Command,
) {
    let mut is_over = false;
    loop {
        let order = tokio::select! {
            order = queue.recv() => order,
            // Whoever lets go of the shim ends its follower, and still has something to say.
            Ok(()) = &mut over, if !is_over => {
                // What is queued by now is still sent: the shim waits for the end of it.
                is_over = true;
                queue.close();
                continue;
            }
        };
        let Some(order) = order else {
            if !is_over && let Ok(frame) = encode(&at_last) {
                // Without a shim nothing is left to be stopped.
                let _ = writer.write_all(&frame).await;
            }
            return;
        };
        let command = match order {
            Order::Say(command) => command,
            Order::LetGo(done) => {
                drop(writer);
                // Whoever asked may have gone.
                let _ = done.send(());
                return;
            }
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
pub(super) async fn watch_over(
    mut events: Events,
    shim: ShimProcess,
    state: watch::Sender<State>,
    over: oneshot::Sender<()>,
    leader: (u32, u64),
    launch: Launch,
) {
    let killed = loop {
        match events.next().await {
            Ok(Event::Exited { exit }) => state.send_modify(|state| state.exit = Some(exit)),
            Ok(Event::Stuck { survivors }) => {
                state.send_modify(|state| state.survivors = survivors);
            }
            Ok(Event::TreeGone { killed }) => break Some(killed),
            Ok(
                event @ (Event::Ready
                | Event::NeverReady { .. }
                | Event::Status { .. }
                | Event::Waiting { .. }),
            ) => state.send_modify(|state| state.remarks.note(event)),
            // Not from a shim of this version.
            Ok(Event::Started { .. } | Event::Standing(_) | Event::LaunchFailed { .. })
            | Err(_) => {
                break None;
            }
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
            let survivors = clear_up(Some(leader), &launch).await;
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
pub(super) async fn clear_up(leader: Option<(u32, u64)>, launch: &Launch) -> Vec<ProcessName> {
    let Launch {
        invocation,
        record,
        group,
        ..
    } = launch.clone();
    let work = tokio::task::spawn_blocking(move || {
        let survivors = linux::kill_leftovers(leader, &invocation, group.as_ref());
        if survivors.is_empty() {
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
pub(super) struct Events {
    pub(super) reader: OwnedReadHalf,
}

impl Events {
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        let mut head = [0; 4];
        self.reader.read_exact(&mut head).await?;
        let mut body = vec![0; announced_length(head)?];
        self.reader.read_exact(&mut body).await?;
        decode(&body)
    }

    /// Waits a moment for the connection's end, which is the shim's.
    pub(super) async fn end(&mut self) {
        let mut rest = Vec::new();
        // What a shim says after its last message is of no interest.
        let _ = timeout(SHIM_EXIT_TIMEOUT, self.reader.read_to_end(&mut rest)).await;
    }
}
