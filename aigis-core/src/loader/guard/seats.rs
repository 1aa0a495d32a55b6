//! Every thread's seat, and waiting for what they hold.

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aigis_plugin_api::abi::Seat;

use super::fences;
use super::slot::Source;
use crate::loader::Serving;

/// Somebody waits for a frame of this seat to go.
const LEFT: u32 = 1;
/// The seat was made for one call alone.
const ONCE: u32 = 2;
/// The owner fences for itself at every leave.
const FENCE: u32 = 4;
/// The thread has something of a retired library to end.
const ENDINGS: u32 = 8;

/// A seat, and what only the host knows of it.
#[repr(C)]
struct Place {
    /// First, so that a seat that comes back is a place.
    seat: Seat,
    /// A frame that is waited for is gone when no more than this many stand.
    waited: AtomicU32,
    /// The thread that sits here, as the system numbers it; 0 for none, or for one after another.
    thread: AtomicU32,
}

/// All places, in use or not. They are never freed: what a thread left to be read here stays readable.
static PLACES: Mutex<Places> = Mutex::new(Places {
    all: Vec::new(),
    free: Vec::new(),
});

struct Places {
    all: Vec<&'static Place>,
    free: Vec<&'static Place>,
}

/// Counts the leaves that were waited for; its lock is taken by nobody who does not wait.
static LEAVES: Mutex<u64> = Mutex::new(0);
static LEFT_ONE: Condvar = Condvar::new();

/// Counts places given out, for tests and figures.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn claim(attention: u32, thread: u32) -> &'static Place {
    fences::prepare();
    let fenced = if fences::every_thread_fences() {
        FENCE
    } else {
        0
    };
    CLAIMED.fetch_add(1, Ordering::Relaxed);
    let mut places = lock(&PLACES);
    let place = places.free.pop().unwrap_or_else(|| {
        let place: &'static Place = Box::leak(Box::new(Place {
            seat: Seat::new(0),
            waited: AtomicU32::new(0),
            thread: AtomicU32::new(0),
        }));
        places.all.push(place);
        place
    });
    place.thread.store(thread, Ordering::Relaxed);
    place.seat.answer(u32::MAX);
    place.seat.ask(attention | fenced);
    place
}

/// Gives a place back, for any thread. No frame of it may stand.
fn release(place: &'static Place) {
    let asked = place.seat.answer(u32::MAX);
    place.thread.store(0, Ordering::Relaxed);
    lock(&PLACES).free.push(place);
    if asked & LEFT != 0 {
        tell_waiters();
    }
}

fn tell_waiters() {
    *lock(&LEAVES) += 1;
    LEFT_ONE.notify_all();
}

thread_local! {
    /// This thread's place. Without a destructor, so that it can be read at any time.
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
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
        return claim(ONCE, 0);
    }
    let place = claim(0, thread_number());
    PLACE.set(Some(place));
    place
}

fn thread_number() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}

/// Enters what `source` holds. The frame stands, whatever is returned.
///
/// The pointer is valid, if not null, until the matching [`leave`].
#[inline]
fn enter(source: &Source<'_>) -> (&'static Place, *const Serving) {
    let place = PLACE.get().unwrap_or_else(sit_down);
    let (place, seen) = match place.seat.enter(|| source.load(), fences::light) {
        Some(seen) => (place, seen),
        None => enter_deeper(source),
    };
    if Source::is_settled(seen) {
        return (place, seen.cast_const().cast());
    }
    (place, source.resolve(&place.seat, seen))
}

/// Puts up a frame with `serving` on this thread.
fn announce(serving: *const Serving) -> &'static Place {
    let content = serving.cast_mut().cast::<c_void>();
    let place = PLACE.get().unwrap_or_else(sit_down);
    if place.seat.enter(|| content, fences::light).is_some() {
        return place;
    }
    let deeper = claim(ONCE, 0);
    let entered = deeper.seat.enter(|| content, fences::light);
    debug_assert!(entered.is_some(), "a new seat is empty");
    deeper
}

/// Enters at a place of the call's own, when the thread's is full.
#[cold]
fn enter_deeper(source: &Source<'_>) -> (&'static Place, *mut c_void) {
    let place = claim(ONCE, 0);
    let seen = place.seat.enter(|| source.load(), fences::light);
    (place, seen.expect("a new seat is empty"))
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
    // The leave came before this fence, the switch before the one of whoever waits: one of the two
    // sees the other.
    fence(Ordering::SeqCst);
    let asked = place.seat.answer(0);
    let standing = place.seat.frames().count();
    if asked & LEFT != 0 {
        let waited = place.waited.load(Ordering::SeqCst);
        if standing <= waited as usize {
            place.waited.store(0, Ordering::SeqCst);
            place.seat.answer(LEFT);
            tell_waiters();
        }
    }
    if asked & ENDINGS != 0 {
        place.seat.answer(ENDINGS);
        crate::loader::end_here();
    }
    if asked & ONCE != 0 && standing == 0 {
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
        let visit = Self {
            place,
            serving,
            _thread: PhantomData,
        };
        (!serving.is_null()).then_some(visit)
    }

    /// Goes into `serving` itself.
    ///
    /// It is for the caller to know that it is there and cannot go before this returns.
    pub(crate) fn at(serving: *const Serving) -> Option<Self> {
        let place = announce(serving);
        let visit = Self {
            place,
            serving,
            _thread: PhantomData,
        };
        (!serving.is_null()).then_some(visit)
    }

    /// Returns what was entered.
    pub(crate) fn serving(&self) -> &Serving {
        // SAFETY: it is not null (`of`), and it was in its slot after the frame that names it stood.
        // Whoever takes it out frees it only when the frame is gone, which is when `self` is.
        unsafe { &*self.serving }
    }

    /// Keeps the frame for the library that called, which leaves by itself.
    pub(crate) fn into_seat(self) -> *const Seat {
        let seat = std::ptr::from_ref(&self.place.seat);
        std::mem::forget(self);
        seat
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        leave(self.place);
    }
}

/// Enters for a typed call: nothing is looked at but the frame and the entry.
#[inline]
pub(crate) fn enter_typed(
    source: &Source<'_>,
    fits: impl FnOnce(&Serving) -> *const c_void,
) -> Option<(*const c_void, *const Seat)> {
    let (place, serving) = enter(source);
    // SAFETY: as in `Visit::serving`.
    let entry = unsafe { serving.as_ref() }.map_or(std::ptr::null(), fits);
    if entry.is_null() {
        leave(place);
        return None;
    }
    Some((entry, std::ptr::from_ref(&place.seat)))
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
        let place = claim(ONCE, 0);
        let frame = frame.cast_mut().cast::<c_void>();
        let entered = place.seat.enter(|| frame, fences::light);
        debug_assert!(entered.is_some(), "a new seat is empty");
        Self { place }
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
    struct Leave(&'static Place);

    impl Drop for Leave {
        fn drop(&mut self) {
            leave(self.0);
        }
    }

    let place = announce(frame);
    let _leave = Leave(place);
    body()
}

/// Says which frames are meant: those that point to one of these places in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Within(Vec<std::ops::Range<usize>>);

impl Within {
    /// The frames that name one of `servings`.
    pub(crate) fn of(servings: &[Serving]) -> Self {
        let range = servings.as_ptr_range();
        Self(vec![range.start as usize..range.end as usize])
    }

    /// The frames of either.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn holds(&self, frame: *mut c_void) -> bool {
        self.0.iter().any(|range| range.contains(&(frame as usize)))
    }

    /// Tells whether this thread is inside.
    pub(crate) fn is_here(&self) -> bool {
        PLACE
            .get()
            .is_some_and(|place| place.seat.frames().any(|frame| self.holds(frame)))
    }
}

/// Tells whether a call of `seat`'s thread is inside of `these`.
pub(super) fn is_inside(seat: &Seat, these: &Within) -> bool {
    seat.frames().any(|frame| these.holds(frame)) || these.is_here()
}

/// Waits until no frame names `these`; what they name must have been taken from where callers find
/// it. False when `deadline` or `give_up` came first.
pub(crate) fn wait_until_gone(
    these: &Within,
    deadline: Option<Instant>,
    give_up: impl Fn() -> bool,
) -> bool {
    loop {
        let seen = *lock(&LEAVES);
        fences::heavy();
        if !ask_who_is_inside(these) {
            return true;
        }
        // They may have left before they could know that they are waited for.
        fences::heavy();
        if !ask_who_is_inside(these) {
            return true;
        }
        let mut leaves = lock(&LEAVES);
        while *leaves == seen {
            if give_up() {
                return false;
            }
            leaves = match deadline {
                None => LEFT_ONE
                    .wait(leaves)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let woken = LEFT_ONE.wait_timeout(leaves, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Asks the threads inside to tell when they leave; false when there is none.
fn ask_who_is_inside(these: &Within) -> bool {
    let places = lock(&PLACES);
    let mut any = false;
    for place in &places.all {
        let highest = place
            .seat
            .frames()
            .enumerate()
            .filter(|(_, frame)| these.holds(*frame))
            .map(|(depth, _)| depth)
            .last();
        if let Some(highest) = highest {
            let highest = u32::try_from(highest).unwrap_or(u32::MAX);
            place.waited.fetch_max(highest, Ordering::SeqCst);
            place.seat.ask(LEFT);
            any = true;
        }
    }
    any
}

/// Wakes whoever waits in [`wait_until_gone`], to look at its `give_up` again.
pub(crate) fn wake_waiters() {
    tell_waiters();
}

/// Asks every thread to end what it has of retired libraries, at its next leave.
pub(crate) fn ask_for_endings() {
    for place in &lock(&PLACES).all {
        place.seat.ask(ENDINGS);
    }
}

/// Returns the frames of this thread.
pub(crate) fn frames_here() -> Vec<*mut c_void> {
    PLACE
        .get()
        .map(|place| place.seat.frames().collect())
        .unwrap_or_default()
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
    /// How often one has been put up there.
    pub(crate) count: u32,
    /// The address of what it names.
    pub(crate) serving: usize,
    /// The thread, as the system numbers it; 0 if that is not known.
    pub(crate) thread: u32,
}

/// Calls `look` with every frame of every thread.
pub(crate) fn look_at_all(mut look: impl FnMut(&Standing)) {
    for place in &lock(&PLACES).all {
        for (depth, content, count) in place.seat.calls() {
            look(&Standing {
                seat: std::ptr::from_ref(*place).addr(),
                depth,
                count,
                serving: content.addr(),
                thread: place.thread.load(Ordering::Relaxed),
            });
        }
    }
}

/// Returns which threads are inside of `these`, as the system numbers them.
pub(crate) fn threads_inside(these: &Within) -> Vec<u32> {
    let places = lock(&PLACES);
    let inside = places
        .all
        .iter()
        .filter(|place| place.seat.frames().any(|frame| these.holds(frame)));
    inside
        .map(|place| place.thread.load(Ordering::Relaxed))
        .collect()
}
