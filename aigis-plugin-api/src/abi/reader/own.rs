//! This process's own memory, read through the system: an address that is not there is an answer, and
//! not the end of the process.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::Memory;

/// The memory of this process.
pub struct OwnMemory {
    file: File,
    /// Where code stands; `None` where that is not looked at.
    code: Option<Vec<Range<usize>>>,
}

impl OwnMemory {
    /// Opens it to read what a probe has found to be right already: any address passes for code.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/mem")?,
            code: None,
        })
    }

    /// Opens it and notes where code stands now.
    ///
    /// # Errors
    /// The system's.
    pub fn with_code() -> io::Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(Self {
            code: Some(maps.lines().filter_map(code_range).collect()),
            ..Self::new()?
        })
    }
}

/// Reads a line such as `7f01-7f02 r-xp 00000000 08:01 99 /lib/x.so`, if it is about code.
fn code_range(line: &str) -> Option<Range<usize>> {
    let mut words = line.split(' ');
    let (start, end) = words.next()?.split_once('-')?;
    if !words.next()?.contains('x') {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

impl Memory for OwnMemory {
    fn copy(&self, address: usize, out: &mut [u8]) -> bool {
        let read = self.file.read_exact_at(out, address as u64);
        read.is_ok()
    }

    fn is_code(&self, address: usize) -> bool {
        match &self.code {
            Some(ranges) => ranges.iter().any(|range| range.contains(&address)),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_told() {
        let memory = OwnMemory::with_code().expect("opens");
        let text = *b"in this process";
        let mut copy = [0; 15];
        assert!(memory.copy(text.as_ptr().addr(), &mut copy));
        assert_eq!(copy, text);
        for nowhere in [0, 8, usize::MAX - 4, usize::MAX / 2] {
            assert!(!memory.copy(nowhere, &mut copy), "{nowhere:#x}");
        }
    }

    #[test]
    fn code_is_told_from_data() {
        let memory = OwnMemory::with_code().expect("opens");
        assert!(memory.is_code(code_is_told_from_data as fn() as usize));
        let data = Box::new(7);
        assert!(!memory.is_code((&raw const *data).addr()));
        assert!(!memory.is_code(0));
    }
}
