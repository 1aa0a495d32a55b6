//! A library without AIGIS, opened by name and symbol: what calls of skills are measured against.

use std::alloc::System;
use std::hint::black_box;
use std::panic::catch_unwind;

use abi_stable::std_types::{RStr, RString};

/// Is `malloc`: so whoever adopts a buffer gives it to `free`.
#[global_allocator]
static ALLOCATOR: System = System;

/// A text whose buffer goes over to the caller.
#[repr(C)]
#[derive(Debug)]
pub struct Text {
    /// Where it begins, or null.
    pub start: *mut u8,
    /// Its bytes.
    pub length: usize,
}

/// Adds.
#[unsafe(no_mangle)]
pub extern "C" fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// Adds behind a barrier for panics.
#[unsafe(no_mangle)]
pub extern "C" fn add_caught(a: u64, b: u64) -> u64 {
    catch_unwind(|| add_or_panic(a, b)).unwrap_or(0)
}

/// Greets; the caller frees the buffer.
///
/// # Safety
/// `start` points to `length` bytes of UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn greet(start: *const u8, length: usize) -> Text {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    // SAFETY: as above.
    let name = unsafe { str::from_utf8_unchecked(bytes) };
    let mut text = std::mem::ManuallyDrop::new(compose(name));
    Text {
        start: text.as_mut_ptr(),
        length: text.len(),
    }
}

/// Greets, with abi_stable's texts.
#[unsafe(no_mangle)]
pub extern "C" fn greet_rstring(name: RStr<'_>) -> RString {
    compose(name.as_str()).into()
}

/// May panic, as far as the compiler knows, and is a call: else there would be nothing to catch.
#[inline(never)]
fn add_or_panic(a: u64, b: u64) -> u64 {
    assert_ne!(black_box(a), u64::MAX, "too large");
    a.wrapping_add(b)
}

/// What the skill of the same name does.
fn compose(name: &str) -> String {
    let mut text = String::with_capacity("Hello, !".len() + name.len());
    text.push_str("Hello, ");
    text.push_str(name);
    text.push('!');
    text
}
