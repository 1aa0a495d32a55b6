//! Calls that come through sessions, counted and timed, each by the thread that ends it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::rpc::Done;

/// The upper ends of the histogram's buckets, in nanoseconds, and as they are written.
pub(super) const BOUNDS: [(u64, &str); 19] = [
    (1_000, "0.000001"),
    (2_500, "0.0000025"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (5_000_000_000, "5"),
    (30_000_000_000, "30"),
];

/// With the last one, for what takes longer than any bound.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// How many threads count without touching what another one writes.
const CELLS: usize = 8;

/// What one thread, or a few, have counted. A line of the cache is nobody else's.
#[derive(Default)]
#[repr(align(128))]
struct OfThread {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
    failed: AtomicU64,
    streams: AtomicU64,
}

/// The calls of one skill.
#[derive(Default)]
pub(crate) struct SkillCalls {
    cells: [OfThread; CELLS],
}

/// What was counted until a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Calls that are over, by how long they took; each is in one bucket.
    pub(super) buckets: [u64; BUCKETS],
    pub(super) nanoseconds: u64,
    pub(super) failed: u64,
    /// Calls with a stream that were opened.
    pub(super) streams: u64,
}

impl Counted {
    pub(super) fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Returns this thread's cell.
fn own_cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    // While a thread ends it may have none any more.
    let own = OWN.try_with(|own| {
        own.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % CELLS;
            own.set(Some(next));
            next
        })
    });
    own.unwrap_or(0)
}

impl SkillCalls {
    pub(super) fn took(&self, time: Duration, failed: bool) {
        let cell = &self.cells[own_cell()];
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanoseconds);
        cell.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cell.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        if failed {
            cell.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn opened(&self) {
        self.cells[own_cell()]
            .streams
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> Counted {
        let mut sum = Counted::default();
        for cell in &self.cells {
            for (sum, bucket) in sum.buckets.iter_mut().zip(&cell.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            sum.nanoseconds += cell.nanoseconds.load(Ordering::Relaxed);
            sum.failed += cell.failed.load(Ordering::Relaxed);
            sum.streams += cell.streams.load(Ordering::Relaxed);
        }
        sum
    }

    /// Has a call counted when it is over.
    pub(crate) fn timed(self: Arc<Self>, done: Done) -> Done {
        let begun = Instant::now();
        Box::new(move |outcome| {
            self.took(begun.elapsed(), outcome.is_err());
            done(outcome);
        })
    }
}

/// The calls of every skill, by name.
#[derive(Default)]
pub(crate) struct Calls {
    by_skill: RwLock<BTreeMap<String, Arc<SkillCalls>>>,
    /// Of names that nobody offers: a client may make up as many as it likes.
    unknown: AtomicU64,
}

impl Calls {
    /// Returns the calls of a skill, which is one if `is_offered` says so.
    pub(crate) fn of(
        &self,
        name: &str,
        is_offered: impl FnOnce() -> bool,
    ) -> Option<Arc<SkillCalls>> {
        let known = self.by_skill.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = known.get(name) {
            return Some(Arc::clone(calls));
        }
        drop(known);
        if !is_offered() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut known = self
            .by_skill
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(known.entry(name.to_owned()).or_default()))
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    pub(super) fn counted(&self) -> Vec<(String, Counted)> {
        let known = self.by_skill.read().unwrap_or_else(PoisonError::into_inner);
        let all = known.iter();
        all.map(|(name, calls)| (name.clone(), calls.counted()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_in_one_bucket() {
        let calls = SkillCalls::default();
        for (bound, _) in BOUNDS {
            calls.took(Duration::from_nanos(bound), false);
            calls.took(Duration::from_nanos(bound + 1), true);
        }
        let counted = calls.counted();
        let mut expected = [2; BUCKETS];
        (expected[0], expected[BUCKETS - 1]) = (1, 1);
        assert_eq!(counted.buckets, expected);
        assert_eq!(counted.calls(), 38);
        assert_eq!(counted.failed, 19);
        let sum: u64 = BOUNDS.iter().map(|(bound, _)| 2 * bound + 1).sum();
        assert_eq!(counted.nanoseconds, sum);
    }

    #[test]
    fn bounds_are_what_they_are_written_as() {
        for (nanoseconds, written) in BOUNDS {
            let seconds: f64 = written.parse().expect("is a number");
            assert_eq!((seconds * 1e9).round() as u64, nanoseconds);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let calls = Arc::new(SkillCalls::default());
        let threads: Vec<_> = (0..2 * CELLS)
            .map(|_| {
                let calls = Arc::clone(&calls);
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        let heard = Arc::clone(&calls).timed(Box::new(|_| ()));
                        heard(Ok(Vec::new()));
                        calls.opened();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let counted = calls.counted();
        assert_eq!((counted.calls(), counted.streams), (16_000, 16_000));
    }

    #[test]
    fn names_that_nobody_offers_are_not_kept() {
        let calls = Calls::default();
        for number in 0..100 {
            assert!(calls.of(&format!("made.up.{number}"), || false).is_none());
        }
        assert!(calls.of("greeter.greet", || true).is_some());
        // Also while its plugin is being reloaded.
        assert!(calls.of("greeter.greet", || false).is_some());
        assert_eq!(calls.unknown(), 100);
        assert_eq!(calls.counted().len(), 1);
    }
}
