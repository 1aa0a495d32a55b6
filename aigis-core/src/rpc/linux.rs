//! What Linux does in its own way: sockets at paths of any length, and who is at their other end.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use aigis_plugin_api::session::socket;
use rustix::fs::{AtFlags, FileType, Mode, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Peer;
use super::error::RpcError;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 512;

/// Opens the socket `path` for one user alone, this process's own or, if that is root's, any other. One that a killed core left there is replaced.
///
/// # Errors
/// Something else lies there, or the system refuses.
pub(crate) fn listen(path: &Path, uid: u32) -> Result<UnixListener, RpcError> {
    let refused = |source: io::Error| RpcError::Bind {
        path: path.to_owned(),
        source,
    };
    let system = |errno: Errno| refused(errno.into());
    let (folder, short) = socket::short_path(path).map_err(refused)?;
    let name = path.file_name().unwrap_or_default();
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(system)?;
        }
        Ok(_) => {
            return Err(RpcError::Occupied {
                path: path.to_owned(),
            });
        }
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(system(errno)),
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(system)?;
    let address = SocketAddrUnix::new(&short).map_err(system)?;
    rustix::net::bind(&socket, &address).map_err(system)?;
    // Nobody can connect before `listen`, so nobody sees another mode.
    let owner = (uid != own_uid()).then(|| Uid::from_raw(uid));
    rustix::fs::chownat(&folder, name, owner, None, AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| {
            rustix::fs::chmodat(&folder, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())
        })
        .and_then(|()| rustix::net::listen(&socket, BACKLOG))
        .map_err(|errno| {
            // What could not be opened must not lie there as if it were.
            let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
            system(errno)
        })?;
    Ok(UnixListener::from(socket))
}

/// Returns the user of this process.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Asks the system who is at the other end.
///
/// # Errors
/// The system's.
pub(super) fn peer(socket: &UnixStream) -> io::Result<Peer> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
        pid: u32::try_from(peer.pid.as_raw_nonzero().get()).ok(),
    })
}
