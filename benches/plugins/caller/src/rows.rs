//! The rows of the benchmark `calls`.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use aigis_plugin_api::codec;

use crate::callee;
use crate::peer::Peer;
use crate::record::{Record, counted, sample};

/// 16 bytes; the greeting has 24.
const NAME: &str = "world-of-plugins";

/// Runs a row; returns the nanoseconds that one call took.
pub(crate) fn run(peer: &Peer, row: &str, threads: u32, iterations: u64) -> Result<f64, String> {
    let run = Run {
        threads,
        iterations,
    };
    let peer = *black_box(peer);
    let name = || black_box(NAME);
    Ok(match row {
        "add: function" => run.time(|i| add(black_box(i), black_box(7))),
        "add: raw" => run.time(|i| black_box(peer.add)(black_box(i), black_box(7))),
        "add: raw, panics caught" => {
            run.time(|i| black_box(peer.add_caught)(black_box(i), black_box(7)))
        }
        "add: import" => run.time(|i| callee::add(black_box(i), black_box(7)).expect("adds")),
        "greet: function" => run.time(|_| greet(name())),
        "greet: raw, adopted" => run.time(|_| peer.greet(name())),
        "greet: RString" => run.time(|_| black_box(peer.greet_rstring)(name().into())),
        "greet: import" => run.time(|_| callee::greet(name()).expect("greets")),
        "record: codec" => run.hand_on(through_codec),
        "record: rmp-serde" => run.hand_on(through_rmp),
        "record: import" => run.hand_on(|record| callee::count(record).expect("counts")),
        _ => return Err(format!("there is no row `{row}`")),
    })
}

/// Asserts that each row does what it says.
pub(crate) fn check(peer: &Peer) {
    assert_eq!(add(2, 3), 5);
    assert_eq!((peer.add)(2, 3), 5);
    assert_eq!((peer.add_caught)(2, 3), 5);
    assert_eq!(callee::add(2, 3), Ok(5));
    let greeting = "Hello, world-of-plugins!";
    assert_eq!((NAME.len(), greeting.len()), (16, 24));
    assert_eq!(greet(NAME), greeting);
    assert_eq!(peer.greet(NAME).as_str(), greeting);
    assert_eq!((peer.greet_rstring)(NAME.into()).as_str(), greeting);
    assert_eq!(callee::greet(NAME).as_deref(), Ok(greeting));
    let record = counted(sample());
    assert_eq!(through_codec(sample()), record);
    assert_eq!(through_rmp(sample()), record);
    assert_eq!(callee::count(sample()), Ok(record));
}

/// How often, and on how many threads.
struct Run {
    threads: u32,
    iterations: u64,
}

impl Run {
    /// Times calls that get the number of the iteration.
    fn time<R>(&self, body: impl Fn(u64) -> R + Sync) -> f64 {
        self.on_threads(|| {
            for number in 0..self.iterations {
                black_box(body(number));
            }
        })
    }

    /// Times calls that each get the record which the one before has returned: so making records costs nothing.
    fn hand_on(&self, body: impl Fn(Record) -> Record + Sync) -> f64 {
        self.on_threads(|| {
            let mut record = sample();
            for _ in 0..self.iterations {
                record = black_box(body(record));
            }
        })
    }

    /// Returns the nanoseconds that one iteration of `repeat` takes, as the mean of what each thread sees.
    fn on_threads(&self, repeat: impl Fn() + Sync) -> f64 {
        let one = || {
            let begun = Instant::now();
            repeat();
            begun.elapsed().as_nanos() as f64 / self.iterations as f64
        };
        if self.threads == 1 {
            return one();
        }
        let together = Barrier::new(self.threads as usize);
        let sum: f64 = thread::scope(|scope| {
            let timed = || {
                together.wait();
                one()
            };
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(timed)).collect();
            let times = threads.into_iter().map(|thread| thread.join());
            times.map(|time| time.expect("no row panics")).sum()
        });
        sum / f64::from(self.threads)
    }
}

#[inline(never)]
fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

#[inline(never)]
fn greet(name: &str) -> String {
    let mut text = String::with_capacity("Hello, !".len() + name.len());
    text.push_str("Hello, ");
    text.push_str(name);
    text.push('!');
    text
}

/// Encodes and decodes what an encoded call encodes and decodes: a list of arguments there, a result back.
fn through_codec(record: Record) -> Record {
    let arguments = codec::to_vec(&(&record,)).expect("encodes");
    let (record,) = codec::from_slice::<(Record,)>(black_box(&arguments)).expect("decodes");
    let result = codec::to_vec(&counted(record)).expect("encodes");
    codec::from_slice(black_box(&result)).expect("decodes")
}

/// The same with another MessagePack, structs as maps as well.
fn through_rmp(record: Record) -> Record {
    let arguments = rmp_serde::to_vec_named(&(&record,)).expect("encodes");
    let (record,) = rmp_serde::from_slice::<(Record,)>(black_box(&arguments)).expect("decodes");
    let result = rmp_serde::to_vec_named(&counted(record)).expect("encodes");
    rmp_serde::from_slice(black_box(&result)).expect("decodes")
}
