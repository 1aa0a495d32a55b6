//! Each model is a few threads that do what callers, switches and retirements do.

use std::sync::Arc;

use aigis_plugin_api::abi::set_membarrier;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use loom::thread;

use crate::loader::Serving;
use crate::loader::guard::drain::Within;
use crate::loader::guard::seats::Seats;
use crate::loader::guard::slot::{Slot, Source};
use crate::loader::guard::switch::{Change, Switchboard};

/// As many as one model needs.
const PLACES: usize = 2;

/// A host in small: slots, places, and the versions of what is offered.
struct World {
    seats: Seats<PLACES>,
    board: Arc<Switchboard>,
    slots: Vec<Arc<Slot>>,
    /// One row for each version, with a serving for each slot.
    versions: Vec<Vec<Serving>>,
}

impl World {
    /// Makes `slots` slots, which hold the first of `versions` versions.
    fn new(slots: usize, versions: usize) -> Arc<Self> {
        let board = Arc::new(Switchboard::default());
        let slots: Vec<_> = (0..slots).map(|_| Slot::new("a.b", &board)).collect();
        let serving = || Serving {
            freed: UnsafeCell::new(false),
        };
        let version = || slots.iter().map(|_| serving()).collect();
        let world = Self {
            seats: Seats::new(),
            versions: (0..versions).map(|_| version()).collect(),
            board,
            slots,
        };
        world.board.begin(world.changes(0), None).commit();
        Arc::new(world)
    }

    fn changes(&self, version: usize) -> Vec<Change> {
        let slots = self.slots.iter().zip(&self.versions[version]);
        let changes = slots.map(|(slot, serving)| Change {
            slot: Arc::clone(slot),
            next: serving,
        });
        changes.collect()
    }

    fn within(&self, version: usize) -> Within {
        Within::of(&self.versions[version])
    }

    /// Enters, and returns which version that is; it is there.
    fn enter(&self, place: usize, source: &Source<'_>) -> usize {
        let found = self.seats.enter(place, source);
        let of = |version: &Vec<Serving>| version.as_ptr_range().contains(&found);
        let version = self.versions.iter().position(of);
        let version = version.expect("a slot holds what was put there");
        self.is_there(version);
        version
    }

    fn is_there(&self, version: usize) {
        for serving in &self.versions[version] {
            // SAFETY: loom checks that nothing is written meanwhile.
            let freed = serving.freed.with(|freed| unsafe { *freed });
            assert!(!freed, "used after it was freed");
        }
    }

    /// One call of the skill in `slot`.
    fn call(&self, place: usize, slot: usize) -> usize {
        let version = self.enter(place, &self.slots[slot].source());
        thread::yield_now();
        self.is_there(version);
        self.seats.leave(place);
        version
    }

    /// Waits until nobody is inside of `version`, then frees it.
    fn free(&self, version: usize) {
        self.seats.wait_until_gone(&self.within(version));
        for serving in &self.versions[version] {
            // SAFETY: loom checks that nobody looks meanwhile.
            serving.freed.with_mut(|freed| unsafe { *freed = true });
        }
    }

    /// Puts `version` in the place of the one before, which is freed.
    fn switch(&self, version: usize) {
        self.board.begin(self.changes(version), None).commit();
        self.free(version - 1);
    }
}

/// Goes through all that `body` can come to, in both forms of the fences.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let body = Arc::new(body);
    for membarrier in [true, false] {
        set_membarrier(membarrier);
        let body = Arc::clone(&body);
        loom::model(move || body());
    }
}

/// Runs `body` on a thread of the model.
fn spawn(world: &Arc<World>, body: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || body(&world))
}

/// What a caller uses is not freed, and who waits for it to be left is told: else loom finds a
/// deadlock.
#[test]
fn nothing_is_freed_under_a_call() {
    model(|| {
        let world = World::new(1, 2);
        let caller = spawn(&world, |world| {
            world.call(0, 0);
        });
        world.switch(1);
        caller.join().unwrap();
        assert_eq!(world.call(0, 0), 1);
    });
}

/// A caller that has announced the old version, but finds the next one, may stay in that for as long
/// as it likes: nobody who waits for the old one waits for it.
#[test]
fn a_frame_that_is_replaced_is_told_of() {
    model(|| {
        let world = World::new(1, 2);
        let freed = Arc::new(AtomicBool::new(false));
        let caller = {
            let freed = Arc::clone(&freed);
            spawn(&world, move |world| {
                let version = world.enter(0, &world.slots[0].source());
                while version == 1 && !freed.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                world.seats.leave(0);
            })
        };
        world.switch(1);
        freed.store(true, Ordering::Release);
        caller.join().unwrap();
    });
}

/// All slots of a switch change in one instant.
#[test]
fn no_caller_sees_the_old_after_the_new() {
    model(|| {
        let world = World::new(2, 2);
        let caller = spawn(&world, |world| {
            let first = world.call(0, 0);
            let second = world.call(0, 1);
            assert!(first <= second, "saw the new one, then the old one");
        });
        world.board.begin(world.changes(1), None).commit();
        caller.join().unwrap();
    });
}

/// Between the wait and the commit nobody is inside; a hand-over that fails leaves the old one.
fn hand_over(commits: bool) {
    model(move || {
        let world = World::new(1, 2);
        let handing = Arc::new(AtomicBool::new(false));
        let caller = {
            let handing = Arc::clone(&handing);
            spawn(&world, move |world| {
                let version = world.enter(0, &world.slots[0].source());
                let busy = handing.load(Ordering::Relaxed);
                assert!(
                    version == 1 || !busy,
                    "inside while the state is handed over"
                );
                world.seats.leave(0);
            })
        };
        let old = world.within(0);
        let switch = world.board.begin(world.changes(1), Some(old.clone()));
        world.seats.wait_until_gone(&old);
        handing.store(true, Ordering::Relaxed);
        thread::yield_now();
        handing.store(false, Ordering::Relaxed);
        if commits {
            switch.commit();
            world.free(0);
        } else {
            drop(switch);
        }
        caller.join().unwrap();
        assert_eq!(world.call(0, 0), usize::from(commits));
    });
}

#[test]
fn nobody_is_inside_while_the_state_is_handed_over() {
    hand_over(true);
}

#[test]
fn a_hand_over_that_fails_leaves_the_old_version() {
    hand_over(false);
}

/// A call made from inside of the old version goes there even while others are held: else the
/// hand-over would wait for itself.
#[test]
fn a_nested_call_is_not_held() {
    model(|| {
        let world = World::new(1, 2);
        let caller = spawn(&world, |world| {
            let source = world.slots[0].source();
            let outer = world.enter(0, &source);
            let inner = world.call(0, 0);
            assert!(inner >= outer);
            world.is_there(outer);
            world.seats.leave(0);
        });
        let old = world.within(0);
        let switch = world.board.begin(world.changes(1), Some(old.clone()));
        world.seats.wait_until_gone(&old);
        switch.commit();
        world.free(0);
        caller.join().unwrap();
    });
}

/// One hand-over fails and the next begins while a caller finds its way in: it does not take its own
/// announcement for a call that it is inside of.
#[test]
fn a_second_hand_over_holds_a_caller_that_the_first_let_go() {
    model(|| {
        let world = World::new(1, 2);
        let handing = Arc::new(AtomicBool::new(false));
        let caller = {
            let handing = Arc::clone(&handing);
            spawn(&world, move |world| {
                let version = world.enter(0, &world.slots[0].source());
                let busy = handing.load(Ordering::Relaxed);
                assert!(
                    version == 1 || !busy,
                    "inside while the state is handed over"
                );
                world.seats.leave(0);
            })
        };
        let old = world.within(0);
        drop(world.board.begin(world.changes(1), None));
        let switch = world.board.begin(world.changes(1), Some(old.clone()));
        world.seats.wait_until_gone(&old);
        handing.store(true, Ordering::Relaxed);
        switch.commit();
        caller.join().unwrap();
    });
}

/// An import that is pinned to the old version lets go of it: whoever goes on there is waited for.
#[test]
fn a_pin_is_left_before_what_it_names_is_freed() {
    model(|| {
        let world = World::new(1, 2);
        // As in a link: the pin, and the cell that says where to look.
        let old = std::ptr::from_ref(&world.versions[0][0]).cast_mut().cast();
        let pin = Arc::new(AtomicPtr::new(old));
        let at = std::ptr::from_ref(&*pin).cast_mut();
        let cell = Arc::new(AtomicPtr::new(at));
        let caller = {
            let (cell, pin) = (Arc::clone(&cell), Arc::clone(&pin));
            spawn(&world, move |world| {
                let version = world.enter(0, &Source::at(&cell, &world.slots[0]));
                world.is_there(version);
                world.seats.leave(0);
                drop(pin);
            })
        };
        world.board.begin(world.changes(1), None).commit();
        cell.store(world.slots[0].current_cell(), Ordering::SeqCst);
        world.free(0);
        caller.join().unwrap();
    });
}

/// A call starts something that goes on without it: the look at all places finds one or the other.
#[test]
fn a_stay_that_outlives_its_call_is_waited_for() {
    model(|| {
        let world = World::new(1, 2);
        let caller = spawn(&world, |world| {
            // The later place is looked at last.
            let version = world.enter(1, &world.slots[0].source());
            world.seats.stay(0, &world.versions[version][0]);
            world.seats.leave(1);
            thread::yield_now();
            world.is_there(version);
            world.seats.leave(0);
        });
        world.switch(1);
        caller.join().unwrap();
    });
}
