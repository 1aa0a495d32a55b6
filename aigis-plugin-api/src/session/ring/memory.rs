//! The memory of a ring, on Linux: a memfd that cannot change its size, mapped by both sides.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::lane::{Indices, Lane, WORD};
use super::sync::{AtomicU64, Ordering};
use super::{CAPACITIES, RingError};

/// "AIGISrng", as a little-endian machine reads it.
const MAGIC: u64 = u64::from_le_bytes(*b"AIGISrng");
/// Of everything that the two sides must see in the same way.
const VERSION: u64 = 1;
/// Nobody can change the size any more: else a side that touches what is gone is ended by a signal.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// What the memory starts with; the words of the first lane follow, then those of the second.
#[repr(C, align(4096))]
struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    /// In bytes, of one lane.
    capacity: AtomicU64,
    /// The side that has made the memory writes the first.
    lanes: [Indices; 2],
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 4096 && size_of::<Indices>() == 3 * 128);

/// The mapped memory. Its pages come into being when they are first touched.
pub(super) struct Memory {
    start: NonNull<c_void>,
    /// Of one lane, in bytes: one of [`CAPACITIES`] and a power of two.
    capacity: usize,
}

// SAFETY: the mapping belongs to no thread, and what it gives out are shared references to atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes memory with two empty lanes.
    pub(super) fn create(capacity: usize) -> io::Result<(Self, OwnedFd)> {
        if !is_allowed(capacity) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a ring has a power of two of {} to {} bytes for each direction, not {capacity}",
                    CAPACITIES.start(),
                    CAPACITIES.end()
                ),
            ));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let name = "aigis-ring";
        let made = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            made => made,
        };
        let descriptor = made?;
        rustix::fs::ftruncate(&descriptor, size(capacity))?;
        rustix::fs::fcntl_add_seals(&descriptor, SEALS)?;
        let memory = Self::map(descriptor.as_fd(), capacity)?;
        let header = memory.header();
        header.magic.store(MAGIC, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.capacity.store(capacity as u64, Ordering::Relaxed);
        Ok((memory, descriptor))
    }

    /// Maps memory that the other side has made, if it is as `create` makes it.
    pub(super) fn adopt(descriptor: &OwnedFd) -> Result<Self, RingError> {
        // First of all: what is found afterwards stays so.
        let found = match rustix::fs::fcntl_get_seals(descriptor) {
            Ok(found) => found,
            Err(Errno::INVAL) => return Err(RingError::NotSealable),
            Err(error) => return Err(RingError::System("read the seals of", error.into())),
        };
        if !found.contains(SEALS) {
            return Err(RingError::Unsealed(found.bits()));
        }
        let status = rustix::fs::fstat(descriptor)
            .map_err(|error| RingError::System("read the size of", error.into()))?;
        // Memory of huge pages, which may be missing when they are touched, is never of such a size.
        let capacity = capacity(status.st_size).ok_or(RingError::Size(status.st_size))?;
        let memory = Self::map(descriptor.as_fd(), capacity)
            .map_err(|error| RingError::System("map", error))?;
        let header = memory.header();
        let found = [&header.magic, &header.version, &header.capacity]
            .map(|word| word.load(Ordering::Relaxed));
        if found != [MAGIC, VERSION, capacity as u64] {
            return Err(RingError::Layout { found, capacity });
        }
        Ok(memory)
    }

    /// `capacity` is allowed, and the size of the memory is right for it and sealed.
    fn map(descriptor: BorrowedFd<'_>, capacity: usize) -> io::Result<Self> {
        // SAFETY: the system chooses where the mapping goes: it takes the place of nothing.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                mapped(capacity),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, capacity })
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping starts with a page for the header, and no system has smaller ones than
        // the header's alignment. It stays mapped, and of its size, while `self` is there. A header is
        // made of atomics, for which all bytes are valid and which others may store to at any time.
        unsafe { self.start.cast::<Header>().as_ref() }
    }

    /// The lane of the side that has made the memory (0), or of the other one (1).
    pub(super) fn lane(&self, number: usize) -> Lane<'_> {
        let indices = &self.header().lanes[number];
        // SAFETY: `number` is 0 or 1 (another has panicked above), and behind the header the mapping
        // has `capacity` bytes for each.
        let words = unsafe { self.start.byte_add(HEADER + number * self.capacity) };
        // SAFETY: these bytes lie within the mapping, at a multiple of a word's size from the start of
        // a page. They stay mapped while `self` is there. They are seen as atomics alone, for which all
        // bytes are valid and which others may store to at any time.
        let words = unsafe { slice::from_raw_parts(words.cast().as_ptr(), self.capacity / WORD) };
        Lane { indices, words }
    }

    /// All words of the memory.
    #[cfg(test)]
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: as for the words of a lane.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), mapped(self.capacity) / WORD) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and references into it do not outlive `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr(), mapped(self.capacity)) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

fn is_allowed(capacity: usize) -> bool {
    capacity.is_power_of_two() && CAPACITIES.contains(&capacity)
}

/// The bytes of memory for lanes of `capacity` bytes, which is allowed.
const fn mapped(capacity: usize) -> usize {
    HEADER + 2 * capacity
}

fn size(capacity: usize) -> u64 {
    mapped(capacity) as u64
}

/// The bytes of a lane, in memory of `size` bytes.
fn capacity(size: i64) -> Option<usize> {
    let lanes = usize::try_from(size).ok()?.checked_sub(HEADER)?;
    (lanes.is_multiple_of(2) && is_allowed(lanes / 2)).then_some(lanes / 2)
}
