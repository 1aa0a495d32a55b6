//! One way of a ring: a circle of words that one side fills and the other empties.
//!
//! A message is a word with its length, its bytes, and zeros up to the next word. It may go on at the
//! start of the words when it has reached their end. `produced` and `consumed` count the bytes that
//! were ever put and taken. Each is stored by one side alone, which keeps its own copy and never reads
//! it back: the other side may write anything anywhere, at any time.
//!
//! All that both sides reach are words that are loaded and stored as atomics. So a message that is
//! overwritten while it is copied comes out as nonsense, but nothing is undefined. Nothing read from
//! the memory is used before it is checked in a copy that the other side cannot reach.
//!
//! # Nobody sleeps over a message
//!
//! A writer that finds the reader attending tells nobody of its message, and a reader that goes to
//! sleep has looked before. Both must not miss each other (the protocol is Dekker's):
//!
//! | writer | reader |
//! |---|---|
//! | store `produced` | store `attending`, less this thread |
//! | full fence | full fence |
//! | load `attending`: 0? then wake the reader by other means | load `produced`: a message? then take it |
//!
//! One of the two fences comes first. If it is the writer's, the reader finds the message; if it is
//! the reader's, the writer finds that nobody attends. Of several threads that leave, it is the last
//! one that matters: a writer that has loaded anything but 0 came before its fence.
//!
//! The thread that has left must take what it finds, or know that another one has: so [`Reader::pop`]
//! waits for the lock. If it gave up where another thread is at it, that one may just have looked, in
//! vain, before the message came: both would go to sleep.

use std::error::Error;
use std::fmt;
use std::sync::PoisonError;

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// The size of a word.
pub(super) const WORD: usize = size_of::<u64>();

/// A word with cache lines of its own (processors fetch them in pairs).
#[derive(Default)]
#[repr(C, align(128))]
pub(super) struct Line(pub(super) AtomicU64);

/// What the two sides of a lane tell each other.
#[derive(Default)]
#[repr(C)]
pub(super) struct Indices {
    /// How many bytes were put, ever. The writer's.
    pub(super) produced: Line,
    /// How many bytes were taken, ever. The reader's.
    pub(super) consumed: Line,
    /// How many threads look at the lane. The reader's.
    pub(super) attending: Line,
}

/// The memory of one way, which both sides write.
#[derive(Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) indices: &'a Indices,
    /// A power of two of them.
    pub(super) words: &'a [AtomicU64],
}

impl<'a> Lane<'a> {
    /// How many bytes there is room for, with their lengths.
    fn capacity(self) -> usize {
        self.words.len() * WORD
    }

    /// The longest message, in bytes: several find room, whatever was there before.
    pub(super) fn longest(self) -> usize {
        self.capacity() / 4
    }

    /// The `count` words from `position` on: those up to the end, and those from the start.
    fn words_at(self, position: u64, count: usize) -> (&'a [AtomicU64], &'a [AtomicU64]) {
        // The number of words is a power of two: what is cut off here makes no difference.
        let start = (position as usize / WORD) & (self.words.len() - 1);
        let (before, after) = self.words.split_at(start);
        match after.get(..count) {
            Some(whole) => (whole, &[]),
            None => (after, &before[..before.len().min(count - after.len())]),
        }
    }
}

/// The other side has written to the shared memory what no side writes that keeps to the rules.
///
/// Nothing more comes out of this memory; the session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    expected: &'static str,
    found: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the memory shared with the other process is corrupt: expected {}, found {}; end the session and connect anew",
            self.expected, self.found
        )
    }
}

impl Error for Corrupt {}

/// The end of a lane where messages are put.
#[repr(align(128))]
pub(super) struct Writer {
    ahead: Mutex<Ahead>,
}

/// What the writer knows.
struct Ahead {
    produced: u64,
    /// What was consumed when it was last looked at: while there is room enough, nobody looks.
    consumed: u64,
    corrupt: Option<Corrupt>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            ahead: Mutex::new(Ahead {
                produced: 0,
                consumed: 0,
                corrupt: None,
            }),
        }
    }

    /// Puts the parts, one after the other, as one message; returns where it ends. None: there is no
    /// room now, or never for one that long.
    ///
    /// It ends with a full fence, after which [`is_attended`](Self::is_attended) tells whether the
    /// reader will find the message by itself.
    pub(super) fn push(&self, lane: Lane<'_>, parts: &[&[u8]]) -> Result<Option<u64>, Corrupt> {
        let length = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if length > lane.longest() {
            return Ok(None);
        }
        let size = WORD + length.next_multiple_of(WORD);
        let mut ahead = lock(&self.ahead);
        if ahead.room(lane) < size {
            ahead.look(lane)?;
            if ahead.room(lane) < size {
                return Ok(None);
            }
        }
        let mut words = Filling::at(lane.words_at(ahead.produced, size / WORD));
        words.put(length as u64);
        parts.iter().for_each(|part| words.append(part));
        words.finish();
        let end = ahead.produced.wrapping_add(size as u64);
        ahead.produced = end;
        // Who dies before this has put nothing.
        lane.indices.produced.0.store(end, Ordering::Release);
        drop(ahead);
        fence(Ordering::SeqCst);
        Ok(Some(end))
    }

    /// Tells whether the reader has taken the message that ends at `position`.
    pub(super) fn is_taken(&self, lane: Lane<'_>, position: u64) -> bool {
        let consumed = lane.indices.consumed.0.load(Ordering::Acquire);
        consumed.wrapping_sub(position) < 1 << 63
    }

    /// Tells whether a thread of the reader looks at the lane.
    pub(super) fn is_attended(&self, lane: Lane<'_>) -> bool {
        lane.indices.attending.0.load(Ordering::Relaxed) != 0
    }
}

impl Ahead {
    /// How many bytes can be put, by what is known.
    fn room(&self, lane: Lane<'_>) -> usize {
        lane.capacity() - self.produced.wrapping_sub(self.consumed) as usize
    }

    /// Looks how far the reader is: not behind where it was, and not ahead of the writer.
    fn look(&mut self, lane: Lane<'_>) -> Result<(), Corrupt> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        let consumed = lane.indices.consumed.0.load(Ordering::Acquire);
        let more = consumed.wrapping_sub(self.consumed);
        if more > self.produced.wrapping_sub(self.consumed) || !more.is_multiple_of(WORD as u64) {
            let corrupt = Corrupt {
                expected: "what was consumed to be a part of what was produced, and never to shrink",
                found: consumed,
            };
            self.corrupt = Some(corrupt);
            return Err(corrupt);
        }
        self.consumed = consumed;
        Ok(())
    }
}

/// Words that bytes are put into, one after the other.
struct Filling<'a> {
    words: &'a [AtomicU64],
    /// Those after the end of the former.
    further: &'a [AtomicU64],
    /// What does not fill a word yet.
    begun: [u8; WORD],
    filled: usize,
}

impl<'a> Filling<'a> {
    fn at((words, further): (&'a [AtomicU64], &'a [AtomicU64])) -> Self {
        Self {
            words,
            further,
            begun: [0; WORD],
            filled: 0,
        }
    }

    fn put(&mut self, word: u64) {
        self.put_all(&[word.to_ne_bytes()]);
    }

    fn put_all(&mut self, chunks: &[[u8; WORD]]) {
        let (now, later) = chunks.split_at(chunks.len().min(self.words.len()));
        store(self.words, now);
        self.words = &self.words[now.len()..];
        if !later.is_empty() {
            self.words = std::mem::take(&mut self.further);
            store(self.words, later);
            self.words = &self.words[later.len()..];
        }
    }

    fn append(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(WORD - self.filled));
            self.begun[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled < WORD {
                return;
            }
            self.finish();
            bytes = later;
        }
        let (chunks, rest) = bytes.as_chunks();
        self.put_all(chunks);
        self.begun[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Puts what is begun, with zeros behind it.
    fn finish(&mut self) {
        if self.filled > 0 {
            self.put_all(&[self.begun]);
            self.begun = [0; WORD];
            self.filled = 0;
        }
    }
}

/// The end of a lane where messages are taken.
#[repr(align(128))]
pub(super) struct Reader {
    behind: Mutex<Behind>,
    /// As in `behind`, for those who look without the lock.
    consumed: AtomicU64,
}

/// What the reader knows.
struct Behind {
    consumed: u64,
    /// What was produced when it was last looked at: before all of it is consumed, nobody looks.
    produced: u64,
    corrupt: Option<Corrupt>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            behind: Mutex::new(Behind {
                consumed: 0,
                produced: 0,
                corrupt: None,
            }),
            consumed: AtomicU64::new(0),
        }
    }

    /// Puts the next message in the place of what is in `into`. False: there was none, at a time when
    /// no other thread had taken one without being done with it.
    pub(super) fn pop(&self, lane: Lane<'_>, into: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let mut behind = lock(&self.behind);
        let found = behind.next(lane).inspect_err(|&corrupt| {
            behind.corrupt = Some(corrupt);
            into.clear();
        })?;
        let Some(length) = found else {
            into.clear();
            return Ok(false);
        };
        let size = length.next_multiple_of(WORD);
        let start = behind.consumed.wrapping_add(WORD as u64);
        let (first, second) = lane.words_at(start, size / WORD);
        // All of it is written to: what was there already needs no zeros.
        into.resize(size, 0);
        let (chunks, _) = into.as_chunks_mut();
        let (now, later) = chunks.split_at_mut(first.len());
        load(first, now);
        load(second, later);
        into.truncate(length);
        behind.consumed = start.wrapping_add(size as u64);
        self.consumed.store(behind.consumed, Ordering::Relaxed);
        // From now on the writer may overwrite what was copied.
        let consumed = &lane.indices.consumed.0;
        consumed.store(behind.consumed, Ordering::Release);
        Ok(true)
    }

    /// Tells whether there is something to pop, without a lock. Another thread may be just taking it.
    pub(super) fn has_message(&self, lane: Lane<'_>) -> bool {
        let produced = lane.indices.produced.0.load(Ordering::Acquire);
        produced != self.consumed.load(Ordering::Relaxed)
    }

    /// This thread looks at the lane from now on.
    pub(super) fn attend(&self, lane: Lane<'_>) {
        // Nothing of this side depends on the count, whatever the other side makes of it.
        lane.indices.attending.0.fetch_add(1, Ordering::Relaxed);
    }

    /// This thread does not look any more. True: there is something to pop, which nobody may be told of.
    pub(super) fn leave(&self, lane: Lane<'_>) -> bool {
        lane.indices.attending.0.fetch_sub(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.has_message(lane)
    }
}

impl Behind {
    /// The length of the next message, if there is one; all of it has been produced.
    fn next(&mut self, lane: Lane<'_>) -> Result<Option<usize>, Corrupt> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        if self.produced == self.consumed {
            let produced = lane.indices.produced.0.load(Ordering::Acquire);
            let more = produced.wrapping_sub(self.consumed);
            if more > lane.capacity() as u64 || !more.is_multiple_of(WORD as u64) {
                return Err(Corrupt {
                    expected: "what was produced to be ahead of what was consumed, by whole words and by no more than there is room for",
                    found: produced,
                });
            }
            if more == 0 {
                return Ok(None);
            }
            self.produced = produced;
        }
        // At least one word, and no more than there are.
        let there = self.produced.wrapping_sub(self.consumed) as usize;
        let (head, _) = lane.words_at(self.consumed, 1);
        let found = head[0].load(Ordering::Relaxed);
        let longest = lane.longest().min(there - WORD);
        match usize::try_from(found) {
            Ok(length) if length <= longest => Ok(Some(length)),
            _ => Err(Corrupt {
                expected: "the length of a message that is allowed and has been produced as a whole",
                found,
            }),
        }
    }
}

fn store(words: &[AtomicU64], chunks: &[[u8; WORD]]) {
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
    }
}

fn load(words: &[AtomicU64], chunks: &mut [[u8; WORD]]) {
    for (word, chunk) in words.iter().zip(chunks) {
        *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
