//! Everything at once, at random: calls from several threads while plugins are reloaded, broken,
//! forced, stopped and started; every result is checked.
//!
//! `AIGIS_RANDOM_SECONDS` says how long, `AIGIS_RANDOM_SEED` which way; a failure prints its seed.
//! Threads take turns as the system likes, so a seed repeats what each of them does, not the whole.

mod calls;
mod operations;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::host::GenerationState;
use aigis_core::{Host, State};

use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, plugins};

const VAULT: &str = include_str!("fixtures/swap/vault.rs");

/// The way that is taken when nobody says another.
const SEED: u64 = 0x0a16_1500;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread has its own report.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sequence of numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What `desk` is like; odd numbers of changes mean that it is changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Desk {
    changes: u64,
    runs: bool,
    /// Its slips are not what callers have been compiled for.
    is_other: bool,
}

struct World {
    home: TestHome,
    host: Host,
    until: Instant,
    /// Somebody has found a mistake.
    failed: AtomicBool,
    desk: Mutex<Desk>,
    /// Held for the whole of an operation on the plugin; taken in this order.
    vault_turn: Mutex<()>,
    desk_turn: Mutex<()>,
    /// What was acknowledged: amounts, and how many.
    sum: AtomicU64,
    writes: AtomicU64,
    calls: AtomicU64,
    operations: AtomicU64,
}

/// Makes the others stop when a thread of the test panics.
struct Alarm<'a>(&'a World);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
    }
}

impl World {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.failed.load(Ordering::SeqCst)
    }

    /// Runs `body`, which changes `desk` to what it returns.
    fn change_desk(&self, body: impl FnOnce(Desk) -> Desk) {
        let before = {
            let mut desk = lock(&self.desk);
            desk.changes += 1;
            *desk
        };
        let mut after = body(before);
        after.changes = before.changes + 1;
        *lock(&self.desk) = after;
    }

    /// Makes a call to `desk` and returns how it was before, if it was the same all the time.
    fn steadily<T>(&self, call: impl FnOnce() -> T) -> (T, Option<Desk>) {
        let before = *lock(&self.desk);
        let outcome = call();
        let same = before.changes.is_multiple_of(2) && *lock(&self.desk) == before;
        (outcome, same.then_some(before))
    }

    fn acknowledged(&self, amount: u64, answer: (u64, u64), last: &mut (u64, u64)) {
        assert!(
            answer.0 > last.0 && answer.1 > last.1,
            "{answer:?} after {last:?}"
        );
        *last = answer;
        self.sum.fetch_add(amount, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::SeqCst);
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return otherwise;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is no number: `{text}`"))
}

#[test]
fn whatever_happens_every_result_is_right() {
    let seed = from_environment("AIGIS_RANDOM_SEED", SEED);
    let seconds = from_environment("AIGIS_RANDOM_SECONDS", 10);
    let _deadline = Deadline::begin(Duration::from_secs(seconds));
    let _told = ToldOnFailure { seed, seconds };
    let home = TestHome::new();
    plugins::core(&home, "vault", VAULT);
    plugins::core(&home, "desk", &operations::source(false));
    home.config("[core]\nvault = \"{sources}/vault\"\ndesk = \"{sources}/desk\"\n");
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    let sessions = [(); 2].map(|()| aigis_plugin_api::connect(home.path()).expect("the core runs"));
    for session in &sessions {
        // From here on the core knows that it is expected.
        assert_eq!(
            session
                .scope(|| calls::desk::slip(7))
                .expect("is served")
                .number,
            7
        );
    }
    let world = World {
        home,
        host,
        until: Instant::now() + Duration::from_secs(seconds),
        failed: AtomicBool::new(false),
        desk: Mutex::new(Desk {
            changes: 0,
            runs: true,
            is_other: false,
        }),
        vault_turn: Mutex::default(),
        desk_turn: Mutex::default(),
        sum: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        operations: AtomicU64::new(0),
    };
    let mut random = Random(seed);
    let mut fork = || Random(random.below(u64::MAX));
    thread::scope(|scope| {
        let world = &world;
        let ways = [
            calls::Way::Host(&world.host),
            calls::Way::Host(&world.host),
            calls::Way::Session(&sessions[0]),
            calls::Way::Session(&sessions[1]),
        ];
        for way in ways {
            let random = fork();
            scope.spawn(move || calls::until_the_end(world, &way, random));
        }
        for _ in 0..2 {
            let random = fork();
            scope.spawn(move || operations::until_the_end(world, random));
        }
    });
    let expected = [&world.sum, &world.writes].map(|count| count.load(Ordering::SeqCst));
    let total: (u64, u64) = world.host.call("vault.total", ()).expect("is served");
    assert_eq!(
        [total.0, total.1],
        expected,
        "a write is lost, or there is one too many"
    );
    println!(
        "seed {seed}, {seconds} s: {} calls, {} operations, vault {}, desk {}",
        world.calls.load(Ordering::SeqCst),
        world.operations.load(Ordering::SeqCst),
        world.host.status()[0].generation,
        world.host.status()[1].generation,
    );
    everything_old_is_gone(&world.host);
    world.host.shutdown();
}

/// Says how to take the same way again.
struct ToldOnFailure {
    seed: u64,
    seconds: u64,
}

impl Drop for ToldOnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, seconds } = self;
            eprintln!("again with AIGIS_RANDOM_SEED={seed} AIGIS_RANDOM_SECONDS={seconds}");
        }
    }
}

fn everything_old_is_gone(host: &Host) {
    let mut left = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        eventually("the old versions to be gone", || {
            let all = host
                .status()
                .into_iter()
                .flat_map(|status| status.generations);
            left = all
                .filter(|one| {
                    !matches!(
                        one.state,
                        GenerationState::Unmapped | GenerationState::Serving
                    )
                })
                .collect();
            left.is_empty().then_some(())
        });
    }));
    assert!(outcome.is_ok(), "{left:?}");
}
