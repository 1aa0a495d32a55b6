//! Reading a file that may be missing, endless or no file at all.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Nothing has this path.
    #[error("there is no such file")]
    Missing,
    /// The path is a folder.
    #[error("expected a file, found a folder")]
    Folder,
    /// The path is a device, a pipe or a socket.
    #[error("expected a regular file, found a device, pipe or socket")]
    Special,
    /// The file has more bytes than are accepted.
    #[error("the file is larger than {} MiB, the most that is accepted", limit >> 20)]
    TooLarge { limit: u64 },
    /// The operating system refused.
    #[error("the file cannot be read: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            io::ErrorKind::IsADirectory => Self::Folder,
            _ => Self::Io(error),
        }
    }
}

/// Reads the file at `path`, unless it has more than `limit` bytes.
///
/// The size is checked before the file is opened, and again while it is read, since a device has no size and a file
/// may grow. With `only_regular`, anything but a regular file is refused before it is opened: opening a pipe that a
/// repository brought along would wait for ever.
pub(super) fn read(path: &Path, limit: u64, only_regular: bool) -> Result<Vec<u8>, ReadError> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ReadError::Folder);
    }
    if only_regular && !metadata.is_file() {
        return Err(ReadError::Special);
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge { limit });
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { limit });
    }
    Ok(bytes)
}
