//! Whether this library's global allocator is the C library's.

use std::alloc::{GlobalAlloc, Layout, System, alloc, dealloc};
use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const MALLOC: u8 = 1;
const OTHER: u8 = 2;

static FOUND: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Sizes at the very end of their class in glibc's malloc, small to large: a block that an allocator
/// has made even one byte larger is of the next class, and is not handed out for the smaller one.
const SIZES: [usize; 8] = [24, 56, 120, 248, 504, 1016, 4_088, 65_528];

/// How often another thread may come between for each size.
const ATTEMPTS: usize = 8;

/// Tells whether memory of this library's global allocator is memory of `malloc`, to be freed by
/// whoever has it.
///
/// Nothing in Rust says which allocator a library has, so it is found out once, by what happens: a
/// block is taken from the global allocator and given back, and then `System`, which is `malloc`, is
/// asked for one of that size. If it hands out the same address, then what was given back to the
/// global allocator went to `malloc`, and as it came: nothing before it, nothing behind it. Glibc
/// keeps what a thread has freed in that thread's own last-in-first-out lists, so with `malloc` it
/// is the same address; an allocator with memory of its own, or one that adds a header or a margin,
/// cannot make it so. Where freed memory is kept back (valgrind, sanitizers), or in doubt, the
/// answer is no, and results are copied.
#[inline]
pub(super) fn is_malloc() -> bool {
    match FOUND.load(Ordering::Relaxed) {
        UNKNOWN => find_out(),
        found => found == MALLOC,
    }
}

#[cold]
#[inline(never)]
fn find_out() -> bool {
    let proven = SIZES
        .into_iter()
        .all(|size| (0..ATTEMPTS).any(|_| comes_back(size)));
    // Two threads may both find out. What one of them has proven is true; a no is always safe.
    FOUND.store(if proven { MALLOC } else { OTHER }, Ordering::Relaxed);
    proven
}

/// Tells whether a block that was given back to the global allocator is what `malloc` hands out next.
fn comes_back(size: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(size, align_of::<usize>()) else {
        return false;
    };
    // SAFETY: no size is zero. `black_box` keeps the compiler from leaving the pair out.
    let block = black_box(unsafe { alloc(layout) });
    if block.is_null() {
        return false;
    }
    let address = block.addr();
    // SAFETY: it was allocated above with this layout, and is not used again.
    unsafe { dealloc(block, layout) };
    // SAFETY: no size is zero.
    let next = black_box(unsafe { System.alloc(layout) });
    if next.is_null() {
        return false;
    }
    let same = next.addr() == address;
    // SAFETY: it was allocated above with this layout, and is not used again.
    unsafe { System.dealloc(next, layout) };
    same
}
