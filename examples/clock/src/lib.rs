//! Tells the time: the half of the plugin that the core loads.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aigis_plugin_api::skills;

pub use error::ClockError;

/// What others can call.
#[skills]
pub mod clock {
    use super::*;

    /// Returns the time in UTC, such as `2024-02-29T12:00:00Z`.
    pub fn now() -> String {
        humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
    }

    /// Reads a time in UTC, such as `2024-02-29T12:00:00Z` or `2024-02-29 12:00:00`, as seconds since 1970.
    #[skill(idempotent)]
    pub fn parse(text: &str) -> Result<u64, ClockError> {
        let time = humantime::parse_rfc3339_weak(text).map_err(|error| {
            ClockError::new("a time such as 2024-02-29T12:00:00Z", text, &error)
        })?;
        let since = time.duration_since(UNIX_EPOCH);
        let since = since.map_err(|error| ClockError::new("a time after 1970", text, &error))?;
        Ok(since.as_secs())
    }

    /// Reads a duration, such as `90s` or `1h 30m`.
    #[skill(idempotent)]
    pub fn parse_duration(text: &str) -> Result<Duration, ClockError> {
        humantime::parse_duration(text)
            .map_err(|error| ClockError::new("a duration such as 1h 30m", text, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_back() {
        assert_eq!(clock::parse("1970-01-02T00:00:01Z"), Ok(86_401));
        assert_eq!(clock::parse("2024-02-29 12:00:00"), Ok(1_709_208_000));
        let before = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970");
        let now = clock::parse(&clock::now()).expect("it is what `now` writes");
        assert!(now >= before.as_secs());
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(clock::parse_duration("1h 30m"), Ok(Duration::from_mins(90)));
    }

    #[test]
    fn mistakes_say_what_was_expected_and_what_was_found() {
        let error = clock::parse("noon").expect_err("it is no time");
        assert_eq!(error.text, "noon");
        let text = error.to_string();
        assert!(
            text.starts_with("expected a time such as 2024-02-29T12:00:00Z, found `noon`: "),
            "{text}"
        );
        assert!(clock::parse_duration("soon").is_err());
    }
}
