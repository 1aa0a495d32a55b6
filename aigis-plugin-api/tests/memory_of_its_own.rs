//! A library with a global allocator whose blocks are not `malloc`'s: nothing is adopted.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;
mod memory;

use std::alloc::{GlobalAlloc, Layout, System};

/// Puts a mark before every block and looks for it when the block comes back: a block that was never
/// handed out here, or that went to `free` past it, stops the test.
struct Marking;

#[global_allocator]
static ALLOCATOR: Marking = Marking;

const MARK: u64 = 0x6169_6769_735f_6d6b;

/// The layout with room for the mark before the block, and how far the block is from its start.
fn widened(layout: Layout) -> (Layout, usize) {
    let before = layout.align().max(16);
    let wide = Layout::from_size_align(layout.size() + before, before).expect("a small block");
    (wide, before)
}

// SAFETY: each block lies inside one of `System`'s, which is large enough and aligned for it.
unsafe impl GlobalAlloc for Marking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (wide, before) = widened(layout);
        // SAFETY: the size is not zero; the mark and the block fit into what is allocated.
        unsafe {
            let start = System.alloc(wide);
            if start.is_null() {
                return start;
            }
            memory::count(1);
            start.cast::<u64>().write(MARK);
            start.add(before)
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (wide, before) = widened(layout);
        // SAFETY: the block came from `alloc`, so the mark stands before it.
        unsafe {
            let start = block.sub(before);
            if start.cast::<u64>().read() != MARK {
                std::process::abort();
            }
            start.cast::<u64>().write(0);
            memory::count(-1);
            System.dealloc(start, wide);
        }
    }
}

#[test]
fn results_are_copied_and_every_block_is_freed() {
    memory::check(false);
}
