//! Closing libraries while threads that have called into them live on.
//!
//! A library leaves things in threads that point back into it: destructors of thread-locals, values
//! of thread-specific keys, threads of its own. Closing it under them would make a thread jump into
//! nothing, perhaps much later. So what a library leaves is followed, and the library is closed when
//! nothing is left. The library need not help: after it is loaded, the slots through which it calls
//! the system are rewritten ([`image`]) to lead to functions of the host ([`hooks`]), which keep the
//! books ([`Followed`]) and what each thread has to destroy ([`thread`]).
//!
//! The way of a library:
//!
//! 1. [`open`]. If it cannot be followed, [`Followed::gap`] says why, and it is never closed.
//! 2. When no call will begin any more, each thread that has called it and is outside of it calls
//!    [`run_here`] for it; [`holds_here`] says cheaply whether that is of any use. A thread that
//!    ends does so by itself.
//! 3. [`Followed::wait_clear`] tells when nothing is left; [`Followed::clear`] names the threads that hold something.
//! 4. [`Opened::close`] unmaps it and looks whether it is gone. As long as it is not clear, it says
//!    who holds it, and can be called again.
//!
//! What is not followed: what other libraries do on behalf of this one, such as a C library that
//! goes on calling back from a thread of its own. A plugin ends that in its `cleanup`. Such
//! libraries stay mapped themselves.

mod hooks;
mod image;
mod process;
mod record;
mod registry;
#[cfg(test)]
mod tests;
mod thread;
mod watch;

use std::ffi::c_void;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::lock;
use image::Image;
use watch::Watch;

pub(crate) use process::{Tid, name as thread_name};
pub(crate) use record::Followed;
pub(crate) use thread::{holds_here, run_here, starter_here};

/// Libraries are opened and closed one at a time: what changes meanwhile is due to this one.
static LOADING: Mutex<()> = Mutex::new(());

/// A library that was opened, and is followed if it can be. Dropping it does not close it.
pub(crate) struct Opened {
    /// None when it was closed.
    library: Mutex<Option<Library>>,
    followed: Arc<Followed>,
    /// It has asked never to be unmapped.
    stays: bool,
}

/// What became of a library that was to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is gone.
    Unmapped {
        /// How much of it was mapped.
        bytes: u64,
    },
    /// It is still there.
    Retained {
        /// How much of it is mapped.
        bytes: u64,
        /// Why, for people.
        reason: String,
    },
}

/// Opens a library and follows it. Its path must never have been opened before.
///
/// # Errors
///
/// What the system's loader says.
///
/// # Safety
///
/// As for [`Library::open`]: the library's constructors run.
pub(crate) unsafe fn open(path: &Path) -> Result<Opened, libloading::Error> {
    let _one = lock(&LOADING);
    // If it fails, it is said below.
    let prepared = thread::prepare();
    let watch = Watch::begin();
    // SAFETY: the caller's to promise.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?;
    let (library, image) = Image::of(library);
    let range = image.as_ref().map(Image::range).unwrap_or_default();
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let bytes = process::mapped_bytes(&path).unwrap_or_default();
    let stays = image.as_ref().is_ok_and(Image::stays);
    let followed = Arc::new(Followed::new(path, range.clone(), bytes));
    let opened = Opened {
        library: Mutex::new(Some(library)),
        followed,
        stays,
    };
    if let Err(gap) = image.and_then(|image| opened.follow(&image, watch, prepared)) {
        opened.followed.has_gap(gap);
    }
    Ok(opened)
}

impl Opened {
    fn follow(&self, image: &Image, watch: Watch, prepared: bool) -> Result<(), String> {
        let range = image.range();
        if registry::knows(&range) {
            return Err("it is open already, by the same name".into());
        }
        if !prepared {
            return Err("the system has no key left to follow it with".into());
        }
        if self.followed.bytes() == 0 {
            return Err("its file is not found among what is mapped".into());
        }
        let slots = image.slots(hooks::wanted)?;
        registry::add(&self.followed, &range);
        // SAFETY: the slots are the image's, the library is open, and `wanted` names functions that
        // take and return what the system's functions of these names do.
        unsafe { image.write(&slots) }?;
        watch.end(&range)
    }

    /// Returns the books of this library.
    pub(crate) fn followed(&self) -> &Arc<Followed> {
        &self.followed
    }

    /// Looks a symbol up; its address is good until the library is closed.
    ///
    /// # Errors
    ///
    /// What the system's loader says, or that the library is closed.
    pub(crate) fn symbol(&self, name: &[u8]) -> Result<*const c_void, libloading::Error> {
        let library = lock(&self.library);
        let library = library.as_ref().ok_or(libloading::Error::DlSymUnknown)?;
        // SAFETY: only the address is taken.
        let symbol = unsafe { library.get::<*const c_void>(name) }?;
        Ok(symbol.into_raw().cast_const())
    }

    /// Closes the library if it is clear, and says what became of it.
    ///
    /// # Safety
    ///
    /// No call is inside the library or will begin, and nothing that points into it is used again:
    /// no function, no static, no buffer that only it can free.
    pub(crate) unsafe fn close(&self) -> Outcome {
        let mut library = lock(&self.library);
        if library.is_some() {
            if let Some(gap) = self.followed.gap() {
                return self.outcome(|| format!("it cannot be followed: {gap}"));
            }
            if let Err(holding) = self.followed.clear() {
                return self.outcome(|| holding.to_string());
            }
        }
        let mut refused = None;
        if let Some(library) = library.take() {
            let _one = lock(&LOADING);
            self.followed.set_closing();
            hooks::forget_keys(&self.followed);
            // Runs the library's own destructors, on this thread.
            refused = library.close().err();
            // What those have left has no code any more.
            thread::forget_here(&self.followed);
            hooks::forget_keys(&self.followed);
            if !self.followed.is_mapped() {
                registry::remove(&self.followed);
            }
        }
        self.outcome(|| match refused {
            Some(error) => format!("the system's loader does not close it: {error}"),
            None if self.stays => "it was linked to stay (`-z nodelete`)".into(),
            None => "the system's loader keeps it: its constructors have made thread-locals, it \
                     has symbols that are unique in the process, or another library needs it"
                .into(),
        })
    }

    fn outcome(&self, reason: impl FnOnce() -> String) -> Outcome {
        match process::mapped_bytes(self.followed.path()) {
            Some(0) => Outcome::Unmapped {
                bytes: self.followed.bytes(),
            },
            bytes => Outcome::Retained {
                bytes: bytes.unwrap_or(self.followed.bytes()),
                reason: reason(),
            },
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let library = self.library.get_mut();
        // Whether it may be closed is known to those who call `close` alone.
        std::mem::forget(library.unwrap_or_else(PoisonError::into_inner).take());
    }
}
