//! Unix sockets in folders of any path length, on Linux.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Makes a path for the socket `path` that is short enough for the system, valid while the file is
/// open: an address holds about 100 bytes, and homes may be deeper than that.
///
/// # Errors
/// The folder cannot be opened.
pub fn short_path(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{}` is not the path of a socket", path.display()),
        ));
    };
    let folder = File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, short))
}

/// Connects to the socket `path`.
///
/// # Errors
/// The system's.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_open, short) = short_path(path)?;
    UnixStream::connect(short)
}
