//! Whatever the bytes are, there is a value or a report: never a panic.

use std::path::Path;

use super::super::Config;
use super::{Diagnostics, entry_for, manifest_of_bytes, samples};

const ROUNDS: usize = 4_000;

/// A small generator of numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        const LIKELY: &[u8] = b"\"'\\{}[]()=:,.#\n\r\t -+_0xeNrb\0\xff\xc3\xf0";
        match self.below(3) {
            0 => self.below(256) as u8,
            _ => LIKELY[self.below(LIKELY.len())],
        }
    }

    /// Breaks a text in one of several ways.
    fn mutate(&mut self, text: &[u8], other: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        match self.below(6) {
            0 => text.truncate(self.below(text.len())),
            1 => drop(text.drain(..self.below(text.len()))),
            2 => {
                let from = self.below(other.len());
                let to = from + self.below(other.len() - from);
                let at = self.below(text.len());
                text.splice(at..at, other[from..to].iter().copied());
            }
            3 => {
                let from = self.below(text.len());
                let to = from + self.below(text.len() - from);
                text.drain(from..to);
            }
            _ => {
                for _ in 0..=self.below(8) {
                    let at = self.below(text.len());
                    match self.below(3) {
                        0 if at < text.len() => drop(text.remove(at)),
                        1 => text.insert(at, self.byte()),
                        _ if at < text.len() => text[at] = self.byte(),
                        _ => {}
                    }
                }
            }
        }
        text
    }
}

fn check<T>(result: Result<T, Diagnostics>, bytes: &[u8]) {
    if let Err(mistakes) = result {
        let text = String::from_utf8_lossy(bytes);
        assert!(!mistakes.is_empty(), "a refusal without a reason: {text:?}");
        let report = mistakes.to_string();
        let is_clean = report.chars().all(|c| c == '\n' || !c.is_control());
        assert!(is_clean, "{report:?}");
        assert!(serde_json::to_string(&mistakes).is_ok());
    }
}

fn all_samples(kind: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = samples(&format!("{kind}/valid"), extension);
    all.extend(samples(&format!("{kind}/invalid"), extension));
    all
}

#[test]
fn broken_configs_never_panic() {
    let samples = all_samples("config", "aigis");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..ROUNDS {
        let text = &samples[numbers.below(samples.len())].1;
        let other = &samples[numbers.below(samples.len())].1;
        let bytes = numbers.mutate(text, other);
        check(Config::parse(&bytes, Path::new("config.aigis")), &bytes);
    }
}

#[test]
fn broken_manifests_never_panic() {
    let samples = all_samples("manifest", "config");
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..ROUNDS {
        let (name, text) = &samples[numbers.below(samples.len())];
        let other = &samples[numbers.below(samples.len())].1;
        let bytes = numbers.mutate(text, other);
        let entry = entry_for(name);
        check(manifest_of_bytes(&bytes, "AIGIS.config", &entry), &bytes);
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut numbers = Numbers(0xda94_2042_e4dd_58b5);
    let entry = entry_for("core");
    for _ in 0..ROUNDS {
        let mut bytes: Vec<u8> = (0..numbers.below(80)).map(|_| numbers.byte()).collect();
        if numbers.below(2) == 0 {
            bytes.retain(u8::is_ascii);
        }
        if numbers.below(2) == 0 {
            bytes.splice(0..0, *b"A = ");
        }
        check(Config::parse(&bytes, Path::new("config.aigis")), &bytes);
        check(manifest_of_bytes(&bytes, "AIGIS.config", &entry), &bytes);
    }
}

#[test]
fn hostile_manifests_are_refused_quickly() {
    // More than the size up to which every error is looked for, little enough for a fast test.
    let size = 300 << 10;
    let entry = entry_for("core");
    let lines: String = (0..30_000).map(|i| format!("A{i}=1\n")).collect();
    for text in [
        lines,
        "=\n".repeat(size / 2),
        "a=[".repeat(size / 3),
        "[".repeat(size),
        format!("A = {}", "[".repeat(size)),
        format!("A = {}", "'a' ".repeat(size / 4)),
        format!("A = [{}", "'\\d',".repeat(size / 5)),
        format!("SECRETS = {{{}}}", "'a':1,".repeat(size / 6)),
        format!("{}=1", "a.".repeat(size / 2)),
        "x\n".repeat(size / 2),
        "'''".repeat(size / 3),
        "(".repeat(size),
        "A = (\n".repeat(size / 6),
        "\"".repeat(size),
        "A = 1,".repeat(size / 6),
        "[a.a]\n".repeat(size / 6),
    ] {
        check(
            manifest_of_bytes(text.as_bytes(), "AIGIS.config", &entry),
            text.as_bytes(),
        );
    }
}
