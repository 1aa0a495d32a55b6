//! Borrowed and owned sequences that cross the boundary.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::allocator::is_malloc;
use super::layout::{Fields, fields};

/// A borrowed run of `T`, as `&[T]` is, with a fixed layout.
#[repr(C)]
pub struct Slice<'a, T> {
    start: *const T,
    len: usize,
    lifetime: PhantomData<&'a T>,
}

impl<T> Clone for Slice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<'_, T> {}

impl<'a, T> From<&'a [T]> for Slice<'a, T> {
    #[inline]
    fn from(items: &'a [T]) -> Self {
        Self::of(items)
    }
}

// SAFETY: it is a `&[T]`.
unsafe impl<T: Sync> Send for Slice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slice<'_, T> {}

impl<'a, T> Slice<'a, T> {
    /// Borrows `items`.
    #[inline]
    pub const fn of(items: &'a [T]) -> Self {
        Self {
            start: items.as_ptr(),
            len: items.len(),
            lifetime: PhantomData,
        }
    }

    /// Returns the items.
    #[inline]
    pub fn as_slice(self) -> &'a [T] {
        // SAFETY: the private fields are filled by `of` alone, on this side or in a
        // library whose ABI version and layout the loader has checked: `start` is valid for `len`
        // items during `'a`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

pub(super) const SLICE: Fields = fields!("Slice", Slice<'static, u8> { start, len });
pub(super) const TEXT: Fields = fields!("Text", Text<'static> { bytes });
pub(super) const LIST: Fields = fields!("List", List<u8> { start, len, capacity, free });

/// Borrowed bytes.
pub type Bytes<'a> = Slice<'a, u8>;

/// Borrowed UTF-8 text, as `&str` is, with a fixed layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text<'a> {
    bytes: Slice<'a, u8>,
}

impl<'a> From<&'a str> for Text<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self::new(text)
    }
}

impl<'a> Text<'a> {
    /// Borrows `text`.
    #[inline]
    pub const fn new(text: &'a str) -> Self {
        Self {
            bytes: Slice::of(text.as_bytes()),
        }
    }

    /// Returns the text.
    #[inline]
    pub fn as_str(self) -> &'a str {
        // SAFETY: `new` alone fills the private field, here or in a checked library, so
        // the bytes started life as a `&str`.
        unsafe { std::str::from_utf8_unchecked(self.bytes.as_slice()) }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// An owned run of `T`.
#[repr(C)]
pub struct List<T> {
    start: *mut T,
    len: usize,
    capacity: usize,
    /// Frees it, items and all. Without it the memory is `malloc`'s: whoever has the list may free it
    /// or make it a `Vec` of its own.
    free: Option<Free<T>>,
}

type Free<T> = unsafe extern "C" fn(start: *mut T, len: usize, capacity: usize);

/// Owned bytes: an encoded value or an encoded error.
pub type Buffer = List<u8>;

/// Frees a list that this library made.
///
/// # Safety
/// The three arguments are those of a `Vec<T>` that this library took apart, and this is the only
/// call for it.
unsafe extern "C" fn free_list<T>(start: *mut T, len: usize, capacity: usize) {
    // SAFETY: the caller passes the parts of a `Vec<T>` of this library, once.
    drop(unsafe { Vec::from_raw_parts(start, len, capacity) });
}

// SAFETY: a `List<T>` owns its items as a `Vec<T>` does; `free` is a function without state.
unsafe impl<T: Send> Send for List<T> {}

impl<T> From<Vec<T>> for List<T> {
    #[inline]
    fn from(items: Vec<T>) -> Self {
        let mut items = ManuallyDrop::new(items);
        Self {
            start: items.as_mut_ptr(),
            len: items.len(),
            capacity: items.capacity(),
            free: if is_malloc::<T>(items.capacity()) {
                None
            } else {
                Some(free_list::<T>)
            },
        }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> List<T> {
    /// Returns the address and the number of the items, unseen.
    #[cfg(any(feature = "host", feature = "portable", test))]
    pub(super) fn parts(&self) -> (usize, usize) {
        (self.start.addr(), self.len)
    }

    /// Returns the items.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `From<Vec<T>>` alone makes a list, so `start` is valid for `len` items until the
        // list is dropped.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Makes a `Vec` of this library of it: the same memory, where both sides have `malloc`'s, else a
    /// copy.
    #[inline]
    pub fn into_vec(self) -> Vec<T> {
        // Part by part, so that a list that has just been written part by part is not read as a whole,
        // which would wait for the writes.
        let this = ManuallyDrop::new(self);
        let (start, len, capacity, free) = (this.start, this.len, this.capacity, this.free);
        if free.is_none() && is_malloc::<T>(capacity) {
            // SAFETY: the parts are those of a `Vec<T>` whose memory is `malloc`'s, made with the
            // layout that this side computes too. This library's global allocator hands on to
            // `malloc` and `free` unchanged (`is_malloc`), so it can free and grow the memory as
            // if it had allocated it. `this` is not dropped, so it has one owner.
            return unsafe { Vec::from_raw_parts(start, len, capacity) };
        }
        copied(start, len, capacity, free)
    }
}

/// Moves the items of a list that has been taken apart into memory of this library, and frees the
/// maker's.
#[cold]
#[inline(never)]
fn copied<T>(
    start: *mut T,
    len: usize,
    capacity: usize,
    free: Option<unsafe extern "C" fn(*mut T, usize, usize)>,
) -> Vec<T> {
    // Its items are moved out below; what is left is to free the memory, and no item.
    let memory = List {
        start,
        len: 0,
        capacity,
        free,
    };
    let mut items = Vec::with_capacity(len);
    // SAFETY: `start` is valid for the `len` items the list had, and `items` has room for as many.
    unsafe {
        std::ptr::copy_nonoverlapping(start, items.as_mut_ptr(), len);
        items.set_len(len);
    }
    drop(memory);
    items
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the fields are the parts of the `Vec<T>` the list was made from, `free` is the
            // function of the library that made it, and a value is dropped once.
            return unsafe { free(self.start, self.len, self.capacity) };
        }
        if is_malloc::<T>(self.capacity) {
            // SAFETY: as in `into_vec`; a value is dropped once.
            return drop(unsafe { Vec::from_raw_parts(self.start, self.len, self.capacity) });
        }
        let items = std::ptr::slice_from_raw_parts_mut(self.start, self.len);
        // SAFETY: the list owns its items, and nobody uses them after this.
        unsafe { items.drop_in_place() };
        if let Ok(layout) = Layout::array::<T>(self.capacity)
            && layout.size() > 0
        {
            // SAFETY: the memory is `malloc`'s, as `free` being absent says, and so is `System`'s; a
            // `Vec` of this capacity was allocated with this layout.
            unsafe { System.dealloc(self.start.cast(), layout) };
        }
    }
}
