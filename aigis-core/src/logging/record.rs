//! How one record is written down.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Level;

/// What the second and later lines of one record start with.
pub const CONTINUATION: &str = "    | ";

/// Formats times, remembering the last second: most records share one with the record before.
#[derive(Debug)]
pub(super) struct Stamp {
    zone: TimeZone,
    second: Option<i64>,
    millisecond: i64,
    date: Date,
    /// `2026-11-21 08:53:00`
    text: String,
}

impl Stamp {
    pub(super) fn new(zone: TimeZone) -> Stamp {
        Stamp {
            zone,
            second: None,
            millisecond: 0,
            date: Date::default(),
            text: String::new(),
        }
    }

    /// Moves to `time` and returns its local date.
    pub(super) fn set(&mut self, time: Timestamp) -> Date {
        let milliseconds = time.as_millisecond();
        let second = milliseconds.div_euclid(1000);
        self.millisecond = milliseconds.rem_euclid(1000);
        if self.second != Some(second) {
            let local = self.zone.to_datetime(time);
            self.date = local.date();
            self.text = format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
                local.year(),
                local.month(),
                local.day(),
                local.hour(),
                local.minute(),
                local.second()
            );
            self.second = Some(second);
        }
        self.date
    }

    /// Returns the local date of `time` without moving to it.
    pub(super) fn date_of(&self, time: Timestamp) -> Date {
        self.zone.to_datetime(time).date()
    }

    /// Appends one record, its last line break included.
    pub(super) fn append(&self, buffer: &mut Vec<u8>, level: Level, message: &[u8]) {
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{},{:03} : {level} : ", self.text, self.millisecond);
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        let mut rest = message;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            append_line(buffer, &rest[..at]);
            buffer.push(b'\n');
            buffer.extend_from_slice(CONTINUATION.as_bytes());
            rest = &rest[at + 1..];
        }
        append_line(buffer, rest);
        buffer.push(b'\n');
    }
}

/// Appends one line as readable text: what could act on a terminal or look like a line
/// break, and what is not UTF-8, is written out (`\x1b`, `\xff`).
fn append_line(buffer: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().all(|&byte| is_plain(byte)) {
        buffer.extend_from_slice(line);
        return;
    }
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\r' => buffer.extend_from_slice(b"\\r"),
                '\t' => buffer.push(b'\t'),
                // The separators break lines in some viewers; the others turn the text
                // around on the screen, so that it reads as something it is not.
                '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    let _ = write!(buffer, "\\u{{{:x}}}", u32::from(character));
                }
                _ if character.is_control() => {
                    let _ = write!(buffer, "\\x{:02x}", u32::from(character));
                }
                _ => {
                    let mut bytes = [0; 4];
                    buffer.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(buffer, "\\x{byte:02x}");
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t')
}

/// Reads the date that a record's line starts with.
pub(super) fn date_at_start(line: &[u8]) -> Option<Date> {
    std::str::from_utf8(line.get(..10)?).ok()?.parse().ok()
}
