//! Borrowed and owned sequences that cross the boundary.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};

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
    pub const fn of(items: &'a [T]) -> Self {
        Self {
            start: items.as_ptr(),
            len: items.len(),
            lifetime: PhantomData,
        }
    }

    /// Returns the items.
    pub fn as_slice(self) -> &'a [T] {
        // SAFETY: the private fields are filled by `of` alone, on this side or in a
        // library whose ABI version and layout the loader has checked: `start` is valid for `len`
        // items during `'a`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

pub(super) const SLICE: Fields = fields!("Slice", Slice<'static, u8> { start, len });
pub(super) const TEXT: Fields = fields!("Text", Text<'static> { bytes });
pub(super) const LIST: Fields = fields!("List", List<u8> { start, len, capacity, drop });

/// Borrowed bytes.
pub type Bytes<'a> = Slice<'a, u8>;

/// Borrowed UTF-8 text, as `&str` is, with a fixed layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text<'a> {
    bytes: Slice<'a, u8>,
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text)
    }
}

impl<'a> Text<'a> {
    /// Borrows `text`.
    pub const fn new(text: &'a str) -> Self {
        Self {
            bytes: Slice::of(text.as_bytes()),
        }
    }

    /// Returns the text.
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

/// An owned run of `T` that is freed by whoever made it.
#[repr(C)]
pub struct List<T> {
    start: *mut T,
    len: usize,
    capacity: usize,
    drop: unsafe extern "C" fn(start: *mut T, len: usize, capacity: usize),
}

/// Owned bytes: an encoded value or an encoded error.
pub type Buffer = List<u8>;

/// Frees a list that this library made.
///
/// # Safety
/// The three arguments are those of a `Vec<T>` that this library took apart, and this is the only
/// call for it.
unsafe extern "C" fn drop_list<T>(start: *mut T, len: usize, capacity: usize) {
    // SAFETY: the caller passes the parts of a `Vec<T>` of this library, once.
    drop(unsafe { Vec::from_raw_parts(start, len, capacity) });
}

// SAFETY: a `List<T>` owns its items as a `Vec<T>` does; `drop` is a function without state.
unsafe impl<T: Send> Send for List<T> {}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        let mut items = ManuallyDrop::new(items);
        Self {
            start: items.as_mut_ptr(),
            len: items.len(),
            capacity: items.capacity(),
            drop: drop_list::<T>,
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
    #[cfg(any(feature = "host", test))]
    pub(super) fn parts(&self) -> (usize, usize) {
        (self.start.addr(), self.len)
    }

    /// Returns the items.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `From<Vec<T>>` alone makes a list, so `start` is valid for `len` items until the
        // list is dropped.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Moves every item out into a `Vec` of this library, through `each`; the maker's memory is
    /// freed afterwards.
    pub fn into_vec_with<U>(mut self, mut each: impl FnMut(T) -> U) -> Vec<U> {
        let len = mem::take(&mut self.len);
        let mut out = Vec::with_capacity(len);
        for index in 0..len {
            // SAFETY: `index` is below the length the list had. The length was set to zero before
            // the first read, so whatever `each` does, `drop` frees the memory and no item twice.
            let item = unsafe { self.start.add(index).read() };
            out.push(each(item));
        }
        out
    }
}

impl List<u8> {
    /// Copies the bytes into a `Vec` of this library and frees the maker's.
    pub fn into_vec(self) -> Vec<u8> {
        self.as_slice().to_vec()
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        // SAFETY: the fields are the parts of the `Vec<T>` the list was made from, `drop` is the
        // function of the library that made it, and a value is dropped once.
        unsafe { (self.drop)(self.start, self.len, self.capacity) }
    }
}
