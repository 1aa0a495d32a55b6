//! The memory that a library is sent in.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Nobody changes it any more, so what has been looked at stays as it was.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Puts a library into memory that can be sent, and returns how many bytes it has; `seen` hears them in
/// their order.
///
/// # Errors
/// The system's: it may forbid to run code from such memory.
pub fn write(mut library: impl Read, mut seen: impl FnMut(&[u8])) -> io::Result<(OwnedFd, u64)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = "aigis-library";
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    }?;
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let mut left = match library.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        seen(left);
        size += left.len() as u64;
        while !left.is_empty() {
            let written = rustix::io::write(&memory, left)?;
            left = left.get(written..).unwrap_or_default();
        }
    }
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    Ok((memory, size))
}

/// Checks that memory is sealed, and as long as was said.
#[cfg(feature = "portable")]
pub(super) fn check(memory: &OwnedFd, size: u64) -> Result<(), String> {
    let sealed = rustix::fs::fcntl_get_seals(memory);
    if !sealed.is_ok_and(|seals| seals.contains(SEALS)) {
        return Err("its memory should be sealed against any change, it is not".to_owned());
    }
    let found = rustix::fs::fstat(memory).map_or(0, |stat| stat.st_size);
    if u64::try_from(found) != Ok(size) {
        return Err(format!(
            "its memory should hold {size} bytes, it holds {found}"
        ));
    }
    Ok(())
}
