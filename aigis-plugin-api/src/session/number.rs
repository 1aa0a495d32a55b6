//! Tables by the numbers of calls.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by numbers that count up.
pub(super) type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<Spread>>;

/// Spreads numbers that are near one another. Whoever chooses numbers that meet in one place slows
/// down its own session alone, and that within the limit of its calls.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = number.wrapping_mul(GOLDEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_find_what_was_put_there() {
        let mut table = ByNumber::default();
        for number in (0..1000).chain((1..64).map(|bit| 1 << bit)) {
            table.insert(number, number);
        }
        assert!(table.iter().all(|(number, held)| number == held));
        assert_eq!(table.get(&999), Some(&999));
        assert_eq!(table.get(&1001), None);
    }
}
