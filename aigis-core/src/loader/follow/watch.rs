//! What a library's constructors do while it is opened, before its slots can be rewritten.
//!
//! Three things are looked at, because they would outlive the library unseen:
//!
//! - Threads. A new thread inherits the blocked signals of the one that starts it, so one signal
//!   that nobody else blocks is blocked meanwhile, and new threads that block it were started by
//!   the constructors (or by threads of theirs). A thread that unblocks it again is not seen.
//! - Keys. The system hands out the lowest free key, so a constructor that makes one raises it. Keys
//!   that followed libraries make meanwhile are known; a key that they delete meanwhile, or any other
//!   movement, counts against the library. One case is not seen: if code that nobody follows makes a
//!   key and deletes it again during the few microseconds, with the constructor's own in between.
//! - Destructors of thread-locals need no look: the system then keeps the library mapped by itself
//!   until the thread has ended.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use libloading::os::unix::{Library, RTLD_NOW};
use nix::libc;

use super::image::Object;
use super::process::{self, Tid};
use super::{hooks, image, registry};

/// How long a thread may need to begin or to end, on a machine with much to do.
const MOMENT: Duration = Duration::from_millis(200);

/// Who blocks as many of the 64 signals does not do so by inheritance.
const NEARLY_ALL: u32 = 48;

/// Looks at the process from before a library is opened until after.
pub(super) struct Watch {
    threads: BTreeSet<Tid>,
    lowest_key: Option<libc::pthread_key_t>,
    deleted: u64,
    objects: Vec<Object>,
    mark: Mark,
}

impl Watch {
    pub(super) fn begin() -> Watch {
        Watch {
            objects: image::objects(),
            mark: Mark::set(),
            threads: process::threads(),
            deleted: hooks::deleted_keys(),
            lowest_key: lowest_key(),
        }
    }

    /// Says what makes it impossible to follow the library, and keeps what was mapped with it: other
    /// libraries know nothing of being closed.
    pub(super) fn end(self, library: &Range<usize>) -> Result<(), String> {
        self.keys()?;
        self.threads()?;
        self.keep_others(library)
    }

    fn keys(&self) -> Result<(), String> {
        let Some(before) = self.lowest_key else {
            return Err("the system has no key left to look with".into());
        };
        let (after, explained) = registry::with_keys(|followed| {
            let after = lowest_key().unwrap_or_default();
            let explained = before <= after && (before..after).all(followed);
            (after, explained)
        });
        if explained && hooks::deleted_keys() == self.deleted {
            return Ok(());
        }
        Err(format!(
            "its constructors may have made thread-specific keys: the lowest free one was \
             {before} before and is {after} now"
        ))
    }

    fn threads(&self) -> Result<(), String> {
        let new = process::threads();
        let mut new = new.difference(&self.threads);
        let started = new.find(|&&thread| self.mark.is_on(thread));
        match started {
            None => Ok(()),
            Some(&thread) => Err(format!(
                "its constructors have started the thread `{}`",
                process::name(thread).unwrap_or_default()
            )),
        }
    }

    fn keep_others(&self, library: &Range<usize>) -> Result<(), String> {
        for object in image::objects() {
            let known = |other: &Object| other.base == object.base && other.name == object.name;
            if library.contains(&object.base) || self.objects.iter().any(known) {
                continue;
            }
            let flags = RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            let name = object.name.to_string_lossy();
            // SAFETY: the object is loaded, so no code of it runs; it only becomes one that stays.
            let kept = unsafe { Library::open(Some(&*name), flags) };
            if let Err(error) = kept {
                return Err(format!("`{name}` came with it and cannot be kept: {error}"));
            }
        }
        Ok(())
    }
}

/// Makes a key and deletes it.
fn lowest_key() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: a place for the key, and no destructor.
    if unsafe { libc::pthread_key_create(&raw mut key, None) } != 0 {
        return None;
    }
    // SAFETY: the key was made above, and nobody else knows it.
    unsafe { libc::pthread_key_delete(key) };
    Some(key)
}

/// A signal that this thread blocks for the time being.
struct Mark {
    signal: i32,
    before: libc::sigset_t,
}

impl Mark {
    fn set() -> Mark {
        // valgrind keeps the last one for itself.
        let signal = libc::SIGRTMAX() - 1;
        let mut set = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: the first call makes the set whole, the second adds to it, the third reads it and
        // writes the mask that was there: it cannot fail with these arguments.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        }
        // SAFETY: written by the third call.
        let before = unsafe { before.assume_init() };
        Mark { signal, before }
    }

    /// Tells whether a thread has inherited the signal. While a thread begins or ends, the system
    /// blocks all of its signals for a moment; whoever blocks them for longer counts as marked.
    fn is_on(&self, thread: Tid) -> bool {
        let begun = Instant::now();
        loop {
            let blocked = process::blocked_signals(thread).unwrap_or_default();
            if blocked >> (self.signal - 1) & 1 == 0 {
                return false;
            }
            if blocked.count_ones() < NEARLY_ALL || begun.elapsed() > MOMENT {
                return true;
            }
            thread::yield_now();
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
    }
}
