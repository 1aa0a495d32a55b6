//! The level that a line states by itself.
//!
//! What is understood: a JSON object with a level, `level=warn` as logfmt has it, `[error] text`,
//! `Warning: text`, and a word in capitals, `ERROR text`. A word of ordinary text is none of these:
//! `error handling is next` is just a line.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Level;

/// The words in capitals that say all that a record's level says, so that they need not stand twice.
const PLAIN: [(&[u8], Level); 6] = [
    (b"TRACE ", Level::Trace),
    (b"DEBUG ", Level::Debug),
    (b"INFO ", Level::Info),
    (b"WARN ", Level::Warn),
    (b"WARNING ", Level::Warn),
    (b"ERROR ", Level::Error),
];

/// The longest word that is a level.
const LONGEST: usize = 11;

/// Finds the level that a line states, and how many bytes of the line only say that.
pub(crate) fn stated(line: &[u8]) -> Option<(Level, usize)> {
    match *line.first()? {
        b'{' => of_json(line).map(|level| (level, 0)),
        b'[' => of_brackets(line).map(|level| (level, 0)),
        0x1b => of_text(&line[colour(line)?..]).map(|(level, _)| (level, 0)),
        first if first.is_ascii_alphabetic() => of_text(line),
        _ => None,
    }
}

/// Returns the length of the colour that a line starts with.
fn colour(line: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(b"\x1b[")?;
    let end = rest.iter().position(|byte| *byte == b'm')?;
    let is_colour = |byte: &u8| byte.is_ascii_digit() || *byte == b';';
    rest[..end].iter().all(is_colour).then_some(end + 3)
}

fn of_text(line: &[u8]) -> Option<(Level, usize)> {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic();
    let length = line
        .iter()
        .take(LONGEST + 1)
        .position(|byte| !is_letter(byte));
    let (word, rest) = match length {
        Some(length) => line.split_at(length),
        None if line.len() <= LONGEST => (line, &[][..]),
        // Too long for a level, but it may be the first key of several.
        None => return of_logfmt(line).map(|level| (level, 0)),
    };
    let is_loud = word.iter().all(u8::is_ascii_uppercase);
    match rest {
        [b'=' | b'_' | b'.' | b'-', ..] => of_logfmt(line).map(|level| (level, 0)),
        [] | [b' ' | b'\t' | 0x1b, ..] if is_loud => {
            let level = of_word(word)?;
            let plain = PLAIN.iter().find(|(plain, _)| line.starts_with(plain));
            Some((level, plain.map_or(0, |(plain, _)| plain.len())))
        }
        [b':'] | [b':', b' ' | b'\t' | 0x1b, ..] => of_word(word).map(|level| (level, 0)),
        _ => None,
    }
}

fn of_brackets(line: &[u8]) -> Option<Level> {
    let inside = &line[1..line.len().min(LONGEST + 8)];
    let end = inside.iter().position(|byte| *byte == b']')?;
    of_word(inside[..end].trim_ascii())
}

/// Finds `level=warn` among the `key=value` of a line that starts with one.
fn of_logfmt(line: &[u8]) -> Option<Level> {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(byte);
    let equals = line.iter().take(64).position(|byte| !is_key(byte))?;
    if line[equals] != b'=' {
        return None;
    }
    ["level=", "lvl=", "severity="].into_iter().find_map(|key| {
        let key = key.as_bytes();
        let value = match line.strip_prefix(key) {
            Some(value) => value,
            None => {
                let found = memchr::memmem::find_iter(line, key);
                let at = found.into_iter().find(|at| line[at - 1] == b' ')?;
                &line[at + key.len()..]
            }
        };
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let is_letter = |byte: &u8| byte.is_ascii_alphabetic();
        let end = value.iter().position(|byte| !is_letter(byte));
        of_word(&value[..end.unwrap_or(value.len())])
    })
}

fn of_json(line: &[u8]) -> Option<Level> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word<'a> {
        #[serde(borrow)]
        Text(Cow<'a, str>),
        Number(u64),
        Other(IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        level: Option<Word<'a>>,
        #[serde(borrow)]
        severity: Option<Word<'a>>,
        #[serde(borrow)]
        lvl: Option<Word<'a>>,
        #[serde(borrow, rename = "log.level")]
        dotted: Option<Word<'a>>,
        #[serde(borrow)]
        levelname: Option<Word<'a>>,
    }
    if line.trim_ascii_end().last() != Some(&b'}') {
        return None;
    }
    let object: Object<'_> = serde_json::from_slice(line).ok()?;
    let words = [
        object.level,
        object.severity,
        object.lvl,
        object.dotted,
        object.levelname,
    ];
    words.into_iter().flatten().find_map(|word| match word {
        Word::Text(text) => of_word(text.as_bytes()),
        Word::Number(number) => of_number(number),
        Word::Other(_) => None,
    })
}

/// Reads a level as pino and bunyan number it.
pub(super) fn of_number(number: u64) -> Option<Level> {
    Some(match number {
        10..20 => Level::Trace,
        20..30 => Level::Debug,
        30..40 => Level::Info,
        40..50 => Level::Warn,
        50..=60 => Level::Error,
        _ => return None,
    })
}

/// Reads a level's name as one program or another writes it.
pub(super) fn of_word(word: &[u8]) -> Option<Level> {
    if !(3..=LONGEST).contains(&word.len()) {
        return None;
    }
    let mut lower = [0; LONGEST];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" => Level::Trace,
        b"debug" | b"dbg" | b"verbose" => Level::Debug,
        b"info" | b"inf" | b"information" | b"notice" => Level::Info,
        b"warn" | b"warning" | b"wrn" => Level::Warn,
        b"error" | b"err" | b"severe" | b"fatal" | b"panic" | b"crit" | b"critical" | b"alert"
        | b"emerg" | b"emergency" => Level::Error,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Level>, said: usize) {
        let expected = expected.map(|level| (level, said));
        assert_eq!(stated(line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn a_line_says_its_level() {
        use Level::{Debug, Error, Info, Trace, Warn};
        check("WARN disk full", Some(Warn), 5);
        check("WARNING disk full", Some(Warn), 8);
        check("ERROR", Some(Error), 0);
        check("ERROR: no", Some(Error), 0);
        check("FATAL no", Some(Error), 0);
        check("error: no", Some(Error), 0);
        check("Warning: unused", Some(Warn), 0);
        check("info:", Some(Info), 0);
        check("[error] no", Some(Error), 0);
        check("[ WARN ] no", Some(Warn), 0);
        check("[INFO]", Some(Info), 0);
        check("\x1b[1;31mERROR\x1b[0m no", Some(Error), 0);
        check("level=warn msg=x", Some(Warn), 0);
        check("time=\"x\" level=error msg=x", Some(Error), 0);
        check("ts=1 lvl=\"debug\"", Some(Debug), 0);
        check(r#"{"level":"warn","msg":"x"}"#, Some(Warn), 0);
        check(
            r#"{"a":[1,{"level":1}],"severity":"ERROR"}"#,
            Some(Error),
            0,
        );
        check(r#"{"level":10}"#, Some(Trace), 0);
        check(r#"{"lvl":"in\u0066o"} "#, Some(Info), 0);
        check(r#"{"level":50,"pid":1}"#, Some(Error), 0);
    }

    #[test]
    fn text_that_only_looks_so_has_none() {
        for line in [
            "",
            "INFORMERS are scarce",
            "error handling is next",
            "Errors: 0",
            "Error",
            "errors: 0",
            "error:no",
            "info::module",
            "warning",
            "[]",
            "[2026] error",
            "[error no",
            "a level=warn",
            "key=1 mylevel=warn",
            "level=",
            "level=loud",
            "{",
            "{}",
            r#"{"level":3}"#,
            r#"{"level":["warn"]}"#,
            r#"{"level":"warn""#,
            r#"{"a":{"level":"warn"}}"#,
            "\x1b[",
            "\x1b",
            "\u{fffd}",
        ] {
            check(line, None, 0);
        }
    }
}
