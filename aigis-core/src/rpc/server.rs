//! The socket, and who comes in by it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::RpcError;
use super::pool::Pool;
use super::{Limits, Service, connection, linux};

/// How long to wait before accepting again when the system has refused.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// The socket of a core, with all its sessions. Dropping it ends them at once, without the time that
/// [`shutdown`](Self::shutdown) gives to running calls.
pub struct Server {
    /// For as long as it serves.
    shared: Weak<Shared>,
    path: PathBuf,
    /// When the last answers must be written, once somebody has asked for the end.
    stop: watch::Sender<Option<Instant>>,
    unlinked: AtomicBool,
}

/// What all sessions share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: Limits,
    pub(super) core_pid: u32,
    /// The only user who is let in, besides root.
    pub(super) uid: u32,
    pub(super) pool: Pool,
    /// Calls of all sessions that wait or run.
    pub(super) calls: AtomicUsize,
    /// Connections.
    sessions: AtomicUsize,
}

/// Tells a task that the core goes down. The server counts these to know when all tasks are done.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    /// Waits for the end; returns until when answers may still be written.
    pub(super) async fn requested(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await.map(|stop| *stop) {
            Ok(Some(deadline)) => deadline,
            // The server is gone without a word.
            _ => Instant::now(),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Makes the threads that run calls, and have none, do what is to be done between calls.
    pub(crate) fn wake_idle(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.pool.wake_idle();
        }
    }

    /// Opens the socket `path`, for this user alone, and serves sessions on `runtime`; they are told
    /// that the core is the process `core_pid`. The folder must exist, and the caller must hold the
    /// home's lock: a socket that lies there is taken for a dead core's.
    ///
    /// # Errors
    /// The system refuses the socket, or something else lies in its place.
    pub fn bind(
        runtime: &Handle,
        path: &Path,
        service: Arc<dyn Service>,
        core_pid: u32,
    ) -> Result<Self, RpcError> {
        Self::bind_within(runtime, path, service, core_pid, Limits::default())
    }

    pub(super) fn bind_within(
        runtime: &Handle,
        path: &Path,
        service: Arc<dyn Service>,
        core_pid: u32,
        limits: Limits,
    ) -> Result<Self, RpcError> {
        let listener = linux::listen(path)?;
        let listener = {
            // Registers the socket with the runtime's reactor.
            let _entered = runtime.enter();
            UnixListener::from_std(listener).map_err(|source| RpcError::Bind {
                path: path.to_owned(),
                source,
            })?
        };
        let shared = Arc::new(Shared {
            pool: Pool::new(limits.threads, service.between_calls()),
            service,
            limits,
            core_pid,
            uid: linux::own_uid(),
            calls: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
        });
        let (stop, stopped) = watch::channel(None);
        let weak = Arc::downgrade(&shared);
        runtime.spawn(accept(listener, shared, Stop(stopped)));
        Ok(Self {
            shared: weak,
            path: path.to_owned(),
            stop,
            unlinked: AtomicBool::new(false),
        })
    }

    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket, takes no more connections and calls, gives the calls that run `grace` to be
    /// answered, says goodbye to every client, and waits until all sessions have ended. A call that
    /// takes longer goes on without a client. Asked again, it waits as well.
    pub async fn shutdown(&self, grace: Duration) {
        self.stop_within(grace);
        self.stop.closed().await;
    }

    fn stop_within(&self, grace: Duration) {
        if !self.unlinked.swap(true, Ordering::Relaxed) {
            // Whoever has removed it already has done no harm.
            let _ = std::fs::remove_file(&self.path);
        }
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or(now);
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(deadline);
            first
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_within(Duration::ZERO);
    }
}

/// Takes one connection of those that are allowed at the same time.
struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, mut stop: Stop) {
    let mut refused = false;
    loop {
        let of_session = stop.clone();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.requested() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                refused = false;
                let taken = shared.sessions.fetch_add(1, Ordering::Relaxed);
                let seat = Seat(Arc::clone(&shared));
                let limit = shared.limits.sessions;
                if taken >= limit.saturating_mul(2) {
                    // Too many even to be told that there are too many.
                    continue;
                }
                let crowded = taken >= limit;
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    connection::serve(stream, shared, of_session, crowded).await;
                    drop(seat);
                });
            }
            // The client is gone again, or the system has no descriptor to give: time may help, and
            // nothing else would.
            Err(error) => {
                if !refused {
                    tracing::warn!(%error, "a connection cannot be accepted");
                }
                refused = true;
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
        }
    }
}
