//! The socket, and who comes in by it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::session::link::Link;
use aigis_plugin_api::session::reactor::Reactor;
use aigis_plugin_api::session::{Limits as LinkLimits, Load, later};

use super::door::Door;
use super::error::RpcError;
use super::session::{CoreSide, longest};
use super::{Limits, OverdueCall, Service, linux};

/// How long a thread stays with a session whose next call is likely to come soon.
const NAP: Duration = Duration::from_millis(2);

/// The socket of a core, with all its sessions. Dropping it ends them at once, without the time that
/// [`shutdown`](Self::shutdown) gives to running calls.
pub struct Server {
    shared: Arc<Shared>,
    path: PathBuf,
}

/// What all sessions share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: Limits,
    pub(super) core_pid: u32,
    pub(super) reactor: Arc<Reactor>,
    load: Arc<Load>,
    connections: Mutex<Connections>,
    last: AtomicU64,
    stopping: AtomicBool,
    /// No further call begins: another core is about to take over.
    sealed: AtomicBool,
    doors: Mutex<Vec<Arc<Door>>>,
}

/// Everybody who is connected, by numbers that count up.
#[derive(Default)]
struct Connections {
    all: HashMap<u64, Connection>,
    /// Those who have not been let in.
    strangers: BTreeSet<u64>,
    /// Those that have ended while calls of them went on.
    left: Vec<Left>,
}

impl Connections {
    /// Takes out those that have ended, with all they have called.
    fn take_finished(&mut self) -> Vec<Left> {
        let is_over = |left: &mut Left| left.link.strong_count() == 0;
        self.left.extract_if(.., is_over).collect()
    }
}

/// A connection that has ended. What it has called keeps it.
struct Left {
    link: Weak<Link>,
    side: Arc<CoreSide>,
}

#[derive(Clone)]
struct Connection {
    link: Arc<Link>,
    side: Arc<CoreSide>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the socket `path`, for this user alone, and serves sessions on threads of `reactor`; they
    /// are told that the core is the process `core_pid`. The folder must exist, and the caller must
    /// hold the home's lock: a socket that lies there is taken for a dead core's.
    ///
    /// # Errors
    /// The system refuses the socket, or something else lies in its place.
    pub fn bind(
        reactor: &Arc<Reactor>,
        path: &Path,
        service: Arc<dyn Service>,
        core_pid: u32,
    ) -> Result<Self, RpcError> {
        Self::bind_within(reactor, path, service, core_pid, Limits::default())
    }

    pub(super) fn bind_within(
        reactor: &Arc<Reactor>,
        path: &Path,
        service: Arc<dyn Service>,
        core_pid: u32,
        limits: Limits,
    ) -> Result<Self, RpcError> {
        let shared = Arc::new(Shared {
            service,
            limits,
            core_pid,
            reactor: Arc::clone(reactor),
            load: Load::new(limits.calls_in_all),
            connections: Mutex::default(),
            last: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            doors: Mutex::default(),
        });
        let own = Door::open(&shared, path, linux::own_uid())?;
        lock(&shared.doors).push(own);
        Ok(Self {
            shared,
            path: path.to_owned(),
        })
    }

    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the socket `path` as well, for the user `uid`, who is let in only with the token of a launch. If that user
    /// has a socket already, there is nothing to do.
    ///
    /// # Errors
    /// The system refuses the socket, or something else lies in its place.
    pub(crate) fn open_for(&self, uid: u32, path: &Path) -> Result<(), RpcError> {
        // Held for as long as it takes, so that two launches do not open it twice.
        let mut doors = lock(&self.shared.doors);
        if !doors.iter().any(|door| door.uid() == uid) {
            doors.push(Door::open(&self.shared, path, uid)?);
        }
        Ok(())
    }

    /// Tells every session whose imports are served otherwise than it was told last.
    pub(crate) fn tell_swaps(&self) {
        for connection in self.shared.connections() {
            connection.side.tell_swaps(&connection.link);
        }
    }

    /// Returns the calls for which nobody waits any more, and that go on.
    pub(crate) fn overdue(&self) -> Vec<OverdueCall> {
        let mut all = self.shared.connections();
        let over = {
            let mut connections = lock(&self.shared.connections);
            let over = connections.take_finished();
            all.extend(connections.left.iter().filter_map(|left| {
                Some(Connection {
                    link: left.link.upgrade()?,
                    side: Arc::clone(&left.side),
                })
            }));
            over
        };
        drop(over);
        let overdue = all.iter().flat_map(|each| each.side.overdue(&each.link));
        overdue.collect()
    }

    /// Has no further call begin in any session, but for those of process `except`, once those that run
    /// are answered. False, and then all goes on, if they are not within `grace`.
    pub(crate) fn seal(&self, except: u32, grace: Duration) -> bool {
        self.shared.sealed.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + grace;
        let mut all = self.shared.connections();
        all.retain(|each| each.side.pid() != Some(except));
        // First all of them: one of them may be what another waits for.
        all.iter().for_each(|each| each.link.take_no_more());
        let is_sealed = all.iter().all(|each| each.link.seal(deadline));
        if !is_sealed {
            self.unseal();
        }
        is_sealed
    }

    /// Lets calls begin again.
    pub(crate) fn unseal(&self) {
        self.shared.sealed.store(false, Ordering::SeqCst);
        for each in self.shared.connections() {
            each.link.unseal();
        }
    }

    /// Ends every session after [`seal`](Self::seal): what clients wait for they ask the next core.
    pub(crate) fn hand_over(&self, grace: Duration) {
        self.stop_listening();
        let deadline = Instant::now() + grace;
        for Connection { link, .. } in self.shared.connections() {
            // All but that of whoever takes over are sealed already.
            match link.seal(deadline) {
                true => link.hand_over(),
                false => link.goodbye(),
            }
        }
    }

    fn stop_listening(&self) {
        if !self.shared.stopping.swap(true, Ordering::AcqRel) {
            let doors = std::mem::take(&mut *lock(&self.shared.doors));
            doors.iter().for_each(|door| door.close());
        }
    }

    /// Removes the socket, takes no more connections and calls, gives the calls that run `grace` to be
    /// answered, says goodbye to every client, and waits until all sessions have ended. A call that
    /// takes longer goes on without a client.
    pub fn shutdown(&self, grace: Duration) {
        self.stop_listening();
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or(now);
        let connections = self.shared.connections();
        for Connection { link, .. } in &connections {
            link.take_no_more();
        }
        for Connection { link, .. } in connections {
            link.close(deadline);
        }
        let left = std::mem::take(&mut lock(&self.shared.connections).left);
        drop(left);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl Shared {
    fn connections(&self) -> Vec<Connection> {
        lock(&self.connections).all.values().cloned().collect()
    }

    /// Tells whether a connection is there: it has not ended, or is about to be forgotten.
    pub(super) fn has(&self, number: u64) -> bool {
        lock(&self.connections).all.contains_key(&number)
    }

    /// A connection has ended.
    pub(super) fn forget(&self, number: u64) {
        let gone = {
            let mut connections = lock(&self.connections);
            connections.strangers.remove(&number);
            connections.all.remove(&number)
        };
        // It was given up before it is forgotten.
        if let Some(Connection { link, side }) = gone
            && !link.overdue().is_empty()
        {
            let link = Arc::downgrade(&link);
            let mut connections = lock(&self.connections);
            let over = connections.take_finished();
            // They keep what holds them: nobody would take them out after the end.
            if !self.stopping.load(Ordering::Acquire) {
                connections.left.push(Left { link, side });
            }
            // What they had imported goes without this lock.
            drop(connections);
            drop(over);
        }
    }

    /// Counts a connection among the sessions; `false` when there are too many.
    pub(super) fn lets_in(&self, number: u64) -> bool {
        let mut connections = lock(&self.connections);
        let sessions = connections.all.len() - connections.strangers.len();
        if sessions >= self.limits.sessions {
            return false;
        }
        connections.strangers.remove(&number);
        true
    }

    /// Takes note of a connection. Of too many who say nothing the one who has done so for longest has
    /// to go: who speaks at once is let in, however many others are silent.
    fn note(&self, number: u64, connection: Connection) {
        let silent = {
            let mut connections = lock(&self.connections);
            let crowded = connections.strangers.len() >= self.limits.strangers;
            let oldest = connections.strangers.first().filter(|_| crowded);
            let silent = oldest
                .and_then(|oldest| connections.all.get(oldest))
                .cloned();
            connections.strangers.insert(number);
            connections.all.insert(number, connection);
            silent
        };
        if let Some(Connection { link, .. }) = silent {
            let most = self.limits.strangers;
            link.refuse(Failure::new(
                FailureKind::Overloaded,
                format!("expected a hello, found none while {most} others wait; try again"),
            ));
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes in a connection that only the user `uid` may use.
    pub(super) fn accepted(self: &Arc<Self>, stream: UnixStream, uid: u32) -> io::Result<()> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let side = Arc::new(CoreSide::new(Arc::clone(self), number, uid));
        let limits = LinkLimits {
            calls: self.limits.calls_of_session,
            bytes: self.limits.bytes_of_session,
            stall: self.limits.stall,
            in_all: Arc::clone(&self.load),
        };
        let of_link = Arc::clone(&side) as Arc<dyn aigis_plugin_api::session::link::Side>;
        let reactor = Arc::clone(&self.reactor);
        let link = Link::new(stream, reactor, of_link, limits, longest, NAP);
        let weak = Arc::downgrade(&link);
        let of_timer = Arc::downgrade(&side);
        let connection = Connection {
            link: Arc::clone(&link),
            side,
        };
        self.note(number, connection);
        if self.sealed.load(Ordering::SeqCst) {
            link.seal(Instant::now());
        }
        if let Err(error) = link.start() {
            self.forget(number);
            return Err(error);
        }
        if self.stopping.load(Ordering::Acquire) {
            link.goodbye();
        }
        later(self.limits.greeting, move || {
            if let (Some(link), Some(side)) = (weak.upgrade(), of_timer.upgrade()) {
                side.greeting_is_over(&link);
            }
        });
        Ok(())
    }
}
