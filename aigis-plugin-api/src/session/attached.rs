//! Bodies in memory of their own: sealed, so that nobody changes them once they have been sent.
//!
//! They are read, and not sent: to make such memory takes longer than to send what is to lie in it, at
//! every size.

use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
#[cfg(test)]
use rustix::fs::MemfdFlags;
use rustix::fs::SealFlags;

use super::frame::{MAX_BODY, malformed};
use crate::error::Failure;

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Puts a body into memory that can be sent.
#[cfg(test)]
fn write(parts: &[&[u8]]) -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("aigis-body", flags)?;
    for part in parts {
        let mut left = *part;
        while !left.is_empty() {
            let written = rustix::io::write(&memory, left)?;
            left = left.get(written..).unwrap_or_default();
        }
    }
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// Reads a body of `len` bytes out of memory that was sent.
///
/// # Errors
/// It is not sealed, or not as long as was said.
pub(super) fn read(memory: &OwnedFd, len: usize) -> Result<Vec<u8>, Failure> {
    let memory = memory.as_fd();
    let sealed = rustix::fs::fcntl_get_seals(memory);
    if !sealed.is_ok_and(|seals| seals.contains(SEALS)) {
        return Err(malformed(
            "attached memory must be sealed against any change",
        ));
    }
    let size = rustix::fs::fstat(memory).map_or(0, |stat| stat.st_size);
    if size != len as i64 || len > MAX_BODY {
        return Err(malformed(format_args!(
            "attached memory should hold {len} bytes, it holds {size}"
        )));
    }
    let mut body = Vec::new();
    body.try_reserve_exact(len)
        .map_err(|_| malformed(format_args!("there is no memory for a body of {len} bytes")))?;
    while body.len() < len {
        let offset = body.len() as u64;
        match rustix::io::pread(memory, spare_capacity(&mut body), offset) {
            Ok(read) if read > 0 => {}
            _ => return Err(malformed("attached memory cannot be read")),
        }
    }
    body.truncate(len);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back() {
        let memory = write(&[b"head", &[7; 100_000]]).expect("there is memory");
        let body = read(&memory, 100_004).expect("is sealed");
        assert_eq!((&body[..4], body.len()), (&b"head"[..], 100_004));
        assert!(read(&memory, 100_003).is_err());
    }

    #[test]
    fn memory_that_can_still_change_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("open", flags).expect("there is memory");
        rustix::io::write(&memory, b"body").expect("is written");
        assert!(read(&memory, 4).is_err());
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals).expect("can be sealed");
        assert!(read(&memory, 4).is_err());
    }
}
