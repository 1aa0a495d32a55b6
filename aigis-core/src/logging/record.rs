//! How one record is written down.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::lines::MAX_LINE_BYTES;
use super::{Format, Level, Stream, levels};

/// What the second and later lines of one record start with.
pub const CONTINUATION: &str = "    | ";

/// What a record in JSON starts with, its time follows.
pub(super) const JSON_HEAD: &str = "{\"time\":\"";

/// The keys under which a JSON line keeps what is the message of its record.
pub(super) const MESSAGE_KEYS: [&str; 3] = ["message", "msg", "event"];

/// Formats records, remembering what the last one started with: most share their time and level with
/// the record before.
#[derive(Debug)]
pub(super) struct Stamp {
    zone: TimeZone,
    pub(super) format: Format,
    /// What every record starts with.
    pub(super) label: String,
    /// The launch that the records are of; shown in JSON.
    pub(super) invocation: String,
    second: Option<i64>,
    millisecond: i64,
    date: Date,
    /// `2026-11-21 08:53:00`
    text: String,
    /// `+01:00`
    offset: String,
    head: Vec<u8>,
    head_of: Option<(i64, i64, Level, Option<Stream>)>,
}

impl Stamp {
    pub(super) fn new(zone: TimeZone) -> Stamp {
        Stamp {
            zone,
            format: Format::Text,
            label: String::new(),
            invocation: String::new(),
            second: None,
            millisecond: 0,
            date: Date::default(),
            text: String::new(),
            offset: String::new(),
            head: Vec::new(),
            head_of: None,
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
            if self.format == Format::Json {
                let seconds = self.zone.to_offset(time).seconds();
                let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
                self.offset = format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
            self.second = Some(second);
        }
        self.date
    }

    /// Returns the local date of `time` without moving to it.
    pub(super) fn date_of(&self, time: Timestamp) -> Date {
        self.zone.to_datetime(time).date()
    }

    /// Appends one record, its last line break included.
    pub(super) fn append(
        &mut self,
        buffer: &mut Vec<u8>,
        level: Level,
        stream: Option<Stream>,
        message: &[u8],
    ) {
        self.set_head(level, stream);
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        if self.format == Format::Json {
            let message = message.strip_suffix(b"\r").unwrap_or(message);
            self.append_json(buffer, stream, message);
            return;
        }
        buffer.reserve(self.head.len() + message.len() + 1);
        buffer.extend_from_slice(&self.head);
        if is_plain(message) {
            buffer.extend_from_slice(message);
            buffer.push(b'\n');
            return;
        }
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

    /// Appends lines that are plain text, each as a record with the level that it states, until `buffer`
    /// has more than `limit` bytes or a line is too long for one record. Returns how many bytes and
    /// lines it took.
    pub(super) fn append_plain_lines(
        &mut self,
        buffer: &mut Vec<u8>,
        limit: usize,
        level: Level,
        stream: Stream,
        lines: &[u8],
    ) -> (usize, u64) {
        self.set_head(level, Some(stream));
        // Copied as a whole, which takes two or three instructions, and cut back: a copy of a length
        // that is not known takes longer than all else that is done for a line.
        let mut head = [0; 64];
        let length = self.head.len();
        let is_short = length <= head.len();
        if is_short {
            head[..length].copy_from_slice(&self.head);
        }
        let (mut taken, mut count) = (0, 0);
        for at in memchr::memchr_iter(b'\n', lines) {
            // With its line break.
            let line = &lines[taken..=at];
            if buffer.len() > limit || line.len() > MAX_LINE_BYTES {
                break;
            }
            taken = at + 1;
            count += 1;
            if MAY_STATE[usize::from(line[0])]
                && let Some((stated, said)) = levels::stated(&line[..line.len() - 1])
            {
                self.set_head(stated, Some(stream));
                buffer.extend_from_slice(&self.head);
                buffer.extend_from_slice(&line[said..]);
            } else if is_short {
                let end = buffer.len() + length;
                buffer.extend_from_slice(&head);
                buffer.truncate(end);
                buffer.extend_from_slice(line);
            } else {
                self.set_head(level, Some(stream));
                buffer.extend_from_slice(&self.head);
                buffer.extend_from_slice(line);
            }
        }
        (taken, count)
    }

    fn set_head(&mut self, level: Level, stream: Option<Stream>) {
        let head_of = (self.second.unwrap_or(0), self.millisecond, level, stream);
        if self.head_of != Some(head_of) {
            self.head_of = Some(head_of);
            self.make_head(level, stream);
        }
    }

    fn make_head(&mut self, level: Level, stream: Option<Stream>) {
        let Stamp { head, text, .. } = self;
        head.clear();
        // Writing to a vector cannot fail.
        let _ = match self.format {
            Format::Text => {
                let gap = if self.label.is_empty() { "" } else { " " };
                let (time, label) = (self.millisecond, &self.label);
                write!(head, "{text},{time:03} : {level} : {label}{gap}")
            }
            Format::Json => {
                let (date, clock) = text.split_at(10);
                let (clock, offset) = (&clock[1..], &self.offset);
                let level = level.as_str().to_ascii_lowercase();
                let time = self.millisecond;
                write!(
                    head,
                    "{JSON_HEAD}{date}T{clock}.{time:03}{offset}\",\"level\":\"{level}\""
                )
            }
        };
        if self.format == Format::Json {
            let stream = stream.map(Stream::as_str);
            let invocation = Some(&*self.invocation).filter(|name| !name.is_empty());
            let label = Some(&*self.label).filter(|label| !label.is_empty());
            for (key, value) in [
                ("stream", stream),
                ("invocation", invocation),
                ("label", label),
            ] {
                if let Some(value) = value {
                    let _ = write!(head, ",\"{key}\":");
                    append_json_text(head, value);
                }
            }
            head.extend_from_slice(b",\"message\":");
        }
    }

    /// Appends a record in JSON; what a program has printed may be JSON itself.
    fn append_json(&self, buffer: &mut Vec<u8>, stream: Option<Stream>, message: &[u8]) {
        buffer.extend_from_slice(&self.head);
        let own = match (stream, message) {
            (Some(_), [b'{', .., b'}']) => {
                serde_json::from_slice::<Map<String, Value>>(message).ok()
            }
            _ => None,
        };
        if let Some(mut fields) = own {
            let key = MESSAGE_KEYS
                .into_iter()
                .find(|key| fields.get(*key).is_some_and(Value::is_string));
            let own = key.and_then(|key| fields.remove(key));
            append_json_text(buffer, own.as_ref().and_then(Value::as_str).unwrap_or(""));
            buffer.extend_from_slice(b",\"fields\":");
            // Neither can fail: the keys are texts and the numbers are finite.
            let _ = serde_json::to_writer(&mut *buffer, &fields);
        } else {
            match std::str::from_utf8(message) {
                Ok(text) => append_json_text(buffer, text),
                Err(_) => {
                    let mut text = Vec::new();
                    for chunk in message.utf8_chunks() {
                        text.extend_from_slice(chunk.valid().as_bytes());
                        for byte in chunk.invalid() {
                            let _ = write!(text, "\\x{byte:02x}");
                        }
                    }
                    append_json_text(buffer, &String::from_utf8_lossy(&text));
                }
            }
        }
        buffer.extend_from_slice(b"}\n");
    }
}

fn append_json_text(buffer: &mut Vec<u8>, text: &str) {
    // Writing a text to a vector cannot fail.
    let _ = serde_json::to_writer(buffer, text);
}

/// Appends one line as readable text: what could act on a terminal or look like a line
/// break, and what is not UTF-8, is written out (`\x1b`, `\xff`).
pub(super) fn append_line(buffer: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if is_plain(line) {
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

/// Says whether all bytes are what stands in a log as it is: printable ASCII and tabs.
fn is_plain(bytes: &[u8]) -> bool {
    odd(bytes, b'\t', b'\t') == 0
}

/// Says whether these are lines of such bytes.
pub(super) fn is_plain_text(bytes: &[u8]) -> bool {
    // Tab and line break are neighbours.
    odd(bytes, b'\t', b'\n') == 0
}

/// Returns something else than 0 if there is a byte that is neither printable ASCII nor from `from` to `to`.
///
/// No branch and no early end: so the compiler looks at many bytes in one step.
fn odd(bytes: &[u8], from: u8, to: u8) -> u8 {
    bytes.iter().fold(0, |odd, byte| {
        let not_printable = byte.wrapping_sub(b' ').saturating_sub(b'~' - b' ');
        let not_between = byte.wrapping_sub(from).saturating_sub(to - from);
        odd | not_printable.min(not_between)
    })
}

/// Which first bytes a line can have that states its level.
static MAY_STATE: [bool; 256] = {
    let mut may = [false; 256];
    let first = b"{[TDVINWESFPCAtdvinwesfpcalLm@_";
    let mut at = 0;
    while at < first.len() {
        may[first[at] as usize] = true;
        at += 1;
    }
    may
};

/// Reads the date that a record's line starts with.
pub(super) fn date_at_start(line: &[u8]) -> Option<Date> {
    let line = line.strip_prefix(JSON_HEAD.as_bytes()).unwrap_or(line);
    std::str::from_utf8(line.get(..10)?).ok()?.parse().ok()
}
