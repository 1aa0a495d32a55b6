//! What the ring's tests share, and its behaviour between two ends in one process.

mod adopt;
mod hostile;
mod processes;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Far more than any of these tests takes.
const DEADLINE: Duration = Duration::from_secs(120);
const SMALLEST: usize = *CAPACITIES.start();

/// Random numbers that are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// Message `number` of a stream: its number, and bytes that follow from it, of any length.
fn message(number: u64, longest: usize) -> Vec<u8> {
    let mut random = Random(number + 1);
    let length = match random.below(8) {
        0 => longest - 8,
        1..4 => random.below(longest - 7),
        _ => random.below(80),
    };
    let mut message = number.to_le_bytes().to_vec();
    message.extend((0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()));
    message.truncate(8 + length);
    message
}

/// Puts a message in up to three parts, which begin anywhere.
fn push(ring: &Ring, message: &[u8]) -> Option<u64> {
    let mut random = Random(message.len() as u64 + 1);
    let (first, rest) = message.split_at(random.below(message.len() + 1));
    let (second, third) = rest.split_at(random.below(rest.len() + 1));
    ring.push(&[first, second, third]).unwrap()
}

/// Both ends of a ring.
fn pair(capacity: usize) -> (Ring, Ring) {
    let (here, memory) = Ring::create(capacity).unwrap();
    (here, Ring::adopt(memory).unwrap())
}

/// Goes on until `done`, which others bring about.
fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "nothing happens any more");
        thread::yield_now();
    }
}

/// Sends `count` messages and takes as many, at once, and checks each.
fn exchange(ring: &Ring, count: u64) {
    let (mut sent, mut taken) = (0, 0);
    let mut next = message(0, ring.longest());
    let mut found = Vec::new();
    wait_until(|| {
        while sent < count && push(ring, &next).is_some() {
            sent += 1;
            next = message(sent, ring.longest());
        }
        while ring.pop(&mut found).unwrap() {
            assert_eq!(found, message(taken, ring.longest()));
            taken += 1;
        }
        sent == count && taken == count
    });
}

#[test]
fn messages_come_out_as_they_went_in_wherever_they_wrap() {
    let (here, there) = pair(SMALLEST);
    let mut random = Random(42);
    let mut found = vec![1, 2, 3];
    assert!(!there.pop(&mut found).unwrap());
    assert!(found.is_empty(), "what was there is no message");
    let (mut sent, mut taken) = (0, 0);
    let mut full = 0;
    while taken < 20_000 {
        for _ in 0..random.below(8) {
            match push(&here, &message(sent, here.longest())) {
                Some(_) => sent += 1,
                None => full += 1,
            }
        }
        for _ in 0..random.below(8) {
            let is_there = there.has_message();
            assert_eq!(is_there, taken < sent);
            assert_eq!(there.pop(&mut found).unwrap(), is_there);
            if is_there {
                assert_eq!(found, message(taken, here.longest()));
                taken += 1;
            }
        }
    }
    assert!(full > 100, "was full {full} times");
}

#[test]
fn all_lengths_at_all_places() {
    let (here, there) = pair(SMALLEST);
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(here.longest() + 1).collect();
    let mut found = Vec::new();
    for length in 0..=here.longest() {
        let (first, second) = bytes[..length].split_at(length.min(17));
        assert!(here.push(&[first, &[], second]).unwrap().is_some());
        assert!(there.pop(&mut found).unwrap());
        assert_eq!(found, bytes[..length]);
    }
    assert_eq!(here.push(&[&bytes]).unwrap(), None, "too long");
    assert!(!there.has_message());
}

#[test]
fn a_full_ring_takes_nothing_until_there_is_room() {
    let (here, there) = pair(SMALLEST);
    let bytes = vec![7; here.longest() - 8];
    let positions: Vec<_> = std::iter::from_fn(|| here.push(&[&bytes]).unwrap()).collect();
    assert_eq!(positions.len(), 4, "all of the room is of use");
    assert_eq!(here.push(&[]).unwrap(), None);
    let mut found = Vec::new();
    for taken in 0..4 {
        let told: Vec<_> = positions.iter().map(|at| here.is_taken(*at)).collect();
        assert_eq!(told, [0, 1, 2, 3].map(|at| at < taken));
        assert!(there.pop(&mut found).unwrap());
    }
    assert!(here.is_taken(positions[3]));
    assert!(here.push(&[&bytes]).unwrap().is_some());
}

#[test]
fn both_ways_at_once_between_two_threads() {
    let (here, there) = pair(SMALLEST);
    let other = thread::spawn(move || exchange(&there, 30_000));
    exchange(&here, 30_000);
    other.join().unwrap();
}

#[test]
fn many_threads_share_an_end() {
    const EACH: u64 = 5_000;
    let (here, there) = pair(SMALLEST);
    let (here, there) = (Arc::new(here), Arc::new(there));
    let writers = [0, 1, 2].map(|writer| {
        let here = Arc::clone(&here);
        thread::spawn(move || {
            for number in 0..EACH {
                let message = message(writer * EACH + number, here.longest());
                wait_until(|| push(&here, &message).is_some());
            }
        })
    });
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let readers = [0, 1, 2].map(|_| {
        let (there, taken) = (Arc::clone(&there), Arc::clone(&taken));
        thread::spawn(move || {
            let mut found = Vec::new();
            wait_until(|| {
                if there.pop(&mut found).unwrap() {
                    let number = u64::from_le_bytes(*found.first_chunk().unwrap());
                    assert_eq!(found, message(number, there.longest()));
                    taken.lock().unwrap().push(number);
                }
                taken.lock().unwrap().len() as u64 == 3 * EACH
            });
        })
    });
    writers.into_iter().for_each(|t| t.join().unwrap());
    readers.into_iter().for_each(|t| t.join().unwrap());
    let mut taken = taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..3 * EACH), "each one, once");
}

/// One thread sleeps unless it is told, the other tells only when nobody attends; a message that is
/// missed ends in the deadline. (The model under `tests/loom` goes through all interleavings.)
#[test]
fn who_sleeps_is_told_or_has_found_the_message() {
    let (here, there) = pair(SMALLEST);
    let (look, looks) = std::sync::mpsc::channel();
    let (answer, answers) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut found = Vec::new();
        let mut taken = 0;
        while taken < 20_000 {
            there.attend();
            let mut spins = taken % 7;
            while spins > 0 && !there.has_message() {
                spins -= 1;
            }
            if !there.leave() {
                looks.recv_timeout(DEADLINE).unwrap();
            }
            while there.pop(&mut found).unwrap() {
                taken += 1;
                answer.send(()).unwrap();
            }
        }
    });
    for number in 0..20_000_u64 {
        assert!(here.push(&[&number.to_le_bytes()]).unwrap().is_some());
        if !here.is_attended() {
            // The reader may have taken the last one and ended.
            let _ = look.send(());
        }
        answers.recv_timeout(DEADLINE).unwrap();
    }
    reader.join().unwrap();
}

#[test]
fn attention_counts_threads() {
    let (here, there) = pair(SMALLEST);
    assert!(!here.is_attended());
    there.attend();
    there.attend();
    assert!(!there.leave());
    assert!(here.is_attended());
    assert!(!there.is_attended(), "each way has its own");
    here.push(&[b"x"]).unwrap();
    assert!(there.leave(), "a message came");
    assert!(!here.is_attended());
}
