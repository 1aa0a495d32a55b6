//! The core's side of sessions: one unix socket on which other processes call skills.
//!
//! Start at [`Server`]; it asks a [`Service`] whom to let in and what to answer. Each session is one
//! task: `connection` greets the client and reads its frames, `outbox` writes. What is read becomes a
//! call in `session`, which a thread of `pool` runs. No task waits for a skill, and no thread that
//! runs a skill waits for a client.

mod connection;
mod error;
mod linux;
mod outbox;
mod pool;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use error::RpcError;
pub(crate) use pool::Pool;
pub use server::Server;

use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::{Expected, Failure};
use aigis_plugin_api::session::frame::{Expectation, Hello};

/// What the server asks its host. Every method may be called from any thread.
pub trait Service: Send + Sync + 'static {
    /// Returns what a thread does between calls, when it is woken for it.
    fn between_calls(&self) -> fn();

    /// Lets a client in or refuses it. Called once per connection, after its uid, magic and protocol
    /// were found right; must not block.
    ///
    /// # Errors
    /// Why the client is refused; it is told so.
    fn admit(&self, hello: &Hello, peer: Peer) -> Result<Arc<SessionInfo>, Failure>;

    /// Hears what a client's import expects of a skill, once per session and signature and before the
    /// first call that names it; must not block.
    fn expect(&self, session: &SessionInfo, expectation: Expectation);

    /// Runs a call on this thread, which may block, or begins it; `done` hears its outcome once, here
    /// or, when what is underway is returned, later on another thread that may block. `expects` is the
    /// announced signature if the call named one; `timeout` is what is left of the caller's time, none
    /// without a limit.
    fn call(
        &self,
        session: &SessionInfo,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>>;

    /// Hears that a session has ended: once per admitted session, as soon as the client is gone. Calls
    /// of it may still be running; must not block.
    fn ended(&self, session: &SessionInfo);
}

/// Hears the outcome of a call; the client gets it as it is.
pub type Done = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// A call that goes on without a thread.
pub trait Underway: Send + Sync {
    /// Ends it soon, unless it is over: nobody waits for it any more.
    fn give_up(&self);
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

/// How much a client, and all of them together, may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at the same time.
    sessions: usize,
    /// Calls of one session that wait or run; then it is not read any further.
    calls_of_session: usize,
    /// Calls of all sessions that wait or run; then further ones are refused.
    calls_in_all: usize,
    /// Threads that run calls. As many as calls: a skill that waits for another session's call must
    /// not take the thread that this one needs.
    threads: usize,
    /// Bytes of arguments, and likewise bytes of answers, that wait in one session; one more frame may
    /// exceed them.
    bytes_of_session: usize,
    /// Signatures that one session announces.
    expectations: usize,
    /// Bytes of all these signatures.
    expectation_bytes: usize,
    /// Time for the hello.
    greeting: Duration,
    /// Time for which a client may read nothing while its answers are at their limit.
    stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 512,
            calls_of_session: 256,
            calls_in_all: 4096,
            threads: 4096,
            bytes_of_session: 64 << 20,
            expectations: 10_000,
            expectation_bytes: 64 << 20,
            greeting: Duration::from_secs(10),
            stall: Duration::from_mins(1),
        }
    }
}
