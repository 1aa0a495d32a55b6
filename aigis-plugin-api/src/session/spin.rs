//! Waiting without sleeping: for how long it is worth it, and when it is not.

use std::hint;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What comes later than this on average, in nanoseconds, is not waited for in this way while both sides
/// look: neither has to be woken, so it mostly comes much sooner.
const AWAKE: u32 = 60_000;
/// The same where the other side has to be woken first, which takes about as long as to be woken oneself.
const ASLEEP: u32 = 150_000;
/// What comes no later than this is worth a thread that stays with the socket.
const NEAR: u32 = 400_000;
/// The shortest wait of this sort.
const SHORTEST: u32 = 10_000;
/// What takes longer is learned as if it took this long.
const MOST: u32 = 1_600_000;
/// One in so many waits is tried out although it has not been worth it.
const TRY_AGAIN: u32 = 64;
/// How long a turn without a system call lasts, in looks.
const LOOKS: u32 = 40;
/// A thread that gave way for longer than this has found somebody else at work.
const OTHERS: Duration = Duration::from_micros(60);
/// It may have been the other side that was at work, if what it waited for is there, and after no longer
/// than this.
const OTHER_SIDE: Duration = Duration::from_micros(500);
/// For how long nobody spins after that, in nanoseconds: to find out costs as much as whoever is at work
/// takes, so it doubles each time that somebody is found again soon.
const BUSY: RangeInclusive<u64> = 5_000_000..=250_000_000;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Until when the machine is taken for busy, in nanoseconds.
static BUSY_UNTIL: AtomicU64 = AtomicU64::new(0);
/// For how long it was last.
static BUSY_FOR: AtomicU64 = AtomicU64::new(0);
/// To find out reads files, so it is found out once.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Returns on how many cores this process may run.
pub(super) fn cores() -> usize {
    *CORES
}

fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Tells whether others were found at work not long ago.
pub(super) fn is_busy() -> bool {
    // With one core, whoever spins keeps the other side from going on.
    cores() == 1 || BUSY_UNTIL.load(Ordering::Relaxed) > now()
}

fn found_others() {
    let (now, last) = (now(), BUSY_FOR.load(Ordering::Relaxed));
    let until = BUSY_UNTIL.load(Ordering::Relaxed);
    if now < until {
        // Another thread has found the same.
        return;
    }
    let again = now < until + last;
    let time = if again { last * 2 } else { 0 }.clamp(*BUSY.start(), *BUSY.end());
    BUSY_FOR.store(time, Ordering::Relaxed);
    BUSY_UNTIL.store(now + time, Ordering::Relaxed);
}

/// How long something usually takes to come, learned from how long it took.
#[derive(Debug)]
pub(super) struct Patience {
    /// In nanoseconds.
    usual: AtomicU32,
    /// Up to which usual time it is worth to wait like this.
    worth: u32,
    asked: AtomicU32,
}

impl Patience {
    /// Knows nothing yet, and does not wait.
    pub(super) fn none() -> Self {
        Self {
            usual: AtomicU32::new(NEAR * 2),
            worth: AWAKE,
            asked: AtomicU32::new(0),
        }
    }

    /// Expects it soon, of another side that looks.
    pub(super) fn of_awake() -> Self {
        Self {
            usual: AtomicU32::new(SHORTEST),
            worth: AWAKE,
            asked: AtomicU32::new(0),
        }
    }

    /// Expects it soon, of another side that sleeps.
    pub(super) fn of_asleep() -> Self {
        Self {
            usual: AtomicU32::new(ASLEEP / 2),
            worth: ASLEEP,
            asked: AtomicU32::new(0),
        }
    }

    /// Learns how long it took.
    pub(super) fn took(&self, time: Duration) {
        let took = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX).min(MOST);
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
        self.usual.load(Ordering::Relaxed) <= self.worth
    }

    /// Returns how long to spin; `None` when that is not worth it.
    pub(super) fn window(&self) -> Option<Duration> {
        if is_busy() {
            return None;
        }
        let usual = self.usual.load(Ordering::Relaxed);
        let longest = self.worth * 5 / 3;
        let window = if usual <= self.worth {
            (usual * 3).clamp(SHORTEST, longest)
        } else if self.asked.fetch_add(1, Ordering::Relaxed) % TRY_AGAIN == TRY_AGAIN - 1 {
            longest / 2
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
    look: impl FnMut() -> bool,
) -> Option<Duration> {
    spin_from(LOOKS, begun, window, crowded, look)
}

/// Does the same for what somebody brings who has just been woken, perhaps to run on this very core: who
/// looks gives way at once.
pub(super) fn spin_for_woken(
    begun: Instant,
    window: Duration,
    look: impl FnMut() -> bool,
) -> Option<Duration> {
    spin_from(0, begun, window, || false, look)
}

fn spin_from(
    mut looks: u32,
    begun: Instant,
    window: Duration,
    crowded: impl Fn() -> bool,
    mut look: impl FnMut() -> bool,
) -> Option<Duration> {
    let mut at = begun;
    loop {
        let crowded = crowded();
        for _ in 0..if crowded { 1 } else { looks } {
            if look() {
                return Some(at - begun);
            }
            hint::spin_loop();
        }
        looks = LOOKS;
        let before = Instant::now();
        if before - begun > window {
            return None;
        }
        // Gives way, and learns from how long that takes whether somebody wanted the core.
        thread::yield_now();
        at = Instant::now();
        let gave_way = at - before;
        if gave_way > OTHERS && !crowded {
            let came = look();
            if !came || gave_way > OTHER_SIDE {
                found_others();
            }
            return came.then(|| at - begun);
        }
    }
}
