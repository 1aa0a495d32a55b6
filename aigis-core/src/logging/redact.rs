//! Keeps the values of secrets out of a log.
//!
//! What is replaced: the whole of a secret without the blanks around it, and each of its lines,
//! each if it has at least `MIN_BYTES` bytes. What is shorter is left: replaced, it would garble
//! text that has nothing to do with the secret. Other forms of a value, such as base64, are not known.

use std::borrow::Cow;
use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::{Deserialize, Serialize};

/// The shortest value that is kept out of logs.
pub(crate) const MIN_BYTES: usize = 8;

/// The longest value that is looked for as a whole; a longer one is by its lines.
const MAX_BYTES: usize = 64 * 1024;

/// The value of a secret, as a log must know it to keep it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// What stands in its place.
    pub name: String,
    /// The content of its file.
    pub value: Vec<u8>,
}

impl fmt::Debug for SecretValue {
    /// Shows the name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SecretValue({:?}, {} bytes)",
            self.name,
            self.value.len()
        )
    }
}

/// Finds the values of secrets in text.
pub(crate) struct Redactor {
    found: AhoCorasick,
    /// What takes the place of each value.
    instead: Vec<Vec<u8>>,
    values: Vec<Value>,
}

/// A value, and for each of its bytes how much of its start the bytes up to there end with.
struct Value {
    bytes: Vec<u8>,
    borders: Vec<u32>,
}

impl Redactor {
    /// Makes what finds these; none if there is nothing to find.
    pub(crate) fn new(secrets: &[SecretValue]) -> Option<Redactor> {
        let mut values: Vec<(&[u8], &str)> = Vec::new();
        for secret in secrets {
            let whole = secret.value.trim_ascii();
            let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let all = std::iter::once(whole).filter(|whole| whole.len() <= MAX_BYTES);
            for value in all.chain(lines) {
                let fits = value.len() >= MIN_BYTES && value.len() <= MAX_BYTES;
                if fits && !values.iter().any(|(known, _)| *known == value) {
                    values.push((value, &secret.name));
                }
            }
        }
        if values.is_empty() {
            return None;
        }
        let found = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(values.iter().map(|(value, _)| value))
            // It only fails for more than four thousand million bytes of values.
            .ok()?;
        Some(Redactor {
            found,
            instead: values
                .iter()
                .map(|(_, name)| format!("[secret {name}]").into_bytes())
                .collect(),
            values: values
                .into_iter()
                .map(|(value, _)| Value::new(value))
                .collect(),
        })
    }

    /// Replaces the values in a text that is there as a whole.
    pub(crate) fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.found.find(text).is_none() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(self.found.replace_all_bytes(text, &self.instead))
    }

    /// Returns how many bytes at the end of `text` may be the begin of a value and have to wait.
    fn held_back(&self, text: &[u8]) -> usize {
        let all = self.values.iter();
        let begun = all.map(|value| value.begun(text)).max().unwrap_or(0);
        // Whole lines do not wait for what may never come: so little of a value gives nothing away.
        match begun < MIN_BYTES && text.ends_with(b"\n") {
            true => 0,
            false => begun,
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

impl Value {
    fn new(bytes: &[u8]) -> Value {
        let mut borders = vec![0_u32; bytes.len()];
        let mut length = 0_usize;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = borders[length - 1] as usize;
            }
            length += usize::from(bytes[at] == bytes[length]);
            // Values are at most `MAX_BYTES` long.
            borders[at] = length as u32;
        }
        Value {
            bytes: bytes.to_vec(),
            borders,
        }
    }

    /// Returns how much of the value `text` ends with, short of all of it.
    fn begun(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(self.bytes.len() - 1);
        let mut length = 0;
        for &byte in &text[from..] {
            while length > 0 && self.bytes[length] != byte {
                length = self.borders[length - 1] as usize;
            }
            length += usize::from(self.bytes[length] == byte);
        }
        length
    }
}

/// One stream of text whose chunks end anywhere.
#[derive(Debug, Default)]
pub(crate) struct Redacted {
    /// What may be the begin of a value.
    held: Vec<u8>,
    joined: Vec<u8>,
}

impl Redacted {
    /// Takes the next bytes and gives on what is sure to be no part of a value.
    pub(crate) fn push(&mut self, redactor: &Redactor, chunk: &[u8], mut on: impl FnMut(&[u8])) {
        let text = if self.held.is_empty() {
            chunk
        } else {
            self.joined.clear();
            self.joined.extend_from_slice(&self.held);
            self.joined.extend_from_slice(chunk);
            &self.joined
        };
        // What may be the begin of a value is not looked at yet: a shorter value may be a part of it.
        let sure = text.len() - redactor.held_back(text);
        let mut done = 0;
        for found in redactor.found.find_iter(text) {
            if found.start() >= sure {
                break;
            }
            on(&text[done..found.start()]);
            on(&redactor.instead[found.pattern().as_usize()]);
            done = found.end();
        }
        if done > sure {
            let rest = &text[done..];
            let (rest, held) = rest.split_at(rest.len() - redactor.held_back(rest));
            on(rest);
            self.held = held.to_vec();
        } else {
            on(&text[done..sure]);
            self.held = text[sure..].to_vec();
        }
    }

    /// Ends the stream: what was held back is no longer value than it is now.
    pub(crate) fn finish(&mut self, redactor: &Redactor, on: impl FnOnce(&[u8])) {
        if !self.held.is_empty() {
            on(&redactor.redact(&std::mem::take(&mut self.held)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[(&str, &str)]) -> Option<Redactor> {
        let secrets: Vec<SecretValue> = secrets
            .iter()
            .map(|(name, value)| SecretValue {
                name: (*name).to_owned(),
                value: value.as_bytes().to_vec(),
            })
            .collect();
        Redactor::new(&secrets)
    }

    fn stream(redactor: &Redactor, chunks: &[&[u8]]) -> String {
        let mut stream = Redacted::default();
        let mut all = Vec::new();
        for chunk in chunks {
            stream.push(redactor, chunk, |bytes| all.extend_from_slice(bytes));
        }
        stream.finish(redactor, |bytes| all.extend_from_slice(bytes));
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn a_value_is_found_wherever_the_chunks_end() {
        let both = redactor(&[
            ("key", " hunter2hunter3\n"),
            ("pem", "BEGIN\nline one\nx\nline two\n"),
        ]);
        let both = both.expect("values");
        let text = "a hunter2hunter3, hunter2hunter2hunter3 hunter2hunte\nline one; BEGIN\nline one\nx\nline two\nline";
        let expected =
            "a [secret key], hunter2[secret key] hunter2hunte\n[secret pem]; [secret pem]\nline";
        let text = text.as_bytes();
        assert_eq!(stream(&both, &[text]), expected);
        for at in 0..=text.len() {
            let (left, right) = text.split_at(at);
            let found = stream(&both, &[left, right]);
            match left.ends_with(b"BEGIN\n") {
                // A chunk that ends with a line lets go of so little of a value.
                true => assert_eq!(
                    found,
                    expected.replace(
                        "[secret pem]\nline",
                        "BEGIN\n[secret pem]\nx\n[secret pem]\nline"
                    )
                ),
                false => assert_eq!(found, expected, "cut at {at}"),
            }
        }
    }

    #[test]
    fn a_value_within_a_longer_one_does_not_give_it_away() {
        let both = redactor(&[("short", "abcdefgh"), ("long", "abcdefghij")]).expect("values");
        assert_eq!(stream(&both, &[b"abcdefgh", b"ij."]), "[secret long].");
        assert_eq!(stream(&both, &[b"abcdefgh", b"i."]), "[secret short]i.");
        assert_eq!(stream(&both, &[b"abcdefgh"]), "[secret short]");
    }

    #[test]
    fn a_line_waits_for_nothing() {
        let redactor = redactor(&[("key", "{\n  \"token\": 1\n}")]).expect("a value");
        let mut stream = Redacted::default();
        let mut all = Vec::new();
        stream.push(&redactor, b"fn main() {\n", |bytes| {
            all.extend_from_slice(bytes)
        });
        assert_eq!(all, b"fn main() {\n");
    }

    #[test]
    fn short_values_are_left() {
        assert!(redactor(&[("pin", "1234567\n"), ("none", "")]).is_none());
        let redactor = redactor(&[("pin", "1234567\n12345678")]).expect("one line");
        assert_eq!(
            redactor.redact(b"1234567 12345678"),
            &b"1234567 [secret pin]"[..]
        );
    }

    #[test]
    fn values_are_not_shown() {
        let value = SecretValue {
            name: "key".to_owned(),
            value: b"hunter2hunter2".to_vec(),
        };
        let shown = format!(
            "{value:?} {:?}",
            Redactor::new(std::slice::from_ref(&value))
        );
        assert!(
            shown.contains("key") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
