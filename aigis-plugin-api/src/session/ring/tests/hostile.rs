//! A peer that writes anything anywhere.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The words of the header that the ring reads in a lane: produced, consumed, attending.
fn index(lane: usize, which: usize) -> usize {
    (1 + 3 * lane + which) * 128 / 8
}

/// Where the words of a lane start.
fn start(lane: usize, capacity: usize) -> usize {
    (4096 + lane * capacity) / 8
}

fn set(ring: &Ring, word: usize, value: u64) {
    ring.memory.words()[word].store(value, Ordering::Release);
}

/// What a peer can say it has produced, with this word as the first length.
fn popped(produced: u64, length: u64) -> Result<bool, Corrupt> {
    let (here, there) = pair(SMALLEST);
    set(&here, start(0, SMALLEST), length);
    set(&here, index(0, 0), produced);
    let mut found = vec![1];
    let result = there.pop(&mut found);
    if result.is_err() {
        assert!(found.is_empty());
        set(&here, index(0, 0), 0);
        assert_eq!(there.pop(&mut found), result, "it stays so");
    }
    result
}

#[test]
fn an_index_or_a_length_that_cannot_be_is_found() {
    let capacity = SMALLEST as u64;
    assert_eq!(popped(0, u64::MAX), Ok(false));
    assert_eq!(popped(8, 0), Ok(true));
    assert_eq!(popped(capacity, capacity / 4), Ok(true));
    for (produced, length) in [
        (capacity + 8, 0),
        (u64::MAX - 7, 0),
        (1 << 63, 0),
        (12, 0),
        (8, 1),
        (16, 9),
        (16, u64::MAX),
        (16, 1 << 32 | 8),
        (capacity, capacity / 4 + 1),
        (capacity, u64::MAX - 7),
    ] {
        let corrupt = popped(produced, length).expect_err("this cannot be");
        assert!(corrupt.to_string().contains("is corrupt: expected"));
    }
}

#[test]
fn a_producer_that_moves_backwards_is_found() {
    let (here, there) = pair(SMALLEST);
    let mut found = Vec::new();
    for _ in 0..2 {
        here.push(&[b"12345678"]).unwrap().unwrap();
        assert!(there.pop(&mut found).unwrap());
    }
    set(&here, index(0, 0), 16);
    assert!(there.has_message());
    there.pop(&mut found).unwrap_err();
}

#[test]
fn a_consumer_that_cannot_be_is_found() {
    let message = vec![0; SMALLEST / 4 - 8];
    let full = SMALLEST as u64;
    for (consumed, fits) in [
        (0, Ok(false)),
        (full / 4, Ok(true)),
        (full, Ok(true)),
        (full + 8, Err(())),
        (full / 4 + 4, Err(())),
        (u64::MAX - 7, Err(())),
        (1 << 63, Err(())),
    ] {
        let (here, _there) = pair(SMALLEST);
        while here.push(&[&message]).unwrap().is_some() {}
        set(&here, index(0, 1), consumed);
        let pushed = here.push(&[&message]);
        assert_eq!(
            pushed.map(|at| at.is_some()).map_err(drop),
            fits,
            "{consumed}"
        );
    }
    // Backwards.
    let (here, _there) = pair(SMALLEST);
    while here.push(&[&message]).unwrap().is_some() {}
    set(&here, index(0, 1), full / 2);
    while here.push(&[&message]).unwrap().is_some() {}
    set(&here, index(0, 1), full / 4);
    let corrupt = here.push(&[&message]).unwrap_err();
    set(&here, index(0, 1), full);
    assert_eq!(here.push(&[&message]), Err(corrupt), "it stays so");
}

#[test]
fn a_count_of_threads_that_cannot_be_does_no_harm() {
    let (here, there) = pair(SMALLEST);
    for value in [0, u64::MAX, 1 << 63] {
        set(&here, index(0, 2), value);
        there.attend();
        assert!(!there.leave());
        assert!(!there.leave());
    }
}

/// Writes what could be, nearly could be, or could not be, everywhere.
fn scribble(ring: &Ring, random: &mut Random) {
    let words = ring.memory.words();
    let near = ring.memory.words()[index(random.below(2), random.below(2))].load(Ordering::Relaxed);
    let value = match random.below(8) {
        0 => random.next(),
        1 => near.wrapping_add(8 * random.below(16) as u64),
        2 => near.wrapping_sub(8 * random.below(16) as u64),
        3 => near.wrapping_add(random.below(SMALLEST) as u64),
        4 => (SMALLEST / 4 + random.below(16)) as u64,
        _ => random.below(64) as u64,
    };
    let word = match random.below(8) {
        0 => index(random.below(2), random.below(3)),
        // Not what `adopt` looks at, most of the time: else the victim would hardly begin.
        1 if random.below(512) == 0 => random.below(3),
        _ => start(0, SMALLEST) + random.below(words.len() - start(0, SMALLEST)),
    };
    words[word].store(value, Ordering::Relaxed);
}

#[test]
fn memory_that_changes_all_the_time_does_no_harm() {
    let stop = AtomicBool::new(false);
    let (first, memory) = Ring::create(SMALLEST).unwrap();
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = Random(3);
            while !stop.load(Ordering::Relaxed) {
                scribble(&first, &mut random);
                // The magic and the version come back.
                for (word, value) in [(1, 1), (2, SMALLEST as u64)] {
                    set(&first, word, value);
                }
                set(&first, 0, u64::from_le_bytes(*b"AIGISrng"));
            }
        });
        // Stops the other one, also when this one fails.
        let _stop = StopAtEnd(&stop);
        let mut random = Random(5);
        let mut found = Vec::new();
        let bytes = vec![9; SMALLEST / 4];
        let begun = Instant::now();
        let (mut rounds, mut corrupt, mut taken) = (0, 0, 0);
        // It must come to all of it: else this shows nothing.
        while rounds < 20_000 || corrupt < 1_000 || taken < 1_000 {
            assert!(
                begun.elapsed() < DEADLINE,
                "{rounds} rounds, {corrupt} corrupt, {taken} taken"
            );
            rounds += 1;
            // What was said of this memory before counts no more. Each end in turn.
            let number = random.below(2);
            let Ok(mapped) = Memory::adopt(&memory) else {
                continue;
            };
            for lane in 0..2 {
                for which in 0..2 {
                    set(&first, index(lane, which), 0);
                }
            }
            let ring = Ring::new(mapped, number);
            for _ in 0..64 {
                // On a busy machine the other thread seldom runs beside this one.
                scribble(&first, &mut random);
                let length = random.below(SMALLEST / 4);
                let pushed = ring.push(&[&bytes[..length / 2], &bytes[length / 2..length]]);
                if let Ok(Some(position)) = pushed {
                    ring.is_taken(position);
                }
                ring.attend();
                ring.has_message();
                let popped = ring.pop(&mut found);
                assert!(found.len() <= ring.longest());
                ring.leave();
                ring.is_attended();
                taken += u64::from(popped == Ok(true));
                if popped.is_err() || pushed.is_err() {
                    corrupt += 1;
                    break;
                }
            }
        }
    });
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
