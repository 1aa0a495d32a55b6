//! Where a thread sits: which calls it is inside of, for the host to see.
//!
//! A guard costs its caller two plain stores and no shared cache line. A *frame* names what the host
//! must not take away while it stands. The owner of a seat alone writes frames; the host reads them
//! from outside, after it has taken something out of the place where callers find it:
//!
//! ```text
//! caller                              host
//! frame = what the place holds        place = what is new
//! -- light fence --                   == heavy fence ==
//! is it still in the place?           is what is old in any frame?
//! ```
//!
//! One of the two fences being heavy, either the host sees the frame or the caller sees the new
//! content of the place and looks again. The same holds for leaving: either the host, having asked for
//! attention, sees the frame gone, or the leaving thread sees that attention is asked for.

use std::ffi::c_void;

use super::sync::{AtomicPtr, AtomicU32, FRAMES, Ordering, light_fence};

/// How many calls one thread can be inside of at one seat; the host has others for deeper ones.
pub const SEAT_FRAMES: usize = FRAMES;

/// The frames of one thread. Its address is handed out by the host, which never frees it while a
/// thread may use it.
///
/// On cache lines of its own: its owner writes it at every call.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Seat {
    /// Not zero when the host wants to be told that the owner has left a call.
    pub(super) attention: AtomicU32,
    /// How many frames stand.
    pub(super) depth: AtomicU32,
    /// What must stay, the outermost call first; null from `depth` on.
    pub(super) frames: [AtomicPtr<c_void>; SEAT_FRAMES],
}

impl Seat {
    /// Makes an empty seat.
    pub fn new(attention: u32) -> Self {
        Self {
            attention: AtomicU32::new(attention),
            depth: AtomicU32::new(0),
            frames: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
        }
    }

    /// Puts up a frame with what `place` holds, and returns that; `None` when no frame is free. Only
    /// the seat's owner may call this.
    ///
    /// What is returned may be null; then too the frame stands, until [`leave`](Self::leave).
    /// `fence` is the light fence, or a full one where no heavy fence can be asked of other threads.
    /// `replaced` runs after the frame has been given another content: the host may have seen the
    /// one before and wait for it to go, as for that of a call, but no leave will tell it.
    #[inline]
    pub fn enter(
        &self,
        place: impl Fn() -> *mut c_void,
        fence: impl Fn(),
        replaced: impl Fn(),
    ) -> Option<*mut c_void> {
        let depth = self.depth.load(Ordering::Relaxed);
        let frame = self.frames.get(depth as usize)?;
        let mut seen = place();
        frame.store(seen, Ordering::Release);
        fence();
        loop {
            let again = place();
            if again == seen {
                break;
            }
            seen = again;
            frame.store(seen, Ordering::Release);
            fence();
            replaced();
        }
        self.depth.store(depth + 1, Ordering::Relaxed);
        Some(seen)
    }

    /// Does what [`enter`](Self::enter) does where nothing is out of the ordinary: there is a frame
    /// free, `place` holds the same at the second look, and `fits` finds what the caller is after in
    /// it. Else the frame may have been seen, but does not stand; `enter` is to follow at once, and to
    /// be taken for one that has replaced it. Only the seat's owner may call this.
    #[inline]
    pub fn try_enter<T>(
        &self,
        place: impl Fn() -> *mut c_void,
        fence: impl Fn(),
        fits: impl FnOnce(*mut c_void) -> Option<T>,
    ) -> Option<(T, *const Self)> {
        let depth = self.depth.load(Ordering::Relaxed);
        let frame = self.frames.get(depth as usize)?;
        let seen = place();
        frame.store(seen, Ordering::Release);
        fence();
        if place() != seen {
            return None;
        }
        let found = fits(seen)?;
        self.depth.store(depth + 1, Ordering::Relaxed);
        Some((found, self.at(depth)))
    }

    /// Names a frame of this seat in one word: the seat's address and, in the bits that its alignment
    /// leaves free, the frame's depth. So whoever leaves need not read the depth, which has just been
    /// written.
    #[inline]
    fn at(&self, depth: u32) -> *const Self {
        std::ptr::from_ref(self).map_addr(|seat| seat | depth as usize)
    }

    /// Names the innermost frame. Only the seat's owner may call this, while one stands.
    pub fn innermost(&self) -> *const Self {
        self.at(self.depth.load(Ordering::Relaxed).wrapping_sub(1))
    }

    /// Takes the word apart that names a frame.
    #[inline]
    pub fn parts(frame: *const Self) -> (*const Self, u32) {
        const DEPTH: usize = align_of::<Seat>() - 1;
        let depth = frame.addr() & DEPTH;
        // The alignment is less than 2^32.
        (frame.map_addr(|seat| seat & !DEPTH), depth as u32)
    }

    /// Takes the innermost frame down. Only the seat's owner may call this, once for each
    /// [`enter`](Self::enter). True when the host wants the thread's attention.
    #[inline]
    pub fn leave(&self) -> bool {
        self.leave_at(self.depth.load(Ordering::Relaxed).wrapping_sub(1))
    }

    /// Does the same for the innermost frame, of which the depth is known.
    #[inline]
    pub fn leave_at(&self, depth: u32) -> bool {
        self.depth.store(depth, Ordering::Relaxed);
        if let Some(frame) = self.frames.get(depth as usize) {
            // What the call did happened before; the host looks with `Acquire`.
            frame.store(std::ptr::null_mut(), Ordering::Release);
        }
        light_fence();
        self.attention.load(Ordering::Relaxed) != 0
    }

    /// Replaces the innermost frame. Only the seat's owner may call this, between an `enter` and its
    /// `leave`; whether what it names may be used still has to be found out, as in `enter`.
    pub fn replace(&self, content: *mut c_void) {
        let depth = self.depth.load(Ordering::Relaxed).wrapping_sub(1);
        if let Some(frame) = self.frames.get(depth as usize) {
            frame.store(content, Ordering::Release);
        }
    }

    /// Returns the frames that stand, the outermost first, as any thread sees them now.
    pub fn frames(&self) -> impl Iterator<Item = *mut c_void> {
        let all = self
            .frames
            .iter()
            .map(|frame| frame.load(Ordering::Acquire));
        all.filter(|content| !content.is_null())
    }

    /// Returns the frames around the innermost one. Only the seat's owner may call this.
    pub fn outer_frames(&self) -> impl Iterator<Item = *mut c_void> {
        let outer = self.depth.load(Ordering::Relaxed).saturating_sub(1);
        let all = self.frames.iter().take(outer as usize);
        let all = all.map(|frame| frame.load(Ordering::Relaxed));
        all.filter(|content| !content.is_null())
    }

    /// Asks the owner for attention at its next leave; `bits` say what for.
    pub fn ask(&self, bits: u32) {
        self.attention.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes `bits` back and returns all that were asked for.
    pub fn answer(&self, bits: u32) -> u32 {
        self.attention.fetch_and(!bits, Ordering::SeqCst)
    }
}
