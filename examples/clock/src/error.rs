//! The error of the skills; both halves of the plugin know it.

use std::fmt;

use aigis_plugin_api::skill_type;

/// A text is not what a skill reads; callers get it back as this type.
#[skill_type]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockError {
    /// What it should be.
    pub expected: String,
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ClockError {
    /// Makes the error of `text`.
    pub fn new(expected: &str, text: &str, reason: &dyn std::error::Error) -> Self {
        Self {
            expected: expected.to_owned(),
            text: text.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            text,
            reason,
        } = self;
        write!(f, "expected {expected}, found `{text}`: {reason}")
    }
}

impl std::error::Error for ClockError {}
