//! The bodies of the fuzz targets without a fuzzer: the corpus that is kept, and changes of it that are
//! the same in every run.

use std::fs;
use std::path::Path;

use super::fuzz::{self, TARGETS};
use crate::codec::Value;

/// How many changed inputs each target is given.
const CHANGED: usize = 20_000;
/// No input gets longer.
const LONGEST: usize = 4096;

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
        (self.next() >> 16) as usize % bound.max(1)
    }
}

/// The inputs that are kept for a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder").path())
        .collect();
    files.sort();
    assert!(files.len() > 10, "{target} has few inputs");
    let read = |file| fs::read(file).expect("a file of the repository");
    files.into_iter().map(read).collect()
}

/// Changes an input as fuzzers do: bits, bytes, numbers at their limits, pieces of others.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    const LIMITS: [u64; 10] = [
        0,
        1,
        0x7f,
        0xff,
        0xffff,
        1 << 20,
        1 << 30,
        u32::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        let end = at + random.below(input.len() - at + 1).min(64);
        let other = &corpus[random.below(corpus.len())];
        match random.below(8) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.next() as u8,
            2 if !input.is_empty() => {
                let number = LIMITS[random.below(LIMITS.len())].to_le_bytes();
                let width = (1 << random.below(4)).min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => input.truncate(end),
            6 => {
                let from = random.below(other.len());
                let to = from + random.below(other.len() - from + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => input.insert(at, random.next() as u8),
        }
    }
    input.truncate(LONGEST);
}

/// Gives a target its corpus, and changes of it.
fn replay(name: &str) {
    let (_, body) = TARGETS
        .into_iter()
        .find(|(target, _)| *target == name)
        .expect("a target");
    let corpus = corpus(name);
    let kept = corpus.iter().filter(|input| body(input)).count();
    let mut random = Random(0x5eed);
    let mut well_formed = 0;
    for _ in 0..CHANGED {
        let mut input = corpus[random.below(corpus.len())].clone();
        change(&mut input, &corpus, &mut random);
        well_formed += usize::from(body(&input));
    }
    // It came to both, or it shows little.
    let malformed = CHANGED - well_formed;
    assert!(
        kept > 0 && well_formed > CHANGED / 100 && malformed > CHANGED / 100,
        "{name}: {kept} of {} kept inputs and {well_formed} of {CHANGED} others are well-formed",
        corpus.len()
    );
}

#[test]
fn bodies_of_frames() {
    replay("frame_body");
}

#[test]
fn frames_in_any_pieces() {
    replay("frame_stream");
}

#[test]
fn memory_that_another_process_writes() {
    replay("shared_ring");
}

#[test]
fn values() {
    replay("value");
}

/// What other tests hold against meanings, held against itself.
#[test]
fn the_bytes_of_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol-vectors.json");
    let text = fs::read_to_string(path).expect("the vectors are there");
    let vectors = Value::from_json(&text).expect("the vectors are JSON");
    let mut well_formed = 0;
    for list in ["frames", "values"] {
        for vector in vectors.get(list).and_then(Value::as_list).expect("a list") {
            let hex = vector.get("hex").and_then(Value::as_str).expect("bytes");
            let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
            if list == "values" {
                assert!(fuzz::value(&bytes), "{vector}");
            } else {
                let whole = [&[0; 8], &bytes[..]].concat();
                assert!(
                    vector.get("attached").is_some() || fuzz::stream(&whole),
                    "{vector}"
                );
                let body = [&bytes[4..5], bytes.get(17..).unwrap_or_default()].concat();
                fuzz::body(&body);
            }
            well_formed += 1;
        }
    }
    assert!(well_formed > 20);
}
