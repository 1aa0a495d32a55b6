//! Why the socket of a core cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why the socket of a core cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Something that is no socket lies where the socket belongs.
    #[error(
        "`{}` should be the socket of this core, but is something else; move it away",
        path.display()
    )]
    Occupied {
        /// The socket's place.
        path: PathBuf,
    },
    /// The system refuses the socket.
    #[error(
        "the socket `{}` cannot be opened; its folder must exist and be writable for this user",
        path.display()
    )]
    Bind {
        /// The socket's place.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
