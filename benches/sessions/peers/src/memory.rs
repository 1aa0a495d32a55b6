//! Two threads that spin on memory that both processes share: what the machine itself needs, without any of what makes
//! a call. One caller, bodies of 64 bytes.

#![expect(unsafe_code, reason = "memory that another process writes to as well")]

use std::fs::OpenOptions;
use std::hint;
use std::path::Path;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use memmap2::{MmapOptions, MmapRaw};

use crate::Failed;
use crate::laps::{self, Order};
use crate::orders::obey;
use crate::polling;

/// How many words a body has.
const BODY: usize = 8;
/// Where the words of a line of the cache are no neighbours of the next one's.
const LINE: usize = 16;
/// Where what stands; in words.
const ASKED: usize = 0;
const REQUEST: usize = LINE;
const ANSWERED: usize = 2 * LINE;
const ANSWER: usize = 3 * LINE;
/// The size of the whole.
const WORDS: usize = 4 * LINE;

struct Memory(MmapRaw);

impl Memory {
    fn open(place: &Path) -> Result<Self, Failed> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(place)?;
        let size = WORDS * size_of::<AtomicU64>();
        file.set_len(size as u64)?;
        Ok(Self(MmapOptions::new().len(size).map_raw(&file)?))
    }

    fn words(&self) -> &[AtomicU64] {
        let start = self.0.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping has so many words, begins at a page, and lives as long as `self`; both processes touch it
        // as atomics only, and nobody makes the file shorter.
        unsafe { slice::from_raw_parts(start, WORDS) }
    }
}

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    let memory = Memory::open(place)?;
    polling::obey(move || {
        let words = memory.words();
        let asked = words[ASKED].load(Ordering::Acquire);
        if asked == words[ANSWERED].load(Ordering::Relaxed) {
            hint::spin_loop();
            return Ok(());
        }
        for word in 0..BODY {
            let value = words[REQUEST + word].load(Ordering::Relaxed);
            words[ANSWER + word].store(value, Ordering::Relaxed);
        }
        words[ANSWERED].store(asked, Ordering::Release);
        Ok(())
    })
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    let memory = Memory::open(place)?;
    let words = memory.words();
    obey(|order| {
        let order: Order = order.parse()?;
        if order.callers != 1 || order.bytes != BODY * size_of::<u64>() {
            return Err("two spinning threads exchange 64 bytes, one caller".into());
        }
        let tally = laps::blocking(&order, |laps| {
            let mut answer = Vec::with_capacity(order.bytes);
            while laps.another() {
                let begun = Instant::now();
                let (chunks, _) = laps.body().as_chunks();
                for (word, chunk) in words[REQUEST..].iter().zip(chunks) {
                    word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
                }
                let number = words[ASKED].load(Ordering::Relaxed) + 1;
                words[ASKED].store(number, Ordering::Release);
                while words[ANSWERED].load(Ordering::Acquire) != number {
                    hint::spin_loop();
                }
                answer.clear();
                for word in &words[ANSWER..ANSWER + BODY] {
                    answer.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
                laps.count(begun, &answer)?;
            }
            Ok(())
        });
        Ok(tally?.to_string())
    })
}
