//! A socket that people come in by: the core's own, and one for each other user that plugins run as.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aigis_plugin_api::session::later;
use aigis_plugin_api::session::reactor::{Interest, Watch, Watched};

use super::error::RpcError;
use super::linux;
use super::server::Shared;

/// How long to wait before accepting again when the system has refused.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// How many connections are accepted before others have their turn.
const TURN: usize = 64;

const READING: Interest = Interest {
    reading: true,
    writing: false,
};

/// One socket, and who may come in by it.
pub(super) struct Door {
    shared: Weak<Shared>,
    path: PathBuf,
    /// The only user who is let in, besides root.
    uid: u32,
    listener: UnixListener,
    watch: OnceLock<Watch>,
    refused: AtomicBool,
}

impl Door {
    /// Opens the socket `path` for one user alone.
    pub(super) fn open(shared: &Arc<Shared>, path: &Path, uid: u32) -> Result<Arc<Self>, RpcError> {
        let door = Arc::new(Self {
            shared: Arc::downgrade(shared),
            path: path.to_owned(),
            uid,
            listener: linux::listen(path, uid)?,
            watch: OnceLock::new(),
            refused: AtomicBool::new(false),
        });
        let weak: Weak<Self> = Arc::downgrade(&door);
        let watch = shared.reactor.watch(door.listener.as_fd(), weak);
        let watch = watch.map_err(|source| RpcError::Bind {
            path: path.to_owned(),
            source,
        })?;
        // First: whoever gets the first connection looks for it there.
        let _ = door.watch.set(watch);
        door.listen_again();
        Ok(door)
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Removes the socket and takes no more connections.
    pub(super) fn close(&self) {
        // Whoever has removed it already has done no harm.
        let _ = std::fs::remove_file(&self.path);
        if let Some(watch) = self.watch.get() {
            watch.end(self.listener.as_fd());
        }
    }

    fn is_closed(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_none_or(|shared| shared.is_stopping())
    }

    fn listen_again(&self) {
        if let Some(watch) = self.watch.get()
            && !self.is_closed()
        {
            watch.set(self.listener.as_fd(), READING);
        }
    }
}

impl Watched for Door {
    fn ready(self: Arc<Self>) {
        for _ in 0..TURN {
            let Some(shared) = self.shared.upgrade().filter(|shared| !shared.is_stopping()) else {
                return;
            };
            let accepted = self.listener.accept();
            match accepted.and_then(|(stream, _)| shared.accepted(stream, self.uid)) {
                Ok(()) => self.refused.store(false, Ordering::Relaxed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The client is gone again, or the system has no descriptor to give: time may help, and
                // nothing else would.
                Err(error) => {
                    if !self.refused.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "a connection cannot be accepted");
                    }
                    let me = Arc::downgrade(&self);
                    later(AFTER_REFUSAL, move || {
                        if let Some(door) = me.upgrade() {
                            door.listen_again();
                        }
                    });
                    return;
                }
            }
        }
        self.listen_again();
    }
}
