//! A library without AIGIS: what calls of skills are measured against.

use std::ffi::c_void;
use std::path::Path;

use abi_stable::std_types::{RStr, RString};
use libloading::{Error, Library};

/// The functions of the peer. They are called through pointers that the compiler cannot see through, as everything is
/// that comes out of a library.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) add: extern "C" fn(u64, u64) -> u64,
    pub(crate) add_caught: extern "C" fn(u64, u64) -> u64,
    pub(crate) greet_rstring: extern "C" fn(RStr<'_>) -> RString,
    greet: unsafe extern "C" fn(*const u8, usize) -> Text,
}

/// A text whose buffer came from the peer's `malloc`.
#[repr(C)]
pub(crate) struct Text {
    start: *mut u8,
    length: usize,
}

unsafe extern "C" {
    fn free(start: *mut c_void);
}

impl Peer {
    /// Opens it, for good.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // SAFETY: it is built by the benchmark, and has no constructors of its own.
        let library = unsafe { Library::new(path) }?;
        // Never closed: the pointers below are valid for good.
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: these are the types that `benches/peer` declares for these names.
        unsafe {
            Ok(Self {
                add: *library.get("add")?,
                add_caught: *library.get("add_caught")?,
                greet_rstring: *library.get("greet_rstring")?,
                greet: *library.get("greet")?,
            })
        }
    }

    /// Greets; the buffer is taken over, not copied.
    pub(crate) fn greet(&self, name: &str) -> Text {
        // SAFETY: pointer and length are those of a text.
        unsafe { (self.greet)(name.as_ptr(), name.len()) }
    }
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        // SAFETY: `Peer::greet` alone makes these, out of what the peer returned: a whole text.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.length) };
        // SAFETY: as above.
        unsafe { str::from_utf8_unchecked(bytes) }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: the buffer came from the peer's `malloc`, and is nobody else's.
        unsafe { free(self.start.cast()) };
    }
}
