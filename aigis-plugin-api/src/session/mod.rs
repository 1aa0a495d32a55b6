//! Sessions: the connection of one process to a core.

mod attached;
mod client;
#[doc(hidden)]
pub mod frame;
mod grant;
mod inbox;
mod incoming;
#[doc(hidden)]
pub mod link;
mod number;
mod outbox;
#[doc(hidden)]
pub mod reactor;
#[doc(hidden)]
pub mod ring;
mod serving;
#[doc(hidden)]
pub mod socket;
mod spin;
mod streams;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod tests;
#[doc(hidden)]
pub mod turns;
mod waiting;

pub use client::Session;
#[doc(hidden)]
pub use client::reactor;
pub(crate) use client::{Address, run_soon};
#[doc(hidden)]
pub use grant::{SessionGrant, from_environment};
#[doc(hidden)]
pub use inbox::{Longest, Received};
#[doc(hidden)]
pub use incoming::{Done, Limits, Load, Overdue, Underway};
#[doc(hidden)]
pub use serving::{Serve, ending, unserved};

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{CallError, Failure, FailureKind};

/// Takes a lock of a session's. What each holder changes is whole at any time, so one that panicked
/// leaves nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The environment variable that names the inherited descriptor with a [`SessionGrant`].
#[doc(hidden)]
pub const SESSION_FD: &str = "AIGIS_SESSION_FD";

/// Connects to the core that works in the folder `home`, as the command line does.
///
/// ```no_run
/// let session = aigis_plugin_api::connect("/srv/aigis")?;
/// let text: String = session.call("greeter.greet", ("zaltu",))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CallError::NotConnected`] when no core runs there, at once.
pub fn connect(home: impl AsRef<Path>) -> Result<Session, CallError> {
    let home = home.as_ref();
    let socket = home.join("run").join("core.sock");
    let client = std::env::args().next().unwrap_or_default();
    let client = Path::new(&client).file_name().map_or_else(
        || "a program".to_owned(),
        |n| n.to_string_lossy().into_owned(),
    );
    let address = Address {
        socket,
        token: None,
        client,
        reconnects: true,
        offers: false,
    };
    Session::open(address).map_err(|failure| {
        CallError::untyped(match failure.kind {
            FailureKind::NotConnected => Failure::new(
                FailureKind::NotConnected,
                format!(
                    "no core is running in `{}`: {}; start one there with `aigis build-and-run`",
                    home.display(),
                    failure.message
                ),
            ),
            _ => failure,
        })
    })
}

/// Runs `then` after some time, on a thread that must not wait.
#[doc(hidden)]
pub fn later(time: std::time::Duration, then: impl FnOnce() + Send + 'static) {
    let now = std::time::Instant::now();
    crate::program::start_timer(now.checked_add(time).unwrap_or(now), Box::new(then));
}
