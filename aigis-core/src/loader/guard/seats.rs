//! Every thread's seat, and waiting for what they hold.

use std::cell::Cell;
use std::ffi::c_void;
use std::iter;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use aigis_plugin_api::abi::Seat;

use super::drain::{self, LEFT, Leaves, Place, WATCHED, Within};
use super::fences;
use super::slot::Source;
use crate::loader::{Serving, lock};

/// The seat was made for one stay alone.
const ONCE: u32 = 2;
/// The owner fences for itself at every leave.
const FENCE: u32 = 4;
/// The thread has something of a retired library to end.
const ENDINGS: u32 = 8;
/// The seat was made for one call alone, deeper than those at the thread's own.
const DEEPER: u32 = 16;

/// All places, in use or not. They are never freed: what a thread left to be read here stays readable.
static PLACES: Mutex<Places> = Mutex::new(Places {
    all: Vec::new(),
    free: Vec::new(),
});

struct Places {
    all: Vec<&'static Place>,
    free: Vec<&'static Place>,
}

static LEAVES: Leaves = Leaves {
    count: Mutex::new(0),
    told: Condvar::new(),
};

/// Takes a place that nobody sits at; `frame` stands there from the first, if it is not null.
fn claim(attention: u32, thread: u32, frame: *const Serving) -> &'static Place {
    fences::prepare();
    let fenced = if fences::every_thread_fences() {
        FENCE
    } else {
        0
    };
    let mut places = lock(&PLACES);
    let place = places.free.pop().unwrap_or_else(|| {
        let place: &'static Place = Box::leak(Box::new(Place::new()));
        places.all.push(place);
        place
    });
    place.thread.store(thread, Ordering::Relaxed);
    place.seat.answer(u32::MAX);
    place.seat.ask(attention | fenced);
    if !frame.is_null() {
        // Under the lock of whoever looks at all places: else a stay could begin at a place that has
        // been looked at, and the call that it goes on for end at one that has not.
        put_up_at(place, || frame.cast_mut().cast());
    }
    place
}

/// Gives a place back, for any thread. No frame of it may stand.
fn release(place: &'static Place) {
    let asked = place.seat.answer(u32::MAX);
    place.thread.store(0, Ordering::Relaxed);
    place.outer.store(ptr::null_mut(), Ordering::Relaxed);
    lock(&PLACES).free.push(place);
    if asked & LEFT != 0 {
        LEAVES.tell();
    }
}

thread_local! {
    /// This thread's place. Without a destructor, so that it can be read at any time.
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
    /// The innermost of the places of its calls that have one of their own.
    static DEEPEST: Cell<Option<&'static Place>> = const { Cell::new(None) };
    static OWNER: Owner = const { Owner };
}

/// Gives a thread's place back when the thread ends.
struct Owner;

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(place) = PLACE.take() {
            // A thread that ends inside a call never leaves it: its frames stay for good, and with
            // them what they name.
            if place.seat.frames().next().is_none() {
                release(place);
            }
        }
    }
}

/// Finds this thread's place, or makes one.
#[cold]
fn sit_down() -> &'static Place {
    // A thread that is past its end, in the destructors of its thread-locals, gets one for each call.
    if OWNER.try_with(|_| ()).is_err() {
        return sit_deeper();
    }
    let place = claim(0, thread_number(), ptr::null());
    PLACE.set(Some(place));
    place
}

/// Makes a place for one call of this thread.
fn sit_deeper() -> &'static Place {
    let place = claim(DEEPER, thread_number(), ptr::null());
    let outer = DEEPEST.replace(Some(place));
    let outer = outer.map_or(ptr::null(), ptr::from_ref);
    place.outer.store(outer.cast_mut(), Ordering::Relaxed);
    place
}

fn outer(place: &Place) -> Option<&'static Place> {
    // SAFETY: it is null or a place, and places are never freed.
    unsafe { place.outer.load(Ordering::Relaxed).as_ref() }
}

/// Returns the places where this thread sits.
fn places_here() -> impl Iterator<Item = &'static Place> {
    let deeper = iter::successors(DEEPEST.get(), |place| outer(place));
    PLACE.get().into_iter().chain(deeper)
}

fn thread_number() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}

/// Puts up a frame with what `look` finds, at `place`; `None` when that is full.
#[inline]
fn put_up_at(place: &Place, look: impl Fn() -> *mut c_void) -> Option<*mut c_void> {
    place
        .seat
        .enter(look, fences::light, || LEAVES.replaced(place))
}

/// Puts up a frame with what `look` finds, on this thread.
#[inline]
fn put_up(look: impl Fn() -> *mut c_void) -> (&'static Place, *mut c_void) {
    let place = PLACE.get().unwrap_or_else(sit_down);
    match put_up_at(place, &look) {
        Some(seen) => (place, seen),
        None => put_up_deeper(look),
    }
}

/// Puts up a frame at a place of the call's own, when the thread's is full.
#[cold]
fn put_up_deeper(look: impl Fn() -> *mut c_void) -> (&'static Place, *mut c_void) {
    let place = sit_deeper();
    let seen = put_up_at(place, look);
    (place, seen.expect("a new seat is empty"))
}

/// Enters what `source` holds. The frame stands, whatever is returned.
///
/// The pointer is valid, if not null, until the matching [`leave`].
#[inline]
fn enter(source: &Source<'_>) -> (&'static Place, *const Serving) {
    let (place, seen) = put_up(|| source.load());
    if Source::is_settled(seen) {
        return (place, seen.cast_const().cast());
    }
    let replaced = || LEAVES.replaced(place);
    (place, source.resolve(&place.seat, seen, replaced))
}

/// Leaves the call that was entered at this seat.
#[inline]
fn leave(place: &'static Place) {
    if place.seat.leave() {
        attend(place);
    }
}

/// Does what a thread is wanted for after it has left a call.
#[cold]
fn attend(place: &'static Place) {
    let (asked, standing) = LEAVES.left(place);
    if asked & DEEPER != 0 && standing == 0 {
        DEEPEST.set(outer(place));
    }
    if asked & ENDINGS != 0 {
        place.seat.answer(ENDINGS);
        crate::loader::end_here();
    }
    if asked & (ONCE | DEEPER) != 0 && standing == 0 {
        release(place);
    }
}

/// Attends to the seat that a library hands back.
///
/// # Safety
/// `seat` came from this host as [`Entered::seat`](aigis_plugin_api::abi::Entered), and this thread
/// has just left there.
pub(crate) unsafe fn attend_seat(seat: *const Seat) {
    // SAFETY: the host only hands out seats of places, which are never freed; the seat is the first
    // field of a `repr(C)` struct.
    attend(unsafe { &*seat.cast::<Place>() });
}

/// A call that is inside, on this thread; dropping it leaves.
pub(crate) struct Visit {
    place: &'static Place,
    serving: *const Serving,
    /// It leaves on the thread that entered.
    _thread: PhantomData<*const ()>,
}

impl Visit {
    /// Goes in; `None` when nobody offers the skill.
    pub(crate) fn of(source: &Source<'_>) -> Option<Self> {
        let (place, serving) = enter(source);
        Self::at(place, serving)
    }

    /// Goes into what `look` finds; it is asked again once that has been announced.
    pub(crate) fn looked_up(look: impl Fn() -> *const Serving) -> Option<Self> {
        let (place, serving) = put_up(|| look().cast_mut().cast());
        Self::at(place, serving.cast_const().cast())
    }

    /// Takes over the innermost frame at `place`, and leaves if it names nothing.
    fn at(place: &'static Place, serving: *const Serving) -> Option<Self> {
        let visit = Self {
            place,
            serving,
            _thread: PhantomData,
        };
        (!serving.is_null()).then_some(visit)
    }

    /// Returns what was entered.
    pub(crate) fn serving(&self) -> &Serving {
        // SAFETY: it is not null, and it was in its place after the frame that names it stood.
        // Whoever takes it out frees it only when the frame is gone, which is when `self` is.
        unsafe { &*self.serving }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        leave(self.place);
    }
}

/// Enters for a typed call, if `fits` finds an entry in what serves it and nothing is out of the
/// ordinary; else [`enter_typed`] is to follow at once. The good way in takes no branch that is not
/// needed, and calls nothing.
#[inline]
pub(crate) fn try_enter_typed<const FENCED: bool>(
    source: &Source<'_>,
    fits: impl FnOnce(&Serving) -> *const c_void,
) -> Option<(*const c_void, *const Seat)> {
    let place = PLACE.get()?;
    place.seat.try_enter(
        || source.load(),
        fences::light_if::<FENCED>,
        |seen| {
            if !Source::is_settled(seen) {
                return None;
            }
            // SAFETY: as in `Visit::serving`.
            let serving = unsafe { seen.cast_const().cast::<Serving>().as_ref() }?;
            let entry = fits(serving);
            (!entry.is_null()).then_some(entry)
        },
    )
}

/// Enters for a typed call, if `fits` finds an entry in what serves it.
pub(crate) fn enter_typed(
    source: &Source<'_>,
    fits: impl FnOnce(&Serving) -> *const c_void,
) -> Option<(*const c_void, *const Seat)> {
    let (place, serving) = enter(source);
    // The frame that `try_enter_typed` has put up may have been seen.
    LEAVES.replaced(place);
    // SAFETY: as in `Visit::serving`.
    let entry = unsafe { serving.as_ref() }.map_or(ptr::null(), fits);
    if entry.is_null() {
        leave(place);
        return None;
    }
    Some((entry, place.seat.innermost()))
}

/// Keeps something where it is from any thread, for as long as it lives: a task, or a callback that
/// is still to come.
pub(crate) struct Stay {
    place: &'static Place,
}

impl Stay {
    /// Stays with what `frame` names.
    ///
    /// It is for the caller to know that it is there now and cannot go before this returns.
    pub(crate) fn with(frame: *const Serving) -> Self {
        Self {
            place: claim(ONCE, 0, frame),
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        leave(self.place);
    }
}

/// Runs `body` with a frame on this thread that names what `stay` keeps, so that calls made from it
/// count as made from there.
pub(crate) fn within<R>(frame: *const Serving, body: impl FnOnce() -> R) -> R {
    // Where the frame names nothing, there is nothing to count as.
    let _inside = Visit::looked_up(|| frame);
    body()
}

impl Within {
    /// Tells whether this thread is inside.
    pub(crate) fn is_here(&self) -> bool {
        frames_here().any(|frame| self.holds(frame))
    }
}

/// Tells whether the thread that looks for a way in at `seat`, this one, is inside of `these` already.
pub(super) fn is_inside(seat: &Seat, these: &Within) -> bool {
    places_here().any(|place| {
        if ptr::eq(&raw const place.seat, seat) {
            // The innermost frame is that of the call which is not inside yet.
            place.seat.outer_frames().any(|frame| these.holds(frame))
        } else {
            place.seat.frames().any(|frame| these.holds(frame))
        }
    })
}

/// Waits until no frame names `these`; what they name must have been taken from where callers find
/// it. False when `deadline` or `give_up` came first.
pub(crate) fn wait_until_gone(
    these: &Within,
    deadline: Option<Instant>,
    give_up: impl Fn() -> bool,
) -> bool {
    let ask = || drain::ask(lock(&PLACES).all.iter().copied(), these);
    LEAVES.wait(ask, deadline, give_up)
}

/// Wakes whoever waits in [`wait_until_gone`], to look at its `give_up` again.
pub(crate) fn wake_waiters() {
    LEAVES.tell();
}

/// Asks every thread to end what it has of retired libraries, at its next leave.
pub(crate) fn ask_for_endings() {
    for place in &lock(&PLACES).all {
        place.seat.ask(ENDINGS);
    }
}

/// Returns the frames of this thread.
pub(crate) fn frames_here() -> impl Iterator<Item = *mut c_void> {
    places_here().flat_map(|place| place.seat.frames())
}

/// Returns the innermost frame of this thread's seat, if it is settled. Takes no lock and allocates
/// nothing.
pub(crate) fn innermost_here() -> Option<usize> {
    let frame = PLACE.get()?.seat.frames().last()?;
    Source::is_settled(frame).then_some(frame.addr())
}

/// A frame that stands, as it is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// Where it stands: the place, and how many stand below it.
    pub(crate) seat: usize,
    pub(crate) depth: usize,
    /// How often one was taken down there.
    pub(crate) count: u32,
    /// The address of what it names.
    pub(crate) serving: usize,
    /// The thread, as the system numbers it; 0 if that is not known.
    pub(crate) thread: u32,
}

/// How often a thread is looked at that leaves every call at once.
const LOOKS: usize = 3;

/// Calls `look` with every frame of every thread. One that is the same when this is called again is
/// that of the same call. Threads whose calls are over before they can be looked at are left out.
pub(crate) fn look_at_all(mut look: impl FnMut(&Standing)) {
    let places = lock(&PLACES);
    for place in &places.all {
        place.seat.ask(WATCHED);
    }
    fences::heavy();
    for place in &places.all {
        for _ in 0..LOOKS {
            let frames: Vec<(usize, usize, u32)> = place
                .seat
                .frames()
                .zip(&place.left)
                .enumerate()
                .map(|(depth, (frame, left))| (depth, frame.addr(), left.load(Ordering::SeqCst)))
                .collect();
            if place.seat.answer(0) & WATCHED == 0 {
                // It has left everything meanwhile: what was seen may be another call, whose end
                // nobody would notice.
                place.seat.ask(WATCHED);
                fences::heavy();
                continue;
            }
            for (depth, serving, count) in frames {
                look(&Standing {
                    seat: std::ptr::from_ref(*place).addr(),
                    depth,
                    count,
                    serving,
                    thread: place.thread.load(Ordering::Relaxed),
                });
            }
            break;
        }
    }
}
