//! Whether this library's global allocator is the C library's.

use std::alloc::{GlobalAlloc, Layout, System, alloc, dealloc};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks of up to so many bytes are `malloc`'s: one less than a power of two.
static PROVEN: AtomicUsize = AtomicUsize::new(0);
/// Blocks of so many bytes or more are not, or it could not be shown.
static FAILED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// How often a block is looked for: another thread may come between.
const ATTEMPTS: usize = 32;

/// Tells whether memory for `capacity` items of this library's global allocator is memory of `malloc`,
/// to be freed by whoever has it.
///
/// Nothing in Rust says which allocator a library has, so it is found out, once for the sizes from one
/// power of two to the next, by what happens: a block is taken from the global allocator and given back, and
/// then `System`, which is `malloc`, is asked for one of that size. If it hands out the same address,
/// then what was given back to the global allocator went to `malloc`, and as it came: nothing before
/// it, nothing behind it. Glibc hands out first what was freed last, so with `malloc` it is the same
/// address; an allocator with memory of its own, or one that adds a header or a margin, cannot make it
/// so. Where freed memory is kept back (valgrind, sanitizers), or in doubt, the answer is no, and
/// results are copied.
#[inline]
pub(super) fn is_malloc<T>(capacity: usize) -> bool {
    // It cannot overflow: a `Vec` of that capacity exists.
    let bytes = capacity.wrapping_mul(size_of::<T>());
    align_of::<T>() <= align_of::<u128>()
        && (bytes <= PROVEN.load(Ordering::Relaxed) || find_out(bytes))
}

#[cold]
#[inline(never)]
fn find_out(bytes: usize) -> bool {
    loop {
        let proven = PROVEN.load(Ordering::Relaxed);
        if bytes <= proven {
            return true;
        }
        let least = proven + 1;
        if least >= FAILED.load(Ordering::Relaxed) {
            return false;
        }
        // At both ends of the range, and at the very end of a class of glibc's malloc: a block that an
        // allocator has made even one byte larger is of the next class, and is not handed out for the
        // smaller one.
        let end = least.saturating_mul(2);
        let most = end.saturating_sub(8).max(24);
        let shown = [least, most]
            .into_iter()
            .all(|size| (0..ATTEMPTS).any(|_| comes_back(size)));
        // Two threads may both find out. What one of them has shown is true; a no is always safe.
        if shown {
            PROVEN.fetch_max(end - 1, Ordering::Relaxed);
        } else {
            FAILED.fetch_min(least, Ordering::Relaxed);
        }
    }
}

/// Tells whether a block that was given back to the global allocator is what `malloc` hands out next.
fn comes_back(size: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(size, align_of::<usize>()) else {
        return false;
    };
    // The blocks on both sides stay: one that is freed next to free memory becomes a part of it.
    // SAFETY: no size is zero. `black_box` keeps the compiler from leaving anything out.
    let blocks = [(); 3].map(|()| black_box(unsafe { alloc(layout) }));
    let [before, block, after] = blocks;
    if blocks.iter().any(|block| block.is_null()) {
        for block in blocks.into_iter().filter(|block| !block.is_null()) {
            // SAFETY: it was allocated above with this layout, and is not used again.
            unsafe { dealloc(block, layout) };
        }
        return false;
    }
    let address = block.addr();
    // SAFETY: as above.
    unsafe { dealloc(block, layout) };
    // SAFETY: no size is zero.
    let next = black_box(unsafe { System.alloc(layout) });
    let same = next.addr() == address;
    if !next.is_null() {
        // SAFETY: it was allocated above with this layout, and is not used again.
        unsafe { System.dealloc(next, layout) };
    }
    for block in [before, after] {
        // SAFETY: as above.
        unsafe { dealloc(block, layout) };
    }
    same
}
