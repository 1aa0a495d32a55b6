mod hostile;
mod json;
mod messages;
mod packed;
mod round_trips;
mod values;
mod wire;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Value, from_slice, to_vec};

/// A small generator of numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number of any size, small ones and those around powers of two more often.
    fn wide(&mut self) -> u128 {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        let shifted = bits >> self.below(128);
        match self.below(4) {
            0 => 1_u128 << self.below(128),
            1 => (1_u128 << self.below(128)) - 1,
            _ => shifted,
        }
    }

    fn text(&mut self) -> String {
        const ALPHABET: &[char] = &[
            'a', '"', '\\', '/', '\n', '\u{0}', '\u{7f}', 'ä', '€', '\u{2028}', '𝄞', '$',
            '\u{ffff}', ' ',
        ];
        let len = self.below(40);
        (0..len)
            .map(|_| ALPHABET[self.below(ALPHABET.len())])
            .collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.below(40);
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        let kinds = if depth == 0 { 7 } else { 10 };
        match self.below(kinds) {
            0 => Value::Nil,
            1 => Value::Bool(self.below(2) == 1),
            2 => self.integer(),
            3 => Value::Float(self.float()),
            4 => Value::Text(self.text()),
            5 => Value::Bytes(self.bytes()),
            6 => Value::Ext(self.below(100) as i8 - 100, self.bytes()),
            7 => (0..self.below(20)).map(|_| self.value(depth - 1)).collect(),
            8 => Value::Map(
                (0..self.below(20))
                    .map(|_| (self.key(depth - 1), self.value(depth - 1)))
                    .collect(),
            ),
            _ => Value::Some(Box::new(self.value(depth - 1))),
        }
    }

    fn integer(&mut self) -> Value {
        let bits = self.wide();
        match self.below(3) {
            0 => Value::from(bits),
            1 => Value::from((bits as i128).wrapping_neg()),
            _ => Value::from(bits as i64),
        }
    }

    fn float(&mut self) -> f64 {
        match self.below(4) {
            0 => self.below(1000) as f64 / 8.0,
            _ => f64::from_bits(self.next()),
        }
    }

    fn key(&mut self, depth: usize) -> Value {
        const NAMES: &[&str] = &[
            "", "name", "$bytes", "$map", "$float", "$some", "$ext", "$other",
        ];
        match self.below(8) {
            0 => self.value(depth),
            _ => Value::from(NAMES[self.below(NAMES.len())]),
        }
    }
}

/// Checks that a value is the same after encoding and decoding, and after a detour through [`Value`] and JSON.
#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = to_vec(&value).expect("encodes");
    assert_eq!(
        from_slice::<T>(&bytes).expect("decodes"),
        value,
        "from {bytes:02x?}"
    );
    let dynamic: Value = from_slice(&bytes).expect("decodes without type");
    let json = dynamic.to_json();
    let again = Value::from_json(&json).expect("is JSON");
    let bytes = to_vec(&again).expect("encodes again");
    assert_eq!(
        from_slice::<T>(&bytes).expect("decodes again"),
        value,
        "from {json}"
    );
}

/// Returns bytes written in hexadecimal, with spaces anywhere.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// Encoded values of many kinds, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    let mut samples: Vec<Vec<u8>> = (0..60)
        .map(|_| to_vec(&random.value(4)).expect("encodes"))
        .collect();
    samples.extend(round_trips::zoo());
    samples
}
