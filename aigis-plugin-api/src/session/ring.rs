//! Frames in memory that two processes share: the fast path of a session.
//!
//! One side makes the memory ([`Ring::create`]) and sends its descriptor to the other, which takes it
//! on ([`Ring::adopt`]). Then each of them puts messages into the one way and takes them from the
//! other. The memory wakes nobody: while a thread of the other side [attends](Ring::attend), it finds a
//! message by itself, else it has to be told over the socket.
//!
//! ```
//! use aigis_plugin_api::session::ring::Ring;
//!
//! let (here, memory) = Ring::create(64 * 1024)?;
//! let there = Ring::adopt(memory)?;
//!
//! there.attend();
//! let position = here.push(&[b"a ", b"message"])?.expect("an empty ring has room");
//! assert!(here.is_attended() && !here.is_taken(position));
//!
//! let mut message = Vec::new();
//! assert!(there.pop(&mut message)?);
//! assert_eq!(message, b"a message");
//! assert!(here.is_taken(position));
//! assert!(!there.leave(), "nothing came meanwhile");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The other side may be hostile: what it writes there leads to [`Corrupt`], and to nothing else. That
//! is why all of the memory is seen as atomics (`ring/lane.rs`), and why its size is sealed
//! (`ring/memory.rs`).

mod lane;
mod memory;
mod sync;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

pub use lane::Corrupt;
use lane::{Lane, Reader, Writer};
use memory::Memory;

/// How many bytes a direction may have, with what the messages need beside their own.
pub const CAPACITIES: RangeInclusive<usize> = 4 * 1024..=16 * 1024 * 1024;

/// Frames in memory that two processes share, one way each: this side's end of both ways.
///
/// Any thread may do anything at any time.
pub struct Ring {
    memory: Memory,
    /// The number of the lane that this side writes.
    outgoing: usize,
    writer: Writer,
    reader: Reader,
}

impl Ring {
    /// Makes the memory, with `capacity` bytes for each direction: a power of two within
    /// [`CAPACITIES`]. The descriptor is for the other side.
    ///
    /// Pages that were never used take no memory.
    ///
    /// # Errors
    /// The system's, or the capacity is not allowed.
    pub fn create(capacity: usize) -> io::Result<(Self, OwnedFd)> {
        let (memory, descriptor) = Memory::create(capacity)?;
        Ok((Self::new(memory, 0), descriptor))
    }

    /// Maps memory that the other side has made. A ring can be adopted once.
    ///
    /// # Errors
    /// The descriptor is not what [`create`](Self::create) makes, or the system does not map it.
    pub fn adopt(memory: OwnedFd) -> Result<Self, RingError> {
        Ok(Self::new(Memory::adopt(&memory)?, 1))
    }

    fn new(memory: Memory, outgoing: usize) -> Self {
        Self {
            memory,
            outgoing,
            writer: Writer::new(),
            reader: Reader::new(),
        }
    }

    fn outgoing(&self) -> Lane<'_> {
        self.memory.lane(self.outgoing)
    }

    fn incoming(&self) -> Lane<'_> {
        self.memory.lane(1 - self.outgoing)
    }

    /// The longest message, in bytes: a quarter of the capacity.
    pub fn longest(&self) -> usize {
        self.outgoing().longest()
    }

    /// Puts a message, made of the parts; returns its position, for [`is_taken`](Self::is_taken).
    /// None: it is too long, or there is no room for it now.
    ///
    /// It ends with a full fence: if [`is_attended`](Self::is_attended) is false after it, the other
    /// side must be told of the message; if it is true, a thread there finds it.
    ///
    /// # Errors
    /// The other side does not keep to the rules.
    pub fn push(&self, message: &[&[u8]]) -> Result<Option<u64>, Corrupt> {
        self.writer.push(self.outgoing(), message)
    }

    /// Tells whether the other side has taken the message at this position. It has not, for sure, if
    /// its process has ended and this is false.
    pub fn is_taken(&self, position: u64) -> bool {
        self.writer.is_taken(self.outgoing(), position)
    }

    /// Tells whether the other side has a thread that looks at the ring. What it told before a
    /// [`push`](Self::push) may have changed since.
    pub fn is_attended(&self) -> bool {
        self.writer.is_attended(self.outgoing())
    }

    /// Takes a message, which replaces what is in `into` (to reuse it saves the zeros of a new one).
    /// False: there is none.
    ///
    /// It waits while another thread of this side takes one: "none" is true at some time after it was
    /// called, so that whoever goes to sleep after it has missed nothing.
    ///
    /// # Errors
    /// The other side does not keep to the rules. It stays so: no message comes out any more.
    pub fn pop(&self, into: &mut Vec<u8>) -> Result<bool, Corrupt> {
        self.reader.pop(self.incoming(), into)
    }

    /// Tells whether there is something to [`pop`](Self::pop), with two loads: for a thread that spins.
    pub fn has_message(&self) -> bool {
        self.reader.has_message(self.incoming())
    }

    /// This thread looks at the ring from now on, until it [leaves](Self::leave).
    pub fn attend(&self) {
        self.reader.attend(self.incoming());
    }

    /// This thread does not look any more. True: there is something to pop, which nobody may be told of.
    /// The caller must pop until there is nothing before it sleeps or runs what it has popped, or wake a
    /// thread that does. That another thread has attended a moment ago is not enough: it may have left,
    /// in vain, before the message came.
    pub fn leave(&self) -> bool {
        self.reader.leave(self.incoming())
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("outgoing", &self.outgoing)
            .field("longest", &self.longest())
            .finish_non_exhaustive()
    }
}

/// Why memory that the other side has made cannot be a ring.
#[derive(Debug)]
#[non_exhaustive]
pub enum RingError {
    /// It is not a memfd.
    NotSealable,
    /// It is not sealed against every change of its size; these seals were found.
    Unsealed(u32),
    /// Its size is not that of a ring.
    Size(i64),
    /// It does not start as a ring of its size does.
    Layout {
        /// Magic, version, and capacity as they stand there.
        found: [u64; 3],
        /// The capacity by the size.
        capacity: usize,
    },
    /// The system has refused what is named.
    System(&'static str, io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealable => write!(
                f,
                "the descriptor for the shared ring is not of a memfd; send what made the ring"
            ),
            Self::Unsealed(found) => write!(
                f,
                "the memory of the shared ring must be sealed with SHRINK, GROW and SEAL, but has the seals {found:#x}"
            ),
            Self::Size(found) => write!(
                f,
                "the memory of the shared ring must have 4096 bytes and twice a power of two of {} to {}, but has {found}",
                CAPACITIES.start(),
                CAPACITIES.end()
            ),
            Self::Layout {
                found: [magic, version, there],
                capacity,
            } => write!(
                f,
                "the shared memory is not a ring of version 1 with {capacity} bytes for each direction: it starts with {magic:#x}, version {version}, {there} bytes"
            ),
            Self::System(what, _) => write!(f, "failed to {what} the memory of the shared ring"),
        }
    }
}

impl Error for RingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(_, source) => Some(source),
            _ => None,
        }
    }
}
