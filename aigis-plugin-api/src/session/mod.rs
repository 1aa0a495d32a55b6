//! Sessions: the connection of one process to a core.

mod client;
#[doc(hidden)]
pub mod frame;
mod grant;
#[doc(hidden)]
pub mod socket;

pub use client::Session;
#[doc(hidden)]
pub use grant::{SessionGrant, from_environment};

use std::path::Path;

use crate::error::{CallError, Failure, FailureKind};

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
    Session::open(&socket, None, client).map_err(|failure| {
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
