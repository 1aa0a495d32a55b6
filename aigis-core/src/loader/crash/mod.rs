//! Who was running when the process died.
//!
//! A plugin's code in the core can take the core with it: it writes to null, aborts, overflows its
//! stack. The [handler] of such signals finds out whose code the dying thread was running and writes
//! one [record] into the home of the plugin's host, for the next start to read. Then everything goes on
//! as it would have without it, to whoever handled the signal before or to the end of the process.
//!
//! In a signal handler nothing may be allocated and no lock be taken. So what it writes is made ready
//! when a library is loaded, in a table that is read without locks. It looks there, in this order,
//!
//! 1. for the library that the faulting instruction is in;
//! 2. for the skill in the innermost frame of the thread's seat: the instruction may be in a library
//!    of the system that the plugin has called, as it is for `abort`;
//! 3. on a thread without frames, for the library that has started the thread.
//!
//! A signal that another process has sent is nobody's fault. A thread that a plugin has started has no
//! stack for handlers, so that an overflow of its own stack leaves no record.

mod handler;
mod record;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc::{self, c_int};

pub(crate) use handler::install;
pub(crate) use record::{Cause, Culprit, Death, parse};

/// The signals by which a process dies of its own code.
const SIGNALS: [(c_int, &str); 6] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// Where a host's record goes. It is open beforehand: a dying process may not be able to open any more.
#[derive(Debug)]
pub(crate) struct CrashFile(File);

impl CrashFile {
    /// Opens the file anew; what was in it is gone.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(path: &Path) -> io::Result<Arc<Self>> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(Self(file)))
    }

    fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What the handler may find.
struct Entry {
    file: Arc<CrashFile>,
    /// None for the host itself, which hears of deaths that are no plugin's.
    whose: Option<Whose>,
}

/// A loaded library, as the handler knows it by its addresses.
pub(super) struct Whose {
    pub(super) plugin: String,
    pub(super) generation: u64,
    pub(super) artifact: String,
    /// Where its code and data are.
    pub(super) library: Range<usize>,
    /// Where the servings are that frames point to, and how far they are apart.
    pub(super) servings: Range<usize>,
    pub(super) stride: usize,
    /// The names of the skills, as the servings are ordered.
    pub(super) skills: Vec<String>,
    /// The address of the books of the library, by which its own threads are known.
    pub(super) followed: usize,
}

impl Whose {
    /// Returns the skill that a frame names, if it is one of these.
    fn skill(&self, frame: usize) -> Option<&str> {
        if !self.servings.contains(&frame) {
            return None;
        }
        let index = (frame - self.servings.start).checked_div(self.stride)?;
        self.skills.get(index).map(String::as_str)
    }
}

/// A place of the table. Places are never freed, and are used again.
struct Cell {
    entry: AtomicPtr<Entry>,
    /// Set before the cell can be found.
    next: *const Cell,
}

// SAFETY: `next` is never written once other threads can see the cell, and what it points to lives for
// ever.
unsafe impl Sync for Cell {}

/// The first cell of the table.
static CELLS: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

/// How many handlers read the table now.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// Held by who changes the table.
static CHANGING: Mutex<()> = Mutex::new(());

/// Calls `look` with every entry, the latest cell first, until it returns something. Takes no lock and
/// allocates nothing.
fn find<R>(mut look: impl FnMut(&Entry) -> Option<R>) -> Option<R> {
    READERS.fetch_add(1, Ordering::SeqCst);
    let mut found = None;
    let mut cell = CELLS.load(Ordering::SeqCst).cast_const();
    // SAFETY: the cells that can be found are never freed.
    while let Some(here) = unsafe { cell.as_ref() } {
        // SAFETY: an entry is freed only by who has taken it out of its cell and found no reader after
        // that. This reader has announced itself first: either it was seen, or it came after the entry
        // was taken out and does not find it.
        if let Some(entry) = unsafe { here.entry.load(Ordering::SeqCst).as_ref() } {
            found = look(entry);
            if found.is_some() {
                break;
            }
        }
        cell = here.next;
    }
    READERS.fetch_sub(1, Ordering::SeqCst);
    found
}

/// An entry of the table, for as long as this lives.
pub(crate) struct Listed(&'static Cell);

impl Listed {
    fn new(entry: Entry) -> Self {
        let entry = Box::into_raw(Box::new(entry));
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let first = CELLS.load(Ordering::SeqCst).cast_const();
        let mut cell = first;
        // SAFETY: as in `find`.
        while let Some(here) = unsafe { cell.as_ref() } {
            if here.entry.load(Ordering::SeqCst).is_null() {
                here.entry.store(entry, Ordering::SeqCst);
                // `cell` came from a `&'static`.
                return Self(here);
            }
            cell = here.next;
        }
        let cell: &'static Cell = Box::leak(Box::new(Cell {
            entry: AtomicPtr::new(entry),
            next: first,
        }));
        CELLS.store(ptr::from_ref(cell).cast_mut(), Ordering::SeqCst);
        Self(cell)
    }

    /// Lists a host, which hears of deaths that are no plugin's.
    pub(crate) fn host(file: &Arc<CrashFile>) -> Self {
        Self::new(Entry {
            file: Arc::clone(file),
            whose: None,
        })
    }

    /// Lists a library.
    pub(super) fn library(file: &Arc<CrashFile>, whose: Whose) -> Self {
        Self::new(Entry {
            file: Arc::clone(file),
            whose: Some(whose),
        })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.0.entry.swap(ptr::null_mut(), Ordering::SeqCst);
        // Else the process is dying, and may be reading it: it stays for the little that is left.
        if READERS.load(Ordering::SeqCst) == 0 {
            // SAFETY: it came from `Box::into_raw` in `new`. Nobody reads it, and nobody can find it
            // any more: see `find`.
            drop(unsafe { Box::from_raw(entry) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(plugin: &str, library: Range<usize>, servings: Range<usize>) -> Whose {
        Whose {
            plugin: plugin.to_owned(),
            generation: 1,
            artifact: "a.so".to_owned(),
            library,
            servings,
            stride: 16,
            skills: vec![format!("{plugin}.first"), format!("{plugin}.second")],
            followed: 0,
        }
    }

    /// The table is one for the process: each test looks for names of its own.
    fn listed(name: &str) -> bool {
        find(|entry| (entry.whose.as_ref()?.plugin == name).then_some(())).is_some()
    }

    #[test]
    fn what_is_listed_is_found_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = CrashFile::create(&folder.path().join("crash")).expect("is made");
        let one = Listed::library(&file, whose("listed-one", 0..0, 0..0));
        let two = Listed::library(&file, whose("listed-two", 0..0, 0..0));
        assert!(listed("listed-one") && listed("listed-two"));
        drop(one);
        assert!(!listed("listed-one") && listed("listed-two"));
        let three = Listed::library(&file, whose("listed-three", 0..0, 0..0));
        assert!(listed("listed-two") && listed("listed-three"));
        drop((two, three));
        assert!(!listed("listed-two") && !listed("listed-three"));
        assert_eq!(Arc::strong_count(&file), 1, "entries are freed");
    }

    #[test]
    fn a_frame_names_its_skill() {
        // Two skills, and the generation as a whole.
        let whose = whose("frames", 0..0, 160..208);
        assert_eq!(whose.skill(160), Some("frames.first"));
        assert_eq!(whose.skill(176), Some("frames.second"));
        assert_eq!(whose.skill(192), None);
        assert_eq!(whose.skill(208), None);
        assert_eq!(whose.skill(0), None);
    }

    #[test]
    fn a_crash_file_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("crash");
        fs::write(&path, "from before").expect("writes");
        let _file = CrashFile::create(&path).expect("is made");
        assert_eq!(fs::read(&path).expect("is there"), b"");
    }
}
