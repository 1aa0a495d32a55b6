//! The way from an import into the code of a skill that was brought here.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::Loaded;
use crate::abi::{Buffer, DirectOut, Link, Status};
use crate::backend;
use crate::error::Failure;

thread_local! {
    /// How many calls of brought skills this thread is inside of. Without a destructor: to read it is
    /// to read a register and a word.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Tells whether this thread is inside a call of a brought skill.
pub(crate) fn is_inside() -> bool {
    INSIDE.get() > 0
}

/// A call of a brought skill; leaving is its drop.
struct Inside;

impl Inside {
    #[inline]
    fn enter() -> Self {
        INSIDE.set(INSIDE.get() + 1);
        Self
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

/// The way into one skill of one library, for the calls of one session. There is one of a kind, and it
/// is never freed.
pub(crate) struct Entrance {
    /// Says which version serves; only relaxed loads are allowed of it.
    cell: &'static AtomicU64,
    /// The latest version that this library is.
    ticket: AtomicU64,
    /// Whose calls go in here, see [`backend::scope_number`].
    scope: u64,
    library: &'static Loaded,
    index: u32,
    /// The typed entry, or null.
    entry: *const c_void,
}

// SAFETY: `entry` is the address of a function of a library that is never closed, which any thread may
// call. The rest can be shared between threads as it is.
unsafe impl Send for Entrance {}
// SAFETY: as above; but for atomics, nothing of it is ever written.
unsafe impl Sync for Entrance {}

impl Entrance {
    pub(super) fn new(
        cell: &'static AtomicU64,
        scope: u64,
        library: &'static Loaded,
        index: u32,
    ) -> Self {
        Self {
            cell,
            ticket: AtomicU64::new(0),
            scope,
            library,
            index,
            entry: library.entry(index),
        }
    }

    /// Takes note that the library is the version with this ticket.
    pub(super) fn is_version(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Relaxed);
    }

    /// Tells whether a call that this thread makes now may go in: this library is what serves.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        // Relaxed: no other load is sound where the memory can only be read, and nothing is read on
        // account of this one that was not here before.
        let serving = self.cell.load(Ordering::Relaxed);
        // Nobody serves where the cell is 0, whatever else it is compared with.
        serving == self.ticket.load(Ordering::Relaxed)
            && serving != 0
            && self.scope == backend::scope_number()
    }

    /// Calls with encoded arguments.
    pub(crate) fn call(&self, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        let _inside = Inside::enter();
        let mut out = Buffer::default();
        match self.library.call(self.index, arguments, &mut out) {
            Status::Ok => Ok(out.into_vec()),
            Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
        }
    }
}

/// Counts what could lead to an entrance where there was none: what sessions are told, and libraries that
/// have come.
static NEWS: AtomicU64 = AtomicU64::new(0);

/// Has every import look again for its code.
pub(crate) fn is_news() {
    NEWS.fetch_add(1, Ordering::SeqCst);
}

/// Names a look for an entrance, by what was known and in which scope it was made.
fn look() -> u64 {
    // Spread, so that no two of them meet: news and scopes are both small numbers. Never 0 in practice.
    let news = NEWS.load(Ordering::SeqCst).wrapping_add(1);
    news.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ backend::scope_number()
}

/// What an import that asks for the code knows of it.
pub(crate) struct Place {
    /// The last [look](look) that was in vain.
    missed: AtomicU64,
    /// The last entrance that was found.
    any: AtomicPtr<Entrance>,
    /// The same, if the caller's types are those of its typed entry.
    typed: AtomicPtr<Entrance>,
}

impl Place {
    pub(crate) const fn new() -> Self {
        Self {
            missed: AtomicU64::new(0),
            any: AtomicPtr::new(ptr::null_mut()),
            typed: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Finds the way in, if the skill's code is here and serves.
    pub(crate) fn entrance(&self, link: &Link) -> Option<&'static Entrance> {
        // SAFETY: null, or stored below from a reference that is good for ever.
        let known = unsafe { self.any.load(Ordering::Acquire).as_ref() };
        if let Some(known) = known
            && known.is_open()
        {
            return Some(known);
        }
        let look = look();
        if self.missed.load(Ordering::Relaxed) == look {
            return None;
        }
        let found = Self::find(link);
        match found {
            Some(found) => {
                let found = ptr::from_ref(found).cast_mut();
                self.any.store(found, Ordering::Release);
            }
            None => self.missed.store(look, Ordering::Relaxed),
        }
        found
    }

    /// Asks this thread's session.
    fn find(link: &Link) -> Option<&'static Entrance> {
        let backend = backend::current().ok()?;
        let brought = backend.brought(link.name(), link.expected())?;
        let entrance = brought.entrance(link.name(), link.expected())?;
        // If not, the core has another version, and will say so.
        entrance.is_open().then_some(entrance)
    }

    /// Does the same for a typed call.
    #[cold]
    #[inline(never)]
    fn typed<A: DirectOut<R>, R>(&self, link: &Link) -> Option<&'static Entrance> {
        let entrance = self.entrance(link)?;
        let is_typed = !entrance.entry.is_null()
            && entrance.library.id(entrance.index) == Some(link.expected().id)
            && link.agrees::<A, R>();
        if !is_typed {
            return None;
        }
        let found = ptr::from_ref(entrance).cast_mut();
        self.typed.store(found, Ordering::Release);
        Some(entrance)
    }

    /// Calls directly with the modes `A` and the result `R`.
    ///
    /// # Errors
    /// The values again, when there is no direct entry for them here now.
    #[inline]
    pub(crate) fn call_direct<'a, A: DirectOut<R>, R>(
        &self,
        link: &Link,
        values: A::Values<'a>,
    ) -> Result<Result<R, Box<Failure>>, A::Values<'a>> {
        // SAFETY: null, or stored above from a reference that is good for ever.
        let known = unsafe { self.typed.load(Ordering::Acquire).as_ref() };
        let entrance = match known {
            Some(known) if known.is_open() => known,
            _ => match self.typed::<A, R>(link) {
                Some(found) => found,
                None => return Err(values),
            },
        };
        let _inside = Inside::enter();
        // SAFETY: the entry is that of a skill whose signature id was found to equal that of the link's
        // signature, and the types of this import, the only one that this place is part of, agree with
        // that: see `typed`. The library is never closed.
        Ok(unsafe { A::invoke(entrance.entry, values) })
    }
}
