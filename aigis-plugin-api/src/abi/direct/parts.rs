//! What direct forms are built of: `repr(C)` types that know how to become Rust's own.

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};

use super::Crossing;
use crate::abi::layout::{Fields, fields};
use crate::abi::{List, Status};

/// An `Option` with a fixed layout.
#[repr(C)]
pub(super) struct Opt<T> {
    some: u8,
    value: MaybeUninit<T>,
}

impl<T> From<Option<T>> for Opt<T> {
    #[inline]
    fn from(option: Option<T>) -> Self {
        match option {
            Some(value) => Self {
                some: 1,
                value: MaybeUninit::new(value),
            },
            None => Self {
                some: 0,
                value: MaybeUninit::uninit(),
            },
        }
    }
}

impl<T> From<Opt<T>> for Option<T> {
    #[inline]
    fn from(opt: Opt<T>) -> Self {
        let opt = ManuallyDrop::new(opt);
        // SAFETY: the private fields are filled by `From<Option<T>>` alone, here or in a checked
        // library: the value is there when `some` is not zero. It is read once: `opt` is not dropped.
        (opt.some != 0).then(|| unsafe { opt.value.assume_init_read() })
    }
}

impl<T> Drop for Opt<T> {
    #[inline]
    fn drop(&mut self) {
        if self.some != 0 {
            // SAFETY: as above, the value is there; whoever reads it out does not drop `self`.
            unsafe { self.value.assume_init_drop() }
        }
    }
}

/// Two values with a fixed layout.
#[repr(C)]
pub struct Both<A, B> {
    /// The one.
    pub first: A,
    /// The other.
    pub second: B,
}

/// One of two values; the Rust side of [`Choice`].
pub enum Either<A, B> {
    /// The one.
    Left(A),
    /// The other.
    Right(B),
}

/// One of two values with a fixed layout.
#[repr(C)]
pub struct Choice<A, B> {
    right: u8,
    side: Side<A, B>,
}

#[repr(C)]
union Side<A, B> {
    left: ManuallyDrop<A>,
    right: ManuallyDrop<B>,
}

impl<A, B> Choice<A, B> {
    /// Chooses the one.
    #[inline]
    pub fn left(value: A) -> Self {
        Self {
            right: 0,
            side: Side {
                left: ManuallyDrop::new(value),
            },
        }
    }

    /// Chooses the other.
    #[inline]
    pub fn right(value: B) -> Self {
        Self {
            right: 1,
            side: Side {
                right: ManuallyDrop::new(value),
            },
        }
    }

    /// Returns what was chosen.
    #[inline]
    pub fn either(self) -> Either<A, B> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `left` and `right` alone make a choice, here or in a checked library, and `right`
        // says which side was filled. It is taken once: `this` is not dropped.
        unsafe {
            if this.right == 0 {
                Either::Left(ManuallyDrop::take(&mut this.side.left))
            } else {
                Either::Right(ManuallyDrop::take(&mut this.side.right))
            }
        }
    }
}

impl<A, B> Drop for Choice<A, B> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as above, `right` says which side is filled; whoever takes it does not drop `self`.
        unsafe {
            if self.right == 0 {
                ManuallyDrop::drop(&mut self.side.left);
            } else {
                ManuallyDrop::drop(&mut self.side.right);
            }
        }
    }
}

/// An array; a type of its own, because C passes bare arrays as pointers.
#[repr(C)]
pub(super) struct Row<T, const N: usize> {
    /// The items.
    pub items: [T; N],
}

/// Owned text.
#[repr(C)]
pub(super) struct OwnText {
    bytes: List<u8>,
}

impl From<String> for OwnText {
    #[inline]
    fn from(text: String) -> Self {
        Self {
            bytes: text.into_bytes().into(),
        }
    }
}

impl From<OwnText> for String {
    #[inline]
    fn from(text: OwnText) -> Self {
        // SAFETY: the private field is filled by `From<String>` alone, here or in a checked library.
        unsafe { Self::from_utf8_unchecked(text.bytes.into_vec()) }
    }
}

/// Writes item `index` of a run; see [`Run`].
type Get<L> = unsafe extern "C" fn(data: *const (), index: usize, out: *mut L);

/// A lent run of values, each lent as an `L`.
///
/// The lender makes each item's `L` when it is asked for it, so it allocates nothing for them.
#[repr(C)]
pub struct Run<'a, L> {
    data: *const (),
    len: usize,
    /// Without it, `data` is where the `L`s themselves are.
    get: Option<Get<L>>,
    lifetime: PhantomData<&'a L>,
}

impl<'a, L: Copy> Run<'a, L> {
    /// Lends items that are their own form.
    #[inline]
    pub(super) fn plain(items: &'a [L]) -> Self {
        Self {
            data: items.as_ptr().cast(),
            len: items.len(),
            get: None,
            lifetime: PhantomData,
        }
    }
}

impl<'a, L> Run<'a, L> {
    /// Lends items that `C` lends one by one.
    #[inline]
    pub(super) fn each<T: 'static, C: Crossing<T, Lent<'a> = L>>(items: &'a [T]) -> Self {
        unsafe extern "C" fn get<'a, T: 'static, L, C: Crossing<T, Lent<'a> = L>>(
            data: *const (),
            index: usize,
            out: *mut L,
        ) {
            // SAFETY: `data` is the start of the slice that was lent for `'a`, and `index` is below
            // its length: `Run::collect`, the only caller, keeps to it.
            let item: &'a T = unsafe { &*data.cast::<T>().add(index) };
            // SAFETY: `out` is a place for one `Lent`.
            unsafe { out.write(C::lend(item)) };
        }

        Self {
            data: items.as_ptr().cast(),
            len: items.len(),
            get: Some(get::<'a, T, L, C>),
            lifetime: PhantomData,
        }
    }

    /// Returns the items where they are their own form and lie side by side.
    #[inline]
    pub(super) fn as_plain(&self) -> Option<&'a [L]> {
        if self.get.is_some() {
            return None;
        }
        // SAFETY: without `get` the private fields are those of a `&'a [L]`: `plain` alone makes such
        // a run, here or in a checked library.
        Some(unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) })
    }

    /// Collects the items, each through `take`.
    pub(super) fn collect<T>(self, mut take: impl FnMut(L) -> T) -> Vec<T> {
        let item = |index: usize| match self.get {
            Some(get) => {
                let mut out = MaybeUninit::uninit();
                // SAFETY: `index` is below `len`, and `out` is a place for one `L`.
                unsafe { get(self.data, index, out.as_mut_ptr()) };
                // SAFETY: `get` has written it.
                unsafe { out.assume_init() }
            }
            // SAFETY: the items lie side by side, and are `Copy`: see `plain`.
            None => unsafe { self.data.cast::<L>().add(index).read() },
        };
        (0..self.len).map(|index| take(item(index))).collect()
    }
}

/// What a typed entry returns; small ones fit into registers.
#[repr(C)]
pub(super) struct Returned<T> {
    /// [`Status::Ok`] with the value, or [`Status::Failed`] with an error in the buffer.
    pub(super) status: Status,
    pub(super) value: MaybeUninit<T>,
}

pub(in crate::abi) const LAYOUTS: [Fields; 7] = [
    fields!("Opt", Opt<u64> { some, value }),
    fields!("Both", Both<u8, u64> { first, second }),
    fields!("Choice", Choice<u8, u64> { right, side }),
    fields!("Row", Row < u32, 3 > { items }),
    fields!("OwnText", OwnText { bytes }),
    fields!("Run", Run<'static, u64> { data, len, get }),
    fields!("Returned", Returned<u64> { status, value }),
];
