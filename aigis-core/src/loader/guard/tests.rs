//! The real guard under load: threads call through slots while what the slots hold is switched as fast
//! as it can be, and everything is poisoned and freed as soon as it may be.
//!
//! `AIGIS_STRESS_SECONDS` makes it long. The models under `tests/loom` go through the interleavings of
//! few steps; here are the real fences and threads that begin and end.

use std::cell::RefCell;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::Shape;
use aigis_plugin_api::abi::Seat;
use aigis_plugin_api::signature::Signature;

use super::fences;
use super::seats::{self, enter_typed};
use super::{Change, Slot, Source, Stay, Switchboard, Visit, Within};
use crate::loader::serving::{Body, CoreSkill};
use crate::loader::{Link, Serving};
use crate::registry::Offer;

/// Goes in as typed calls do when nothing is out of the ordinary.
fn straight(source: &Source<'_>) -> Option<(*const c_void, *const Seat)> {
    if fences::are_everywhere() {
        seats::try_enter_typed::<true>(source, |serving| serving.entry)
    } else {
        seats::try_enter_typed::<false>(source, |serving| serving.entry)
    }
}

const CALLERS: usize = 2;
const LEAST_SWITCHES: usize = 40;
/// Deeper than a seat has frames.
const DEEP: usize = 40;
const CANARY: usize = 0xA16;
const POISON: usize = 0xDEAD;
const DEADLINE: Duration = Duration::from_secs(60);

static OFFER: LazyLock<Arc<Offer>> = LazyLock::new(|| {
    let signature = signature();
    Arc::new(Offer {
        name: "stress.skill".to_owned(),
        doc: String::new(),
        id: signature.id(),
        signature,
        plugin: String::new(),
        generation: 1,
        idempotent: false,
    })
});

fn signature() -> Signature {
    Signature {
        parameters: Vec::new(),
        result: Shape::Unit,
        error: None,
        constant: false,
    }
}

/// What a version offers in the two slots; the "entries" are its number and the canary.
fn version(number: usize) -> Vec<Serving> {
    let skill: CoreSkill = Arc::new(|_| Ok(Vec::new()));
    let serving = || Serving {
        entry: std::ptr::without_provenance(number << 16 | CANARY),
        id: crate::loader::serving::Key::of(&OFFER.id),
        offer: Arc::clone(&OFFER),
        body: Body::Core(Arc::clone(&skill)),
    };
    vec![serving(), serving()]
}

/// A host in small.
struct World {
    board: Arc<Switchboard>,
    slots: [Arc<Slot>; 2],
    /// An import that is pinned while its version drains.
    link: Box<Link>,
    /// The version whose state is being handed over.
    handing: AtomicUsize,
    over: AtomicBool,
    uses: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        let board = Arc::new(Switchboard::default());
        let slots = ["stress.one", "stress.two"].map(|name| Slot::new(name, &board));
        Arc::new(Self {
            link: Link::new(Arc::clone(&slots[0]), signature()),
            board,
            slots,
            handing: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            uses: AtomicU64::new(0),
        })
    }

    fn changes(&self, version: &[Serving]) -> Vec<Change> {
        let both = self.slots.iter().zip(version);
        let changes = both.map(|(slot, serving)| Change {
            slot: Arc::clone(slot),
            next: serving,
        });
        changes.collect()
    }

    /// Looks whether what was entered is there, and returns its number.
    fn number(&self, entry: *const std::ffi::c_void) -> usize {
        let entry = black_box(entry).addr();
        assert_eq!(entry & 0xFFFF, CANARY, "entered what was freed: {entry:#x}");
        self.uses.fetch_add(1, Ordering::Relaxed);
        entry >> 16
    }

    fn check(&self, visit: &Visit) -> usize {
        self.number(visit.serving().entry)
    }

    fn visit(&self, slot: usize) -> Visit {
        Visit::of(&self.slots[slot].source()).expect("something is always offered")
    }

    /// Calls into both slots, one call after the other.
    fn one_after_another(&self) {
        let first = self.check(&self.visit(0));
        let second = self.check(&self.visit(1));
        assert!(first <= second, "saw version {first}, then {second}");
    }

    /// Calls as a library does, which leaves by itself.
    fn typed(&self) {
        let source = self.slots[0].source();
        let entered = straight(&source).or_else(|| enter_typed(&source, |serving| serving.entry));
        let (entry, seat) = entered.expect("something is always offered");
        let (seat, depth) = Seat::parts(seat);
        let number = self.number(entry);
        assert_ne!(
            self.handing.load(Ordering::SeqCst),
            number,
            "in a hand-over"
        );
        // SAFETY: the seat came from `enter_typed` on this thread, which has not left.
        if unsafe { (*seat).leave_at(depth) } {
            // SAFETY: as above; now it has.
            unsafe { seats::attend_seat(seat) };
        }
    }

    /// Calls inside of calls, each of which stays until the innermost has returned.
    fn nested(&self, depth: usize) {
        let visit = self.visit(depth % 2);
        let number = self.check(&visit);
        assert_ne!(
            self.handing.load(Ordering::SeqCst),
            number,
            "in a hand-over"
        );
        if depth > 0 {
            self.nested(depth - 1);
        }
        assert_eq!(self.check(&visit), number);
    }

    fn pinned(&self) {
        let visit = Visit::of(&self.link.source()).expect("something is always offered");
        self.check(&visit);
    }

    /// Begins something that outlives the call.
    fn stays(&self, runner: &Sender<Staying>) {
        let visit = self.visit(0);
        let staying = Staying {
            serving: std::ptr::from_ref(visit.serving()),
            _stay: Stay::with(visit.serving()),
        };
        drop(visit);
        runner.send(staying).expect("the runner is the last to end");
    }

    /// Calls from a thread that begins, and from one that ends.
    fn on_a_short_thread(self: &Arc<Self>) {
        struct AtEnd(Arc<World>);

        impl Drop for AtEnd {
            fn drop(&mut self) {
                self.0.nested(2);
            }
        }

        thread_local! {
            static BEFORE: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
            static AFTER: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
        }

        let world = Arc::clone(self);
        let short = thread::spawn(move || {
            BEFORE.set(Some(AtEnd(Arc::clone(&world))));
            world.nested(2);
            AFTER.set(Some(AtEnd(world)));
        });
        short.join().expect("its calls succeed");
    }

    fn call_until_over(self: &Arc<Self>, runner: &Sender<Staying>) {
        for round in 0_u64.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.one_after_another();
            self.typed();
            self.pinned();
            if round % 8 == 0 {
                self.nested(4);
                self.stays(runner);
            }
            if round % 256 == 0 {
                self.nested(DEEP);
            }
            if round % 4096 == 0 {
                self.on_a_short_thread();
            }
        }
    }

    /// Puts a version in the place of `old`, in one of the ways that there are, and frees it.
    fn switch(&self, number: usize, mut old: Vec<Serving>) -> Vec<Serving> {
        let next = version(number);
        let within = Within::of(&old);
        if number.is_multiple_of(2) {
            self.link.pin(&raw const old[0]);
        }
        match number % 3 {
            0 => self.board.begin(self.changes(&next), None).commit(),
            commits => {
                let held = Some(within.clone());
                let switch = self.board.begin(self.changes(&next), held);
                // Whoever is pinned is not held, and would go in while the state is handed over.
                self.link.unpin();
                assert!(seats::wait_until_gone(&within, None, || false));
                self.handing.store(number - 1, Ordering::SeqCst);
                thread::yield_now();
                self.handing.store(0, Ordering::SeqCst);
                if commits == 1 {
                    switch.commit();
                } else {
                    drop(switch);
                    self.board.begin(self.changes(&next), None).commit();
                }
            }
        }
        self.link.unpin();
        assert!(seats::wait_until_gone(&within, None, || false));
        for serving in &mut old {
            serving.entry = std::ptr::without_provenance(POISON);
        }
        black_box(&mut old);
        drop(old);
        next
    }
}

struct Staying {
    serving: *const Serving,
    _stay: Stay,
}

// SAFETY: the serving can be shared between threads, and stays for as long as this lives.
unsafe impl Send for Staying {}

#[test]
fn nothing_is_freed_under_those_who_are_inside() {
    let seconds = std::env::var("AIGIS_STRESS_SECONDS").ok();
    let seconds: u64 = seconds.map_or(0, |seconds| seconds.parse().expect("a number"));
    let least = Duration::from_secs(seconds);
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || {
        // Two hosts in one process, which have nothing in common but the seats.
        let hosts = [(); 2].map(|()| thread::spawn(move || stress(least)));
        let _ = sender.send(hosts.map(thread::JoinHandle::join));
    });
    let outcome = outcome.recv_timeout(least + DEADLINE);
    let outcome = outcome.expect("nobody waits for ever");
    for (uses, switches) in outcome.map(|host| host.expect("no check fails")) {
        println!("{uses} uses, {switches} switches");
        assert!(uses > 0 && switches >= LEAST_SWITCHES);
    }
}

fn stress(least: Duration) -> (u64, usize) {
    let world = World::new();
    let mut number = 1;
    let mut current = version(number);
    world.board.begin(world.changes(&current), None).commit();
    let (runner, staying) = mpsc::channel::<Staying>();
    let running = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            for one in staying {
                // SAFETY: the stay in `one` keeps it where it is.
                world.number(unsafe { &*one.serving }.entry);
            }
        })
    };
    let callers = [(); CALLERS].map(|()| {
        let (world, runner) = (Arc::clone(&world), runner.clone());
        thread::spawn(move || world.call_until_over(&runner))
    });
    drop(runner);
    let begun = Instant::now();
    while number <= LEAST_SWITCHES || begun.elapsed() < least {
        number += 1;
        current = world.switch(number, current);
        if callers.iter().any(thread::JoinHandle::is_finished) {
            // A check has failed; the join below says so.
            break;
        }
    }
    world.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("no check fails");
    }
    running.join().expect("no check fails");
    let uses = world.uses.load(Ordering::Relaxed);
    drop(current);
    (uses, number - 1)
}
