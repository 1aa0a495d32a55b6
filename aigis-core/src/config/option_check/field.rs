//! Values of options and of keys in their tables: read one by one, with their name in every message.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::diagnostic::quoted;
use super::super::manifest_options::{Setting, listed};
use super::super::raw::{Raw, RawValue};
use super::super::suggest::nearest;
use super::Checker;
use super::quantity;

/// The longest time that can be asked for: a year.
pub(super) const MAX_TIME: f64 = 365.0 * 24.0 * 60.0 * 60.0;

/// The shortest time that can be asked for. What is timed is looked at several times in it.
pub(super) const MIN_TIME: f64 = 0.01;

/// How a time is written, for hints.
pub(super) const TIME: &str = "write a number of seconds, such as 5 or 0.5, or one with a unit: \"250ms\", \"5s\", \"2m\", \"1h\"";

/// How a size is written, for hints.
pub(super) const SIZE: &str =
    "write a number of bytes, or one with a unit: \"64 KiB\", \"100 MiB\", \"2 GiB\"";

/// The value of an option, or of a key in one that is a table.
#[derive(Clone)]
pub(super) struct Field<'a> {
    setting: &'a Setting,
    /// What the value is called in messages.
    name: String,
    pub(super) value: &'a Raw,
}

impl<'a> Field<'a> {
    /// Takes the whole value of an option.
    pub(super) fn whole(setting: &'a Setting) -> Self {
        Self {
            setting,
            name: format!("`{}`", setting.name),
            value: &setting.value,
        }
    }

    /// Takes a part of an option's value, which is called `name` in messages.
    pub(super) fn part(setting: &'a Setting, name: String, value: &'a Raw) -> Self {
        Self {
            setting,
            name,
            value,
        }
    }

    /// Takes an element of a list, which is called `what` in messages.
    pub(super) fn element(&self, what: &str, element: &'a Raw) -> Self {
        Self::part(self.setting, format!("{what} of {}", self.name), element)
    }
}

/// The table that an option is set to. Each of its keys is one that is known.
pub(super) struct Table<'a> {
    setting: &'a Setting,
    pairs: Vec<(&'a str, &'a Raw, &'a Raw)>,
    /// Whether there was a key that is none, which may have been meant for any other.
    pub(super) has_unknown: bool,
}

impl<'a> Table<'a> {
    /// Returns the value of `key`; `None` in the literal syntax is no value.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let (name, _, value) = self
            .pairs
            .iter()
            .find(|(name, _, value)| *name == key && value.value != RawValue::None)?;
        let name = format!("`{name}` of `{}`", self.setting.name);
        Some(Field::part(self.setting, name, value))
    }

    /// Returns which of `keys` are given, in the order of the table.
    pub(super) fn given(&self, keys: &[&str]) -> Vec<(&'a str, &'a Raw)> {
        let pairs = self.pairs.iter();
        pairs
            .filter(|(name, _, value)| keys.contains(name) && value.value != RawValue::None)
            .map(|&(name, key, _)| (name, key))
            .collect()
    }
}

impl<'a> Checker<'a> {
    /// Takes an option's value as a table with some of `known` keys; others are reported.
    pub(super) fn table(&mut self, setting: &'a Setting, known: &[&str]) -> Option<Table<'a>> {
        let RawValue::Map(pairs) = &setting.value.value else {
            let hint = format!("its keys are {}", listed(known));
            self.wrong_type(setting, "a table", &hint);
            return None;
        };
        let what = format!("a key of `{}`", setting.name);
        let mut table = Table {
            setting,
            pairs: Vec::new(),
            has_unknown: false,
        };
        for (key, value) in pairs {
            let Some(name) = self.text_in(setting, key, &what) else {
                table.has_unknown = true;
                continue;
            };
            if known.contains(&name) {
                table.pairs.push((name, key, value));
                continue;
            }
            table.has_unknown = true;
            self.mistakes.push_with(|| {
                let message = format!("unknown key {} in `{}`", quoted(name), setting.name);
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) if near.eq_ignore_ascii_case(name) => {
                        format!("keys of a table are written in lower case: `{near}`")
                    }
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its keys are {}", listed(known)),
                };
                let error = setting.source.error(key.span.clone(), message);
                error.with_hint(hint)
            });
        }
        Some(table)
    }

    /// Reports that a value is not as it must be.
    pub(super) fn refuse(&mut self, field: &Field<'_>, what: impl fmt::Display, hint: &str) {
        self.mistakes.push_with(|| {
            let message = format!("{} {what}", field.name);
            let error = field
                .setting
                .source
                .error(field.value.span.clone(), message);
            error.with_hint_if((!hint.is_empty()).then_some(hint))
        });
    }

    /// Reports that a value is of another type.
    pub(super) fn refuse_type(&mut self, field: &Field<'_>, expected: &str, hint: &str) {
        let found = field.value.value.described();
        self.refuse(field, format!("must be {expected}, found {found}"), hint);
    }

    pub(super) fn boolean(&mut self, field: &Field<'_>, hint: &str) -> Option<bool> {
        if let RawValue::Boolean(value) = field.value.value {
            return Some(value);
        }
        self.refuse_type(field, "a boolean", hint);
        None
    }

    pub(super) fn integer<T>(
        &mut self,
        field: &Field<'_>,
        allowed: RangeInclusive<T>,
        hint: &str,
    ) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + fmt::Display,
    {
        let RawValue::Integer(number) = field.value.value else {
            self.refuse_type(field, "an integer", hint);
            return None;
        };
        let number = T::try_from(number).ok();
        let accepted = number.filter(|number| allowed.contains(number));
        if accepted.is_none() {
            self.refuse_range(field, &allowed, "", hint);
        }
        accepted
    }

    pub(super) fn number(
        &mut self,
        field: &Field<'_>,
        allowed: RangeInclusive<f64>,
        hint: &str,
    ) -> Option<f64> {
        let Some(number) = plain_number(&field.value.value) else {
            self.refuse_type(field, "a number", hint);
            return None;
        };
        // Not a number is in no range.
        if !allowed.contains(&number) {
            self.refuse_range(field, &allowed, "", hint);
            return None;
        }
        Some(number)
    }

    /// Reads a time: a number of seconds, or one with a unit.
    pub(super) fn time(&mut self, field: &Field<'_>, hint: &str) -> Option<Duration> {
        let seconds = match &field.value.value {
            RawValue::Text(text) => {
                let Some(seconds) = quantity::seconds(text) else {
                    let found = quoted(text);
                    let what =
                        format!("must be a number of seconds or one with a unit, found {found}");
                    self.refuse(field, what, &with_form(hint, TIME));
                    return None;
                };
                seconds
            }
            other => {
                let Some(seconds) = plain_number(other) else {
                    let expected = "a number of seconds or one with a unit";
                    self.refuse_type(field, expected, &with_form(hint, TIME));
                    return None;
                };
                seconds
            }
        };
        if !(MIN_TIME..=MAX_TIME).contains(&seconds) {
            self.refuse_range(field, &(MIN_TIME..=MAX_TIME), " seconds", hint);
            return None;
        }
        Some(Duration::from_secs_f64(seconds))
    }

    /// Reads a size of at least `least` bytes: a number of them, or one with a unit.
    pub(super) fn size(&mut self, field: &Field<'_>, least: u64, hint: &str) -> Option<u64> {
        let bytes = match &field.value.value {
            RawValue::Integer(bytes) => u64::try_from(*bytes).ok(),
            RawValue::Text(text) => match quantity::bytes(text) {
                Some(bytes) => Some(bytes),
                None => {
                    let found = quoted(text);
                    self.refuse(field, format!("must be a size, found {found}"), hint);
                    return None;
                }
            },
            _ => {
                self.refuse_type(field, "a number of bytes or one with a unit", hint);
                return None;
            }
        };
        // What is more does not fit into the system's own numbers.
        let accepted = bytes.filter(|bytes| (least..=i64::MAX as u64).contains(bytes));
        if accepted.is_none() {
            let least = quantity::shown(least);
            let what = format!("must be a size of at least {least} and less than 8 EiB");
            self.refuse(field, what, hint);
        }
        accepted
    }

    /// Reads a string that is not blank.
    pub(super) fn word(&mut self, field: &Field<'a>) -> Option<&'a str> {
        let text = self.text_in(field.setting, field.value, &field.name)?;
        if text.trim().is_empty() {
            self.refuse(field, "must not be empty", "");
            return None;
        }
        Some(text)
    }

    /// Reads one of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        field: &Field<'a>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let names = || choices.iter().map(|&(name, _)| name);
        let RawValue::Text(text) = &field.value.value else {
            let expected = format!("one of the strings {}", listed(names()));
            self.refuse_type(field, &expected, "");
            return None;
        };
        let found = choices.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let near = nearest(text, names()).map(|near| format!("did you mean `{near}`?"));
            let what = format!("must be one of {}, found {}", listed(names()), quoted(text));
            self.refuse(field, what, &near.unwrap_or_default());
        }
        found.map(|&(_, choice)| choice)
    }

    fn refuse_range<T: fmt::Display>(
        &mut self,
        field: &Field<'_>,
        allowed: &RangeInclusive<T>,
        unit: &str,
        hint: &str,
    ) {
        let (least, most) = (allowed.start(), allowed.end());
        let what = format!("must be at least {least} and at most {most}{unit}");
        self.refuse(field, what, hint);
    }
}

/// Adds how a value is written to a hint.
fn with_form(hint: &str, form: &str) -> String {
    match hint {
        "" => form.to_owned(),
        hint if hint == form => form.to_owned(),
        hint => format!("{hint}\n{form}"),
    }
}

fn plain_number(value: &RawValue) -> Option<f64> {
    match *value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "so large a number is refused anyway"
        )]
        RawValue::Integer(number) => Some(number as f64),
        RawValue::Float(number) => Some(number),
        _ => None,
    }
}
