//! The memory that both sides share.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::{Errands, Link, Shared};
use crate::error::Failure;
use crate::session::frame::{self, HEADER, Header, Kind};
use crate::session::inbox::Received;
use crate::session::outbox::Packet;
use crate::session::ring::Ring;
use crate::session::spin::{cores, is_busy, spin};

/// The bytes of shared memory in each direction.
const RING: usize = 128 << 10;
/// How many threads of a process may spin for calls at the same time.
static SPINNERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where a frame out of the ring goes.
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    fn new(ring: Ring, bell: OwnedFd) -> Self {
        Self {
            ring,
            bell,
            spinning: AtomicUsize::new(0),
            takers: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
        }
    }

    /// Lets this thread take what it finds in the ring; `None` while another waits for its answer where it
    /// cannot be told of it.
    pub(super) fn take(&self) -> Option<Taking<'_>> {
        self.takers.fetch_add(1, Ordering::SeqCst);
        let taking = Taking(self);
        (!self.deaf.load(Ordering::SeqCst)).then_some(taking)
    }

    /// Lets this thread, which reads the socket, wait there without the bell: it spares a system call
    /// where the machine is too busy for anybody to look at the ring.
    pub(super) fn turn_deaf(&self) -> bool {
        if !is_busy() {
            return false;
        }
        self.deaf.store(true, Ordering::SeqCst);
        let may = self.takers.load(Ordering::SeqCst) == 0;
        if !may {
            self.hear_again();
        }
        may
    }

    pub(super) fn hear_again(&self) {
        self.deaf.store(false, Ordering::SeqCst);
    }
}

/// A thread takes what it finds in the ring.
pub(super) struct Taking<'s>(&'s Shared);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.takers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The shared memory.
impl Link {
    /// Offers the other side to share memory, once it has shown that it calls without a pause.
    fn offer_ring(&self) {
        const CALLS: u64 = 8;
        if self.ring.get().is_some()
            || !self.shares.load(Ordering::Relaxed)
            || self.calls_taken.fetch_add(1, Ordering::Relaxed) < CALLS
            || !self.next_call.is_short()
            || !self.shares.swap(false, Ordering::Relaxed)
        {
            return;
        }
        let Ok((ring, memory)) = Ring::create(RING) else {
            return;
        };
        let Ok(bell) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
            return;
        };
        let offer = Packet {
            head: frame::frame(Kind::Ring, 0, 0, &[]).unwrap_or_default(),
            tail: Vec::new(),
            descriptor: Some(memory),
        };
        // Before the other side can say that there is something in it.
        let _ = self.ring.set(Shared::new(ring, bell));
        self.push(offer);
    }

    pub(super) fn adopt(&self, memory: Option<OwnedFd>) -> Result<(), Failure> {
        let refused = |error: &dyn std::fmt::Display| {
            frame::malformed(format_args!("the shared memory cannot be used: {error}"))
        };
        let memory = memory.ok_or_else(|| {
            frame::malformed("memory to be shared should come in a descriptor, none came")
        })?;
        let ring = Ring::adopt(memory).map_err(|error| refused(&error))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).map_err(|error| refused(&error))?;
        let _ = self.ring.set(Shared::new(ring, bell));
        Ok(())
    }

    /// Takes everything out of the ring, as far as there is room.
    pub(super) fn drain(&self, errands: &mut Errands) -> Result<(), Failure> {
        while errands.waits || self.has_room() {
            if !self.pop(errands)? {
                return Ok(());
            }
        }
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes one frame out of the ring, unless another thread is at it.
    pub(super) fn pop(&self, errands: &mut Errands) -> Result<bool, Failure> {
        let Some(shared) = self.ring.get() else {
            return Ok(false);
        };
        let frame = FRAME.with_borrow_mut(|bytes| {
            let corrupt = |_| frame::malformed("the shared memory was written to wrongly");
            if !shared.ring.pop(bytes).map_err(corrupt)? {
                return Ok(None);
            }
            let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
                return Err(frame::malformed("a frame in shared memory is cut off"));
            };
            let header = Header::parse(header)?;
            if header.len != body.len() || header.attached {
                return Err(frame::malformed(
                    "a frame in shared memory has another length than it says",
                ));
            }
            if !matches!(
                header.kind,
                Kind::Call | Kind::Reply | Kind::Error | Kind::Cancel
            ) {
                return Err(frame::malformed(
                    "only calls and their answers go through shared memory",
                ));
            }
            Ok(Some(Received {
                header,
                body: body.to_vec(),
                descriptor: None,
            }))
        })?;
        match frame {
            // What it cancels lay before it.
            Some(frame) if frame.header.kind == Kind::Cancel => {
                self.incoming.cancel(frame.header.call);
                Ok(true)
            }
            Some(frame) => self.receive(frame, errands).map(|()| true),
            None => Ok(false),
        }
    }

    /// Looks at the ring for as long as calls come without a pause, and runs them.
    pub(super) fn attend(&self, me: &Arc<Self>) {
        let Some(shared) = self.ring.get() else {
            return self.offer_ring();
        };
        if self.next_call.window().is_none() || !self.has_room() {
            return;
        }
        let Some(taking) = shared.take() else {
            return;
        };
        if SPINNERS.fetch_add(1, Ordering::Relaxed) >= (cores() / 2).max(1) {
            SPINNERS.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        shared.ring.attend();
        while self.end.get().is_none()
            && self.has_room()
            && let Some(window) = self.next_call.window()
        {
            match spin(
                Instant::now(),
                window,
                || false,
                || shared.ring.has_message(),
            ) {
                None => self.next_call.took(window * 4),
                Some(waited) => {
                    self.answered.store(0, Ordering::Relaxed);
                    self.next_call.took(waited);
                    let mut errands = Errands::default();
                    if let Err(failure) = self.pop(&mut errands) {
                        self.refuse(failure);
                        break;
                    }
                    errands.call_back();
                    self.incoming.work(me);
                }
            }
        }
        SPINNERS.fetch_sub(1, Ordering::Relaxed);
        if shared.ring.leave() && self.end.get().is_none() {
            let mut errands = Errands::default();
            if let Err(failure) = self.drain(&mut errands) {
                self.refuse(failure);
            }
            drop(taking);
            errands.call_back();
            self.incoming.work(me);
            self.resume();
        }
    }
}
