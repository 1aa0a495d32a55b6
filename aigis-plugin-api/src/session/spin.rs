//! Waiting without sleeping: for how long it is worth it, and when it is not.

use std::hint;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What comes later than this on average is not waited for in this way.
const WORTH_IT: u32 = 60_000;
/// What comes no later than this is worth a thread that stays with the socket.
const NEAR: u32 = 400_000;
/// The longest wait of this sort, in nanoseconds.
const LONGEST: u32 = 100_000;
/// The shortest.
const SHORTEST: u32 = 10_000;
/// One in so many waits is tried out although it has not been worth it.
const TRY_AGAIN: u32 = 64;
/// How long a turn without a system call lasts, in looks.
const LOOKS: u32 = 40;
/// A thread that gave way for longer than this has found somebody else at work.
const OTHERS: Duration = Duration::from_micros(60);
/// For how long nobody spins after that.
const BUSY: Duration = Duration::from_millis(5);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Until when the machine is taken for busy, in nanoseconds.
static BUSY_UNTIL: AtomicU64 = AtomicU64::new(0);
/// With one core, whoever spins keeps the other side from going on.
static ALONE: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|cores| cores.get() == 1));

fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn is_busy() -> bool {
    *ALONE || BUSY_UNTIL.load(Ordering::Relaxed) > now()
}

fn found_others() {
    let until = now() + u64::try_from(BUSY.as_nanos()).unwrap_or(0);
    BUSY_UNTIL.store(until, Ordering::Relaxed);
}

/// How long something usually takes to come, learned from how long it took.
#[derive(Debug)]
pub(super) struct Patience {
    /// In nanoseconds.
    usual: AtomicU32,
    asked: AtomicU32,
}

impl Patience {
    /// Knows nothing yet, and does not wait.
    pub(super) fn none() -> Self {
        Self {
            usual: AtomicU32::new(NEAR * 2),
            asked: AtomicU32::new(0),
        }
    }

    /// Expects it soon.
    pub(super) fn some() -> Self {
        Self {
            usual: AtomicU32::new(SHORTEST),
            asked: AtomicU32::new(0),
        }
    }

    /// Learns how long it took.
    pub(super) fn took(&self, time: Duration) {
        let took = u32::try_from(time.as_nanos())
            .unwrap_or(u32::MAX)
            .min(LONGEST * 16);
        let usual = self.usual.load(Ordering::Relaxed);
        let next = if took < usual {
            usual - (usual - took) / 4
        } else {
            usual + (took - usual) / 8
        };
        self.usual.store(next, Ordering::Relaxed);
    }

    /// Tells whether it comes soon enough for a thread to stay with the socket.
    pub(super) fn is_near(&self) -> bool {
        self.usual.load(Ordering::Relaxed) <= NEAR
    }

    /// Tells whether it comes soon enough to be waited for.
    pub(super) fn is_short(&self) -> bool {
        self.usual.load(Ordering::Relaxed) <= WORTH_IT
    }

    /// Returns how long to spin; `None` when that is not worth it.
    pub(super) fn window(&self) -> Option<Duration> {
        if is_busy() {
            return None;
        }
        let usual = self.usual.load(Ordering::Relaxed);
        let window = if usual <= WORTH_IT {
            (usual * 3).clamp(SHORTEST, LONGEST)
        } else if self.asked.fetch_add(1, Ordering::Relaxed) % TRY_AGAIN == TRY_AGAIN - 1 {
            LONGEST / 2
        } else {
            return None;
        };
        Some(Duration::from_nanos(window.into()))
    }
}

/// Looks until there is something or the time is over; returns how long after `begun` that was.
/// `crowded` tells whether others of this process look too, and want the core.
pub(super) fn spin(
    begun: Instant,
    window: Duration,
    crowded: impl Fn() -> bool,
    mut look: impl FnMut() -> bool,
) -> Option<Duration> {
    let mut at = begun;
    loop {
        let crowded = crowded();
        for _ in 0..if crowded { 1 } else { LOOKS } {
            if look() {
                return Some(at - begun);
            }
            hint::spin_loop();
        }
        let before = Instant::now();
        if before - begun > window {
            return None;
        }
        // Gives way, and learns from how long that takes whether somebody wanted the core.
        thread::yield_now();
        at = Instant::now();
        if at - before > OTHERS && !crowded {
            found_others();
            return look().then(|| at - begun);
        }
    }
}
