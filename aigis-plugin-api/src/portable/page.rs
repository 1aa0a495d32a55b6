//! The page that says which version of each portable plugin serves: the core's side.

use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// "AIGISpag", as a little-endian machine reads it.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"AIGISpag");
/// Of everything that the two sides must see in the same way.
pub(super) const VERSION: u64 = 1;
/// The size of the page in bytes: that of the smallest pages that systems have.
pub(super) const SIZE: usize = 4096;
/// How many cells there are.
pub const CELLS: usize = 496;

/// It is of its size for good, and only who has mapped it by now writes to it.
pub(super) const SEALS: SealFlags = SealFlags::FUTURE_WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// What the page holds.
#[repr(C, align(4096))]
pub(super) struct Content {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU64,
    reserved: [AtomicU64; 14],
    /// On cache lines of their own: apart from swaps they are only read.
    pub(super) cells: [AtomicU64; CELLS],
}

const _: () = assert!(size_of::<Content>() == SIZE && offset_of!(Content, cells) == 128);

/// The core's page.
pub struct Page {
    start: NonNull<c_void>,
    memory: OwnedFd,
}

// SAFETY: the mapping belongs to no thread, and what is done with it are stores to atomics.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Makes a page on which nobody serves anything.
    ///
    /// # Errors
    /// The system's; before Linux 5.1 there is no memory that one side alone can write to.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let name = "aigis-page";
        let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            made => made,
        }?;
        rustix::fs::ftruncate(&memory, SIZE as u64)?;
        // SAFETY: the system chooses where the mapping goes: it takes the place of nothing.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                memory.as_fd(),
                0,
            )
        }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidData)?;
        let page = Self { start, memory };
        page.content().magic.store(MAGIC, Ordering::Relaxed);
        page.content().version.store(VERSION, Ordering::Relaxed);
        // Only now: it keeps what is mapped writable, and nothing that is mapped later.
        rustix::fs::fcntl_add_seals(&page.memory, SEALS)?;
        Ok(page)
    }

    fn content(&self) -> &Content {
        // SAFETY: a whole page is mapped there, of at least the alignment of `Content`, and stays so
        // while `self` is there; its size is sealed. All of it is atomics, for which all bytes are
        // valid.
        unsafe { self.start.cast::<Content>().as_ref() }
    }

    /// Says which version serves; 0 for none. Every process that has the page sees it from then on.
    pub fn set(&self, cell: usize, ticket: u64) {
        if let Some(cell) = self.content().cells.get(cell) {
            cell.store(ticket, Ordering::SeqCst);
        }
    }

    /// Returns the memory, to be sent.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        for cell in &self.content().cells {
            cell.store(0, Ordering::SeqCst);
        }
        // SAFETY: this is what was mapped, and references into it do not outlive `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr(), SIZE) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
