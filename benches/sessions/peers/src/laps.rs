//! Closed loops of calls: what is sent, what must come back, how long it took.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failed;

/// What a caller is asked for: one slice of calls.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The bytes of each call.
    pub bytes: usize,
    /// How many call at once.
    pub callers: usize,
    /// How long they call, after a quarter of that to warm up.
    pub slice: Duration,
    /// How long each rests between two calls.
    pub rest: Duration,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slice, rest) = (self.slice.as_micros(), self.rest.as_micros());
        write!(f, "{} {} {slice} {rest}", self.bytes, self.callers)
    }
}

impl FromStr for Order {
    type Err = Failed;

    fn from_str(line: &str) -> Result<Self, Failed> {
        let numbers = line.split(' ').map(str::parse::<u64>);
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        let [bytes, callers, slice, rest] = numbers[..] else {
            return Err(format!("an order has four numbers, not `{line}`").into());
        };
        Ok(Self {
            bytes: usize::try_from(bytes)?,
            callers: usize::try_from(callers)?,
            slice: Duration::from_micros(slice),
            rest: Duration::from_micros(rest),
        })
    }
}

/// What a slice of calls was like.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Half of the calls took at most so many nanoseconds.
    pub p50: f64,
    /// All but one call in a hundred took at most so many nanoseconds.
    pub p99: f64,
    /// Nanoseconds of a call, on average.
    pub mean: f64,
    /// Calls per second, of all callers.
    pub rate: f64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.p50, self.p99, self.mean, self.rate)
    }
}

impl FromStr for Tally {
    type Err = Failed;

    fn from_str(line: &str) -> Result<Self, Failed> {
        let numbers = line.split(' ').map(str::parse::<f64>);
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        let [p50, p99, mean, rate] = numbers[..] else {
            return Err(format!("a tally has four numbers, not `{line}`").into());
        };
        Ok(Self {
            p50,
            p99,
            mean,
            rate,
        })
    }
}

/// The calls of one caller in one slice.
#[derive(Debug)]
pub struct Laps {
    /// What the next call sends, and must get back: different for each.
    body: Vec<u8>,
    number: u64,
    /// What is called before this does not count.
    warm: Instant,
    end: Instant,
    rest: Duration,
    /// Nanoseconds of each call that counts.
    took: Vec<u32>,
}

impl Laps {
    /// The calls of caller number `caller` in a slice that begins now.
    pub fn new(order: &Order, caller: usize) -> Self {
        let warm = Instant::now() + order.slice / 4;
        let body = (0..order.bytes).map(|place| (place * 31 + caller) as u8);
        Self {
            body: body.collect(),
            // The callers' numbers are far apart: no answer can be taken for another caller's.
            number: (caller as u64) << 40,
            warm,
            end: warm + order.slice,
            rest: order.rest,
            // Room for what comes, so that growing is no part of the loop.
            took: Vec::with_capacity(1 << 16),
        }
    }

    /// Makes the next body, after a rest; false when the time is over.
    pub fn another(&mut self) -> bool {
        if !self.rest.is_zero() {
            thread::sleep(self.rest);
        }
        self.number += 1;
        self.body[..8].copy_from_slice(&self.number.to_le_bytes());
        Instant::now() < self.end
    }

    /// Returns what the call has to send.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Counts the call that was begun then and has just been answered.
    ///
    /// # Errors
    /// When the answer is not what was sent.
    pub fn count(&mut self, begun: Instant, answer: &[u8]) -> Result<(), Failed> {
        let took = begun.elapsed();
        if answer != self.body {
            let (sent, got) = (self.body.len(), answer.len());
            return Err(format!("{sent} bytes were sent, {got} others came back").into());
        }
        if begun >= self.warm {
            self.took
                .push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

/// Runs a slice with a thread for each caller; `run` makes the calls of one.
///
/// # Errors
/// What ended a caller, or a slice without a call.
pub fn blocking(
    order: &Order,
    run: impl Fn(&mut Laps) -> Result<(), Failed> + Sync,
) -> Result<Tally, Failed> {
    let of_one = |caller: usize| {
        let mut laps = Laps::new(order, caller);
        run(&mut laps).map(|()| laps)
    };
    if order.callers == 1 {
        return tally(order, &[of_one(0)?]);
    }
    let all = thread::scope(|scope| {
        let callers = 0..order.callers;
        let threads: Vec<_> = callers
            .map(|caller| scope.spawn(move || of_one(caller)))
            .collect();
        let joined = threads.into_iter();
        let joined = joined.map(|thread| thread.join().map_err(|_| "a caller panicked")?);
        joined.collect::<Result<Vec<_>, Failed>>()
    })?;
    tally(order, &all)
}

/// Sums up what all callers of a slice have found.
///
/// # Errors
/// When none of them made a call that counts.
pub fn tally(order: &Order, all: &[Laps]) -> Result<Tally, Failed> {
    let mut took: Vec<u32> = all.iter().flat_map(|laps| &laps.took).copied().collect();
    took.sort_unstable();
    let Some(last) = took.len().checked_sub(1) else {
        return Err("a slice had no call that was answered in time".into());
    };
    let sum: u64 = took.iter().map(|took| u64::from(*took)).sum();
    let count = took.len() as f64;
    Ok(Tally {
        p50: f64::from(took[last / 2]),
        p99: f64::from(took[last * 99 / 100]),
        mean: sum as f64 / count,
        rate: count / order.slice.as_secs_f64(),
    })
}
