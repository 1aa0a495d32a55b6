//! The page that says which version of each portable plugin serves: the caller's side.

use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::page::{Content, MAGIC, SEALS, SIZE, VERSION};

/// How many pages a process maps in all its life. The address of a page is never given away again.
const MOST: usize = 4096;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// A core's page, for as long as the session with that core goes on. Dropped, it says that nobody
/// serves anything.
pub(crate) struct MappedPage {
    start: NonNull<c_void>,
}

// SAFETY: the mapping belongs to no thread, and what it gives out are shared references to atomics.
unsafe impl Send for MappedPage {}
// SAFETY: as above.
unsafe impl Sync for MappedPage {}

impl MappedPage {
    /// Maps a page that a core has sent, if it is as a core makes it.
    pub(crate) fn adopt(memory: &OwnedFd) -> Result<Self, String> {
        // First of all: what is found afterwards stays so.
        let sealed = rustix::fs::fcntl_get_seals(memory);
        if !sealed.is_ok_and(|seals| seals.contains(SEALS)) {
            return Err("its size should be sealed, and who may write to it; they are not".into());
        }
        let found = rustix::fs::fstat(memory).map_or(0, |stat| stat.st_size);
        if usize::try_from(found) != Ok(SIZE) {
            return Err(format!("it should have {SIZE} bytes, it has {found}"));
        }
        if MAPPED.fetch_add(1, Ordering::Relaxed) >= MOST {
            MAPPED.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("this process has mapped {MOST} of them already"));
        }
        // SAFETY: the system chooses where the mapping goes: it takes the place of nothing.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                SIZE,
                ProtFlags::READ,
                MapFlags::SHARED,
                memory.as_fd(),
                0,
            )
        };
        let start = start.map_err(|error| format!("it cannot be mapped: {error}"))?;
        let start = NonNull::new(start).ok_or("it was mapped nowhere")?;
        let page = Self { start };
        let content = page.content();
        let found = [&content.magic, &content.version].map(|word| word.load(Ordering::Relaxed));
        if found != [MAGIC, VERSION] {
            return Err(format!(
                "it should begin with {:x?}, it begins with {found:x?}",
                [MAGIC, VERSION]
            ));
        }
        Ok(page)
    }

    fn content(&self) -> &'static Content {
        // SAFETY: a whole page is mapped there for reading, of at least the alignment of `Content`;
        // its size is sealed. It is never unmapped, see `drop`. All of it is atomics, for which all bytes
        // are valid, and which others may store to at any time. Here they are only loaded, and relaxed:
        // loads of that order and size never write, so memory that can only be read will do.
        unsafe { self.start.cast::<Content>().as_ref() }
    }

    /// Returns a cell, if there is one of this number. It is good for ever, for relaxed loads alone.
    pub(crate) fn cell(&self, number: u32) -> Option<&'static AtomicU64> {
        self.content().cells.get(usize::try_from(number).ok()?)
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // Whoever still looks at a cell finds 0 there from now on.
        // SAFETY: `adopt` has mapped this page, which nobody else unmaps, so nothing of another's is
        // replaced. What comes in its place can be read as well, and all of it is zeros, which are
        // values of atomics; the system puts it there at once, so a load sees the one or the other.
        let replaced = unsafe {
            rustix::mm::mmap_anonymous(
                self.start.as_ptr(),
                SIZE,
                ProtFlags::READ,
                MapFlags::PRIVATE | MapFlags::FIXED,
            )
        };
        debug_assert!(replaced.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::{MemfdFlags, SealFlags};

    use super::super::{CELLS, Page};
    use super::*;

    fn mapped(page: &Page) -> MappedPage {
        let memory = page.memory().try_clone_to_owned().expect("is duplicated");
        MappedPage::adopt(&memory).expect("is as it is made")
    }

    fn read(cell: &AtomicU64) -> u64 {
        cell.load(Ordering::Relaxed)
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let page = Page::new().expect("there is memory");
        let (one, other) = (mapped(&page), mapped(&page));
        let last = u32::try_from(CELLS - 1).expect("is small");
        let cells = [&one, &other].map(|mapped| mapped.cell(last).expect("is there"));
        assert_eq!(cells.map(read), [0, 0]);
        page.set(CELLS - 1, 42);
        assert_eq!(cells.map(read), [42, 42]);
        assert!(one.cell(last + 1).is_none());
        // Ignored: there is no such cell.
        page.set(CELLS, 1);
        // What one session has lost is no concern of the other.
        drop(one);
        assert_eq!(cells.map(read), [0, 42]);
        drop(page);
        assert_eq!(cells.map(read), [0, 0]);
    }

    #[test]
    fn only_its_maker_can_write_to_a_page() {
        let page = Page::new().expect("there is memory");
        let memory = page.memory().try_clone_to_owned().expect("is duplicated");
        assert!(rustix::io::pwrite(&memory, &[1], 200).is_err());
        assert!(rustix::fs::ftruncate(&memory, 0).is_err());
        // SAFETY: the system chooses where the mapping goes, if it makes one.
        let writable = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                memory.as_fd(),
                0,
            )
        };
        assert!(writable.is_err());
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let made = |size: u64, seals: SealFlags| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let memory = rustix::fs::memfd_create("page", flags).expect("there is memory");
            rustix::fs::ftruncate(&memory, size).expect("has a size");
            rustix::fs::fcntl_add_seals(&memory, seals).expect("is sealed");
            let refused = MappedPage::adopt(&memory).map(|_| ());
            refused.expect_err("is no page")
        };
        let open = made(4096, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL);
        assert!(open.contains("sealed"), "{open}");
        let long = made(8192, SEALS);
        assert!(long.contains("4096 bytes, it has 8192"), "{long}");
        let empty = made(4096, SEALS);
        assert!(empty.contains("begins with [0, 0]"), "{empty}");
    }
}
