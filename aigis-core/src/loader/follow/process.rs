//! What the system tells of this process: its threads, and the files that are mapped into it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A thread's number, as the system counts.
pub(crate) type Tid = i32;

/// Returns the number of the calling thread.
pub(super) fn this_thread() -> Tid {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Returns a thread's name; none if it is gone.
pub(crate) fn name(thread: Tid) -> Option<String> {
    let name = fs::read(format!("/proc/self/task/{thread}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Lists the threads of this process.
pub(super) fn threads() -> BTreeSet<Tid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return BTreeSet::new();
    };
    let numbers = threads
        .flatten()
        .map(|thread| thread.file_name().to_str().and_then(|n| n.parse().ok()));
    numbers.flatten().collect()
}

/// Returns the signals that a thread blocks, the first in the lowest bit; none if it is gone.
pub(super) fn blocked_signals(thread: Tid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let blocked = status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:"))?;
    u64::from_str_radix(blocked.trim(), 16).ok()
}

/// Counts the bytes of this process's memory that are mapped from a file, removed meanwhile or
/// not. None if the system does not tell.
pub(super) fn mapped_bytes(file: &Path) -> Option<u64> {
    let maps = fs::read("/proc/self/maps").ok()?;
    let file = escaped(file.as_os_str().as_bytes());
    let mut bytes = 0;
    for line in maps.split(|&byte| byte == b'\n') {
        let Some((range, name)) = parts(line) else {
            continue;
        };
        if name == file || name.strip_suffix(b" (deleted)") == Some(&file) {
            bytes += size(range)?;
        }
    }
    Some(bytes)
}

/// Splits `range perms offset dev inode   path`; the path may have spaces of its own.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (range, mut rest) = split(line)?;
    for _ in 0..3 {
        (_, rest) = split(rest)?;
    }
    let (_, path) = split(rest)?;
    Some((range, path.trim_ascii_start()))
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

fn size(range: &[u8]) -> Option<u64> {
    let (from, to) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    number(to)?.checked_sub(number(from)?)
}

/// The system writes a line end in a path as `\012`, and nothing else differently.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'\n' => escaped.extend_from_slice(b"\\012"),
            _ => escaped.push(byte),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_maps_is_taken_apart() {
        let line = b"7f00-9f00 r-xp 00000000 fe:00 1234       /a b/c.so (deleted)";
        let (range, path) = parts(line).expect("has a path");
        assert_eq!(size(range), Some(0x2000));
        assert_eq!(path, b"/a b/c.so (deleted)");
        assert_eq!(parts(b"7f00-9f00 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn the_running_program_is_mapped_and_a_stranger_is_not() {
        let program = std::env::current_exe().expect("has a path");
        assert!(mapped_bytes(&program).expect("readable") > 0);
        assert_eq!(mapped_bytes(Path::new("/no/such.so")), Some(0));
    }
}
