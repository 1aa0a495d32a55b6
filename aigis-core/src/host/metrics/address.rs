//! Where metrics are to be had.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What stands before the path of a socket.
const UNIX: &str = "unix:";

/// Where a host answers those who ask for its metrics: a socket for the same user, or a port of this machine alone.
///
/// ```
/// use aigis_core::host::MetricsAddress;
///
/// assert!("unix:run/metrics.sock".parse::<MetricsAddress>().is_ok());
/// assert!("127.0.0.1:9464".parse::<MetricsAddress>().is_ok());
/// let refused = "0.0.0.0:9464".parse::<MetricsAddress>().unwrap_err();
/// assert!(refused.to_string().contains("not of this machine alone"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A socket at this path, relative to the home.
    Unix(PathBuf),
    /// A port of a loopback address.
    Loopback(SocketAddr),
}

/// Why something is no [`MetricsAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsAddressError {
    /// It is neither a path nor an address.
    #[error("expected `unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`, found `{0}`")]
    Unreadable(String),
    /// Others than this machine could ask.
    #[error(
        "`{0}` is not of this machine alone: metrics name plugins, sources and skills, and are given to anybody who \
         asks; use `unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`, and let a proxy of yours decide who else may"
    )]
    NotLoopback(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix(UNIX).filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| MetricsAddressError::Unreadable(text.to_owned()))?;
        match address.ip().is_loopback() {
            true => Ok(Self::Loopback(address)),
            false => Err(MetricsAddressError::NotLoopback(address)),
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}
