//! One record, as it was read back.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::reader::into_text;
use super::record::{JSON_HEAD, append_line};
use super::{CONTINUATION, Level};

/// One record of a log, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its lines as they stand in the file.
    text: String,
    time: Option<Timestamp>,
    level: Option<Level>,
    /// Where the message begins in `text`; of a record in JSON, 0.
    message: usize,
    is_json: bool,
}

impl Entry {
    /// Reads a record from its lines, in local time.
    pub fn read(text: String) -> Entry {
        Entry::read_in(text, &TimeZone::system())
    }

    /// Reads a record from its lines, in the time zone of whoever wrote it.
    pub fn read_in(text: String, zone: &TimeZone) -> Entry {
        let mut entry = Entry {
            text,
            time: None,
            level: None,
            message: 0,
            is_json: false,
        };
        if let Some(rest) = entry.text.strip_prefix(JSON_HEAD) {
            let (time, rest) = rest.split_once('"').unwrap_or_default();
            let level = rest
                .strip_prefix(",\"level\":\"")
                .and_then(|rest| rest.split_once('"'));
            entry.time = time.parse().ok();
            entry.level = level.and_then(|(level, _)| level.parse().ok());
            entry.is_json = true;
        } else if let Some((head, level, message)) = split_head(&entry.text) {
            // What is written twice, when clocks are put back, is taken for the first time.
            entry.time = time_of(head).and_then(|time| zone.to_timestamp(time).ok());
            entry.level = Some(level);
            entry.message = message;
        }
        entry
    }

    /// Returns when it was written; none if this is no record that a core has written.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// Returns its level.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// Returns its lines as they stand in the file.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends the next line of the same record.
    pub(crate) fn extend(&mut self, line: &str) {
        self.text.push('\n');
        self.text.push_str(line);
    }

    /// Returns it as people read it.
    pub fn to_text(&self, zone: &TimeZone) -> String {
        let Some((object, time)) = self.object().zip(self.time) else {
            return self.text.clone();
        };
        let time = zone.to_datetime(time);
        let level = self.level.map_or("INFO", Level::as_str);
        let mut text = format!(
            "{} {:02}:{:02}:{:02},{:03} : {level} : ",
            time.date(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        );
        if let Some(label) = object.get("label").and_then(Value::as_str) {
            text.push_str(label);
            text.push(' ');
        }
        let message = object.get("message").and_then(Value::as_str).unwrap_or("");
        for (number, line) in message.split('\n').enumerate() {
            if number > 0 {
                text.push('\n');
                text.push_str(CONTINUATION);
            }
            let mut readable = Vec::new();
            append_line(&mut readable, line.as_bytes());
            text.push_str(&into_text(readable));
        }
        for (key, value) in object
            .get("fields")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let gap = if text.ends_with(' ') { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = match value.as_str() {
                Some(plain) if !plain.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                    write!(text, "{gap}{key}={plain}")
                }
                _ => write!(text, "{gap}{key}={value}"),
            };
        }
        text
    }

    /// Returns it as an object with `log`, the name of its log, and what else is known of it.
    pub fn to_json(&self, log: &str) -> Value {
        let mut all = Map::new();
        all.insert("log".to_owned(), log.into());
        if let Some(object) = self.object() {
            all.extend(object);
            return all.into();
        }
        if let Some(time) = self.time {
            all.insert("time".to_owned(), format!("{time:.3}").into());
        }
        if let Some(level) = self.level {
            all.insert(
                "level".to_owned(),
                level.as_str().to_ascii_lowercase().into(),
            );
        }
        let separator = format!("\n{CONTINUATION}");
        let message = self.text[self.message..].replace(&separator, "\n");
        all.insert("message".to_owned(), message.into());
        all.into()
    }

    fn object(&self) -> Option<Map<String, Value>> {
        match self.is_json {
            true => serde_json::from_str(&self.text).ok(),
            false => None,
        }
    }
}

/// Splits `2026-11-21 08:53:00,123 : INFO : message`.
fn split_head(text: &str) -> Option<(&str, Level, usize)> {
    let head = text.get(..23)?;
    let rest = text[23..].strip_prefix(" : ")?;
    let (level, message) = rest.split_once(" : ")?;
    let level = Level::ALL
        .into_iter()
        .find(|known| known.as_str() == level)?;
    Some((head, level, text.len() - message.len()))
}

fn time_of(head: &str) -> Option<DateTime> {
    let number = |from: usize, to: usize| head.get(from..to)?.parse::<i16>().ok();
    let small = |from: usize, to: usize| head.get(from..to)?.parse::<i8>().ok();
    let milliseconds: i32 = number(20, 23)?.into();
    DateTime::new(
        number(0, 4)?,
        small(5, 7)?,
        small(8, 10)?,
        small(11, 13)?,
        small(14, 16)?,
        small(17, 19)?,
        milliseconds * 1_000_000,
    )
    .ok()
}
