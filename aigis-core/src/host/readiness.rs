//! When a process of a plugin is ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Inner;
use super::probe::{self, Prober};
use crate::config::{Manifest, PluginKind, Probe, Readiness, ReadyWhen};
use crate::supervisor::{ReadySign, Supervised};

/// The least time that a try of a probe has, however often it is tried.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

/// Returns when a process of the plugin's program is ready: as its manifest says, or as is usual for its kind.
pub(super) fn of(manifest: &Manifest) -> Readiness {
    manifest.ready.clone().unwrap_or_else(|| {
        Readiness::new(match manifest.kind {
            // It may know nothing of sessions.
            PluginKind::External => ReadyWhen::Launched,
            PluginKind::Core | PluginKind::Internal => ReadyWhen::Session,
        })
    })
}

/// Returns what the shim is to listen for.
pub(super) fn sign(manifest: &Manifest) -> Option<ReadySign> {
    match of(manifest).when {
        ReadyWhen::Notify => Some(ReadySign::Notify),
        ReadyWhen::Line => Some(ReadySign::Line),
        ReadyWhen::Log(pattern) => Some(ReadySign::Log(pattern)),
        ReadyWhen::Launched | ReadyWhen::Session | ReadyWhen::Probe(_) => None,
    }
}

/// Why a process does not become ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unready {
    /// The core is closing.
    Closing,
    /// It cannot become ready any more, for this reason.
    Never(String),
}

/// What makes an invocation ready.
pub(super) enum Awaited {
    /// Its session.
    Session(oneshot::Receiver<()>),
    /// Its own word, which its shim has heard.
    Word,
    /// A probe.
    Probe {
        prober: Box<Prober>,
        interval: Duration,
    },
}

impl Awaited {
    /// Returns what is waited for; none for what is ready at once.
    pub(super) fn new(
        inner: &Arc<Inner>,
        readiness: &Readiness,
        session: oneshot::Receiver<()>,
    ) -> Option<Self> {
        match &readiness.when {
            ReadyWhen::Launched => None,
            ReadyWhen::Session => Some(Self::Session(session)),
            ReadyWhen::Notify | ReadyWhen::Line | ReadyWhen::Log(_) => Some(Self::Word),
            ReadyWhen::Probe(probe) => Some(Self::Probe {
                prober: Box::new(Prober::new(inner, probe)),
                interval: readiness.interval,
            }),
        }
    }

    /// Waits until the invocation is ready. `last` is what the last try has found to be wrong.
    ///
    /// A probe begins when the invocation runs, which is after the whole tree of the one before was gone.
    pub(super) async fn ready(
        self,
        supervised: &Supervised,
        last: &mut Option<String>,
    ) -> Result<(), Unready> {
        match self {
            Self::Session(up) => up.await.map_err(|_| Unready::Closing),
            Self::Word => supervised.ready().await.map_err(Unready::Never),
            Self::Probe {
                mut prober,
                interval,
            } => loop {
                match prober.attempt(interval.max(LEAST_ATTEMPT)).await {
                    Ok(()) => return Ok(()),
                    Err(wrong) => *last = Some(wrong),
                }
                sleep(interval).await;
            },
        }
    }
}

/// Says what has not come in time, and what to do about that.
pub(super) fn missing(when: &ReadyWhen, last: Option<String>) -> String {
    let more = "give it more time with the `timeout` of READY";
    match when {
        ReadyWhen::Launched => "it was not launched".to_owned(),
        ReadyWhen::Session => "it has not opened its session; does it have a `#[launch]` function, or call a skill at its start?"
            .to_owned(),
        ReadyWhen::Notify => format!(
            "it has not said `READY=1` to the socket that NOTIFY_SOCKET names; have it call `sd_notify`, or {more}"
        ),
        ReadyWhen::Line => format!(
            "it has not written a line to the descriptor that AIGIS_READY_FD names; have it write one, or {more}"
        ),
        ReadyWhen::Log(pattern) => {
            format!("it has printed no line that matches `{pattern}`; correct that pattern, or {more}")
        }
        ReadyWhen::Probe(probe) => {
            let last = last.unwrap_or_else(|| probe::told(probe));
            let look = match probe {
                Probe::Tcp(_) => "does it listen there?",
                Probe::Http(_) => "does it serve that page?",
                Probe::Skill(_) => "is that the skill's name, and does it take no arguments?",
            };
            format!("{last}; {look} If it takes that long, {more}")
        }
    }
}
