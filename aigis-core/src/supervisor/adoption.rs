//! What an earlier core has left: found by the records of its shims, and taken over or cleared away.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aigis_plugin_api::session::socket;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::following::{Connection, Events, Launch};
use super::protocol::{Event, LaunchSpec, PROTOCOL_VERSION, Standing};
use super::record::{Ended, Found, ShimRecord, look, remove, remove_abandoned, socket_of};
use super::starter::ShimProcess;
use super::{ProcessName, Supervised, linux};

/// How long a shim has to say how things stand.
const STANDING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shim that cannot be adopted has, beyond the grace, to end its tree and itself.
const CLEARING_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a shim that is about to end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why a plugin that runs cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Its shim cannot be reached.
    #[error("the shim of `{record}` cannot be reached at its socket")]
    Unreachable {
        /// The record.
        record: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else answers, or it answers something else.
    #[error("expected the shim of `{record}`, found {found}")]
    NotTheShim {
        /// The record.
        record: PathBuf,
        /// Who or what it was.
        found: String,
    },
    /// It speaks another version.
    #[error(
        "the shim of `{record}` speaks version {found} of the launch protocol, this core version \
         {PROTOCOL_VERSION}"
    )]
    Version {
        /// The record.
        record: PathBuf,
        /// The shim's version.
        found: u32,
    },
    /// It does not answer.
    #[error("the shim of `{record}` did not answer within {} s", STANDING_TIMEOUT.as_secs())]
    Silent {
        /// The record.
        record: PathBuf,
    },
}

/// What one record of an earlier core stands for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Remains {
    /// The plugin runs, or its tree is about to end, and is followed from here on.
    Running(Box<Supervised>, Box<Standing>),
    /// It has ended by itself while there was no core.
    Ended(Box<EndedRecord>),
    /// Its shim was killed, and what was left of it has been killed now.
    Lost {
        /// The record, which is gone.
        record: Box<ShimRecord>,
        /// What nothing could end.
        survivors: Vec<ProcessName>,
    },
    /// Its shim lives and cannot be talked to: it is to be [cleared](Remains::clear) away.
    Unreachable {
        /// Where the record is.
        path: PathBuf,
        /// What it says, if anything.
        record: Option<Box<ShimRecord>>,
        /// Why.
        error: AdoptError,
    },
    /// It was no record, or one of an earlier run of the machine; it is gone.
    Stale(PathBuf),
}

/// The record of a plugin that has ended while there was no core. It goes when this is dropped: until then
/// another core finds it.
#[derive(Debug)]
pub struct EndedRecord {
    path: PathBuf,
    record: ShimRecord,
    ended: Ended,
}

impl EndedRecord {
    /// Returns the record.
    pub fn record(&self) -> &ShimRecord {
        &self.record
    }

    /// Returns how the plugin has ended.
    pub fn ended(&self) -> &Ended {
        &self.ended
    }
}

impl Drop for EndedRecord {
    fn drop(&mut self) {
        remove_abandoned(&self.path, &self.record.invocation);
    }
}

/// Looks at every record in `folder`, all at the same time. The caller holds the home: no other core may be
/// launching there.
///
/// # Errors
///
/// Fails if the folder cannot be read.
pub async fn remains(folder: &Path) -> io::Result<Vec<Remains>> {
    let mut looks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            looks.push(tokio::spawn(Remains::of(path)));
        }
    }
    let mut all = Vec::new();
    for look in looks {
        // It can only fail when the runtime is ending.
        if let Ok(Ok(Some(found))) = look.await {
            all.push(found);
        }
    }
    Ok(all)
}

impl Remains {
    async fn of(path: PathBuf) -> io::Result<Option<Remains>> {
        Ok(Some(match look(&path)? {
            Found::Nothing => return Ok(None),
            Found::Locked(record) => match Supervised::adopt(&path, record.as_ref()).await {
                Ok((supervised, standing)) => {
                    Remains::Running(Box::new(supervised), Box::new(standing))
                }
                Err(error) => Remains::Unreachable {
                    path,
                    record: record.map(Box::new),
                    error,
                },
            },
            Found::Free(Some(mut record), lock) if record.is_of_this_boot() => {
                if let Some(ended) = record.ended.take() {
                    record.ended = Some(ended.clone());
                    return Ok(Some(Remains::Ended(Box::new(EndedRecord {
                        path,
                        record,
                        ended,
                    }))));
                }
                let work = tokio::task::spawn_blocking(move || {
                    let left = record.kill_leftovers();
                    remove(&path);
                    drop(lock);
                    (record, left)
                });
                let (record, left) = work.await?;
                Remains::Lost {
                    record: Box::new(record),
                    survivors: left.iter().map(linux::Process::named).collect(),
                }
            }
            Found::Free(_, lock) => {
                remove(&path);
                drop(lock);
                Remains::Stale(path)
            }
        }))
    }

    /// Ends what cannot be adopted, the shim and the whole tree: politely, then by force. Returns what nothing
    /// could end.
    pub async fn clear(self) -> Vec<ProcessName> {
        match self {
            Remains::Running(supervised, _) => {
                supervised.stop(LaunchSpec::DEFAULT_GRACE).await.survivors
            }
            Remains::Unreachable { path, record, .. } => clear(path, record).await,
            Remains::Lost { survivors, .. } => survivors,
            Remains::Ended(_) | Remains::Stale(_) => Vec::new(),
        }
    }
}

async fn clear(path: PathBuf, record: Option<Box<ShimRecord>>) -> Vec<ProcessName> {
    let signal = |signal: Signal| {
        let Some(record) = &record else { return };
        let shim = linux::Process::read(record.shim_pid as i32)
            .filter(|it| it.start_time == record.shim_start_time);
        if let Some(shim) = shim.filter(|_| record.is_of_this_boot()) {
            shim.signal(signal);
        }
    };
    signal(Signal::TERM);
    let patience = LaunchSpec::DEFAULT_GRACE + CLEARING_TIMEOUT;
    let mut deadline = Instant::now() + patience;
    let mut killed = false;
    loop {
        match look(&path) {
            Ok(Found::Locked(_)) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            Ok(Found::Locked(_)) if !killed => {
                signal(Signal::KILL);
                killed = true;
                deadline += CLEARING_TIMEOUT;
            }
            Ok(Found::Free(record, lock)) => {
                let work = tokio::task::spawn_blocking(move || {
                    let left = record.map(|record| record.kill_leftovers());
                    remove(&path);
                    drop(lock);
                    left.unwrap_or_default()
                });
                let left = work.await.unwrap_or_default();
                return left.iter().map(linux::Process::named).collect();
            }
            // The next launch there says what is in its way.
            Ok(Found::Nothing | Found::Locked(_)) | Err(_) => return Vec::new(),
        }
    }
}

impl Supervised {
    /// Takes over the plugin whose shim keeps the record at `path`: from here on it is as if it had been
    /// launched by this process, and this is its core. `record` is what was read there.
    ///
    /// # Errors
    ///
    /// Fails if the shim is not who answers there, or does not answer.
    pub async fn adopt(
        path: &Path,
        record: Option<&ShimRecord>,
    ) -> Result<(Supervised, Standing), AdoptError> {
        let unreachable = |source| AdoptError::Unreachable {
            record: path.to_owned(),
            source,
        };
        let other = |found: String| AdoptError::NotTheShim {
            record: path.to_owned(),
            found,
        };
        let record = record.ok_or_else(|| other("a record that is not written yet".to_owned()))?;
        if record.version != PROTOCOL_VERSION {
            return Err(AdoptError::Version {
                record: path.to_owned(),
                found: record.version,
            });
        }
        let socket = socket::connect(&socket_of(path)).map_err(unreachable)?;
        let (uid, pid) = linux::peer(&socket).map_err(unreachable)?;
        let shim = ShimProcess::adopted(record.shim_pid).map_err(unreachable)?;
        // The descriptor stands for whoever has the pid now; is that still the one?
        let found = linux::Process::read(record.shim_pid as i32).map(|it| it.start_time);
        if !linux::is_own(&socket)
            || pid.unsigned_abs() != record.shim_pid
            || found != Some(record.shim_start_time)
            || linux::has_ended(shim.descriptor().as_fd())
        {
            return Err(other(format!("process {pid} of user {uid}")));
        }
        socket.set_nonblocking(true).map_err(unreachable)?;
        let socket = UnixStream::from_std(socket).map_err(unreachable)?;
        let (reader, writer) = socket.into_split();
        let mut events = Events { reader };
        let standing = match timeout(STANDING_TIMEOUT, events.next()).await {
            Ok(Ok(Event::Standing(standing))) => standing,
            Ok(Ok(event)) => return Err(other(format!("{event:?}"))),
            Ok(Err(error)) => return Err(unreachable(error)),
            Err(_) => {
                return Err(AdoptError::Silent {
                    record: path.to_owned(),
                });
            }
        };
        if standing.version != PROTOCOL_VERSION || standing.invocation != record.invocation {
            return Err(other(format!(
                "version {} and launch {}",
                standing.version, standing.invocation
            )));
        }
        let launch = Launch {
            record: std::path::absolute(path).map_err(unreachable)?,
            plugin: record.plugin.clone(),
            invocation: standing.invocation.clone(),
            grace: LaunchSpec::DEFAULT_GRACE,
            group: record.group(),
        };
        let supervised = Supervised::started(
            (standing.pid, standing.start_time),
            standing.started_at.clone(),
            standing.exit,
            launch,
            Connection {
                shim,
                events,
                writer,
            },
        );
        Ok((supervised, standing))
    }
}
