//! The core's side of sessions: one unix socket on which other processes call skills.
//!
//! Start at [`Server`]; it asks a [`Service`] whom to let in and what to answer. What reads, writes and
//! runs calls is the same on both sides of a session, `aigis_plugin_api::session::link`; here is what
//! only a core does: who comes in, as what, and what that one imports.

mod callee;
mod door;
mod error;
mod linux;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use error::RpcError;
pub(crate) use linux::{listen, own_uid};
pub use server::Server;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, failed};
use aigis_plugin_api::session::frame::{Hello, Import, Library, Offer, Served};
pub use aigis_plugin_api::session::{Done, Underway};

/// What the server asks its host. Every method may be called from any thread.
pub trait Service: Send + Sync + 'static {
    /// Lets a client in or refuses it. Called once per connection, after its uid, magic and protocol
    /// were found right; must not block.
    ///
    /// # Errors
    /// Why the client is refused; it is told so.
    fn admit(&self, hello: &Hello, peer: Peer) -> Result<Arc<SessionInfo>, Failure>;

    /// Hears what a client expects of a skill, once per session and import and before the first call
    /// that names it; must not block.
    fn import(&self, session: &Arc<SessionInfo>, import: Import) -> Arc<dyn Imported>;

    /// Runs a call by name on this thread, which may block, or begins it; `done` hears its outcome
    /// once, here or, when what is underway is returned, later on another thread that may block.
    /// `timeout` is what is left of the caller's time, none without a limit.
    fn call(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Opens a call by name, which begins when the first item is asked for; `streams` are the arguments
    /// that are streams. May block.
    fn open(
        &self,
        session: &SessionInfo,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let _ = (session, arguments, streams, timeout);
        failed(no_streams(name))
    }

    /// Takes what a client's process serves from now on, in the place of what it offered before;
    /// `callee` calls it, and it alone. `answer` hears once, on any thread, whether that is taken. Must
    /// not block.
    fn offer(
        &self,
        session: &Arc<SessionInfo>,
        offer: Offer,
        callee: Arc<dyn Callee>,
        answer: Answer,
    );

    /// Returns a library that serves and may be brought to clients, with a descriptor of it; `None` when
    /// it is gone. Must not block.
    fn library(&self, name: &str) -> Option<(Library, OwnedFd)> {
        let _ = name;
        None
    }

    /// Returns a descriptor of the page that says which versions serve, if there is one. Must not block.
    fn page(&self) -> Option<OwnedFd> {
        None
    }

    /// Hears that a session has ended: once per admitted session, as soon as the client is gone. Calls
    /// of it may still be running; must not block.
    fn ended(&self, session: &SessionInfo);
}

/// Hears whether an offer is taken, or why not.
pub type Answer = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// A client's process, as far as a core calls it: for skills that it offers. Every method may be called
/// from any thread. When its session ends, calls underway fail with `FailureKind::Disconnected`.
pub trait Callee: Send + Sync {
    /// Tells whether the session goes on.
    fn is_there(&self) -> bool;

    /// Calls the skill `name` and waits, at most `timeout`.
    ///
    /// # Errors
    /// The skill's failure, or what ended the call.
    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure>;

    /// Starts a call of the skill `name`; `done` hears its outcome once, here or on another thread. A
    /// `done` that is dropped was not heard: there was no thread.
    fn start(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Arc<dyn Underway>;

    /// Opens the skill `name`; `streams` are the arguments that are streams.
    fn open(
        &self,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems;
}

fn no_streams(name: &str) -> Failure {
    let message = format!("whoever answers calls of {name} here knows no streams");
    Failure::new(FailureKind::Refused, message).of_skill(name)
}

/// What one import of a client leads to.
pub trait Imported: Send + Sync {
    /// Returns the full name of the skill.
    fn name(&self) -> &str;

    /// Says what serves it now.
    fn served(&self) -> Served;

    /// Runs a call, as [`Service::call`] does.
    fn call(
        &self,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Opens a call, as [`Service::open`] does.
    fn open(
        &self,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let _ = (arguments, streams, timeout);
        failed(no_streams("an import"))
    }
}

/// The process at the other end of a connection, as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process when it connected; none where the system does not say.
    pub pid: Option<u32>,
}

/// A session that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its number, unique while the host lives; the host counts.
    pub id: u64,
    /// What the client calls itself.
    pub client: String,
    /// The plugin that it is, if it was launched as one.
    pub plugin: Option<String>,
    /// Its process.
    pub pid: u32,
}

/// A call for which nobody waits any more, and that goes on: its caller's time was over, it was given up,
/// or its session has ended.
#[derive(Clone, Debug)]
pub(crate) struct OverdueCall {
    /// The full name of the skill.
    pub skill: String,
    /// The session that has called.
    pub session: Arc<SessionInfo>,
    /// For how long nobody has waited.
    pub time: Duration,
}

/// How much a client, and all of them together, may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Sessions at the same time.
    sessions: usize,
    /// Connections at the same time on which nobody has said hello.
    strangers: usize,
    /// Calls of one session that wait or run; then it is not read any further.
    calls_of_session: usize,
    /// Calls of all sessions that wait or run; then further ones are refused.
    calls_in_all: usize,
    /// Bytes of arguments, and likewise bytes of answers, that wait in one session; one more frame may
    /// exceed them.
    bytes_of_session: usize,
    /// Imports of one session.
    imports: usize,
    /// Bytes of all their signatures.
    import_bytes: usize,
    /// Time for the hello.
    greeting: Duration,
    /// Time for which a client may read nothing while its answers are at their limit.
    stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            strangers: 1024,
            calls_of_session: 256,
            calls_in_all: 4096,
            bytes_of_session: 64 << 20,
            imports: 10_000,
            import_bytes: 64 << 20,
            greeting: Duration::from_secs(10),
            stall: Duration::from_mins(1),
        }
    }
}
