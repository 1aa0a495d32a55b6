//! Strings and numbers of the original's literal syntax.

use super::literal::{Fault, Parser};
use super::raw::RawValue;

/// The kinds of strings that the syntax does not have here, by the letters before the quote.
const OTHER_STRINGS: [(char, &str); 3] = [
    ('f', "a formatted string"),
    ('t', "a template string"),
    ('b', "a byte string"),
];

impl Parser<'_> {
    /// Returns the letters that stand before a quote, if a string starts here.
    pub(super) fn string_prefix(&self) -> Option<&str> {
        let rest = self.rest();
        let letters = rest
            .bytes()
            .take(3)
            .take_while(u8::is_ascii_alphabetic)
            .count();
        matches!(rest.as_bytes().get(letters), Some(b'"' | b'\'')).then(|| &rest[..letters])
    }

    /// Reads the adjacent strings that start here as one.
    pub(super) fn strings(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        self.string(&mut text)?;
        loop {
            let end = self.at;
            self.skip_space();
            if self.string_prefix().is_none() {
                self.at = end;
                return Ok(text);
            }
            self.string(&mut text)?;
        }
    }

    fn string(&mut self, text: &mut String) -> Result<(), Fault> {
        let start = self.at;
        let prefix = self.string_prefix().unwrap_or_default().to_lowercase();
        let raw = prefix == "r";
        self.at += prefix.len();
        if !matches!(prefix.as_str(), "" | "r" | "u") {
            let other = OTHER_STRINGS.iter().find(|(c, _)| prefix.contains(*c));
            let what = other.map_or("a string with this prefix", |(_, what)| what);
            return Err(
                Fault::new(start..self.at + 1, format!("{what} is not accepted"))
                    .hint("write a plain string"),
            );
        }
        let Some(quote) = self.peek() else {
            return Err(Fault::new(start..self.at, "expected a string"));
        };
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let long = self.rest().starts_with(&triple);
        let close = if long { &triple[..] } else { &triple[..1] };
        self.at += close.len();
        let opening = start..self.at;
        loop {
            if self.rest().starts_with(close) {
                self.at += close.len();
                return Ok(());
            }
            let Some(c) = self.peek() else {
                return Err(
                    Fault::new(opening, "the string is never closed").reaching(self.text.len())
                );
            };
            match c {
                '\n' | '\r' if !long => {
                    return Err(
                        Fault::new(start..self.at, "the string is not closed in its line")
                            .hint("strings over several lines stand between `\"\"\"`"),
                    );
                }
                '\r' => {
                    self.line_break();
                    text.push('\n');
                }
                '\\' if raw => {
                    // In a raw string a backslash stays, and so does a quote behind it.
                    text.push(c);
                    self.at += 1;
                    if let Some(next) = self.peek().filter(|&c| c == quote || c == '\\') {
                        text.push(next);
                        self.at += 1;
                    }
                }
                '\\' => self.escape(text)?,
                c => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    /// Reads a backslash and what belongs to it.
    fn escape(&mut self, text: &mut String) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.peek() else {
            return Ok(()); // The caller finds the end of the text.
        };
        if matches!(c, '\n' | '\r') {
            self.line_break();
            return Ok(());
        }
        self.at += c.len_utf8();
        let simple = match c {
            '\\' | '\'' | '"' => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => {
                self.at = start + 1;
                self.code_point(start, 1, 3, 8)?
            }
            'x' => self.code_point(start, 2, 2, 16)?,
            'u' => self.code_point(start, 4, 4, 16)?,
            'U' => self.code_point(start, 8, 8, 16)?,
            'N' => {
                return Err(Fault::new(
                    start..self.at,
                    "characters by their name are not accepted",
                )
                .hint("write the character itself, or its number as `\\u00e9`"));
            }
            other => {
                // Python keeps an escape that it does not know, and existing manifests rely on it.
                let span = start..self.at;
                self.warn(span, "unknown escape sequence, taken as it stands");
                text.push('\\');
                other
            }
        };
        text.push(simple);
        Ok(())
    }

    fn code_point(
        &mut self,
        start: usize,
        min: usize,
        max: usize,
        radix: u32,
    ) -> Result<char, Fault> {
        let digits = self
            .rest()
            .chars()
            .take(max)
            .take_while(|c| c.is_digit(radix))
            .count();
        let number = u32::from_str_radix(&self.rest()[..digits], radix);
        self.at += digits;
        if digits < min {
            let message = format!("the escape sequence needs {min} hexadecimal digits");
            return Err(Fault::new(start..self.at, message));
        }
        number
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| Fault::new(start..self.at, "the escape sequence names no character"))
    }

    /// Reads the number that starts here.
    pub(super) fn number(&mut self) -> Result<RawValue, Fault> {
        let start = self.at;
        if matches!(self.peek(), Some('+' | '-')) {
            self.at += 1;
            self.skip_space();
        }
        let negative = self.text[start..].starts_with('-');
        let digits_start = self.at;
        let hexadecimal = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        while let Some(c) = self.peek() {
            let after_exponent =
                !hexadecimal && self.text[digits_start..self.at].ends_with(['e', 'E']);
            if c.is_alphanumeric()
                || matches!(c, '_' | '.')
                || (after_exponent && matches!(c, '+' | '-'))
            {
                self.at += c.len_utf8();
            } else {
                break;
            }
        }
        let written = &self.text[digits_start..self.at];
        parse_number(written, negative).ok_or_else(|| {
            let fault = Fault::new(start..self.at.max(start + 1), "this is not a number");
            let digits = written.trim_start_matches('0');
            if digits.len() < written.len() && digits.starts_with(|c: char| c.is_ascii_digit()) {
                fault.hint("an integer must not start with `0`")
            } else {
                fault
            }
        })
    }
}

fn parse_number(written: &str, negative: bool) -> Option<RawValue> {
    let lower = written.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    let digits = if radix == 10 {
        &lower[..]
    } else {
        // One underscore may follow the prefix.
        lower[2..].strip_prefix('_').unwrap_or(&lower[2..])
    };
    if !underscores_are_between(digits, radix) {
        return None;
    }
    let digits: String = digits.chars().filter(|&c| c != '_').collect();
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)) {
        let leading_zero = digits.starts_with('0') && digits.bytes().any(|b| b != b'0');
        if radix == 10 && leading_zero {
            return None;
        }
        // A number that is too large stays too large for every option.
        let number = i128::from_str_radix(&digits, radix).unwrap_or(i128::MAX);
        return Some(RawValue::Integer(if negative { -number } else { number }));
    }
    let is_float = radix == 10
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && digits.contains(['.', 'e']);
    let number: f64 = is_float.then(|| digits.parse().ok())??;
    Some(RawValue::Float(if negative { -number } else { number }))
}

fn underscores_are_between(digits: &str, radix: u32) -> bool {
    let bytes = digits.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(|&b| char::from(b).is_digit(radix))
    };
    digits
        .match_indices('_')
        .all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
}
