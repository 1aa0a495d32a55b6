//! Numbers as people read them.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Writes a share of one core: `0.3%`, `12%`, `250%`.
pub(super) fn percent(percent: f64) -> String {
    match percent < 9.95 {
        true => format!("{percent:.1}%"),
        false => format!("{percent:.0}%"),
    }
}

/// Writes an amount of memory: `512 B`, `9.5 MiB`, `312 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    // What would be written as 1024 is one of the next.
    while amount >= 1023.5 && unit < UNITS.len() - 1 {
        amount /= 1024.0;
        unit += 1;
    }
    match unit > 0 && amount < 9.95 {
        true => format!("{amount:.1} {}", UNITS[unit]),
        false => format!("{amount:.0} {}", UNITS[unit]),
    }
}

/// Writes a time, in its two largest units: `12s`, `5m 3s`, `2h 5m`, `3d 4h`.
pub(super) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        (_, _, _) => format!("{days}d {}h", hours % 24),
    }
}

/// Returns how long before `now` something was, by its RFC 3339 time; a clock that was set back makes that nothing.
pub(super) fn since(time: &str, now: Timestamp) -> Option<Duration> {
    let time = time.parse::<Timestamp>().ok()?;
    let (time, now) = (SystemTime::from(time), SystemTime::from(now));
    Some(now.duration_since(time).unwrap_or_default())
}

/// Returns the columns and rows of the terminal that standard output is; none if it is no terminal.
pub(super) fn screen() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_for_people() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (10 << 20, "10 MiB"),
            (u64::MAX, "16777216 TiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        for (share, text) in [
            (0.0, "0.0%"),
            (9.94, "9.9%"),
            (9.96, "10%"),
            (250.4, "250%"),
        ] {
            assert_eq!(percent(share), text);
        }
        let ages = [
            (59, "59s"),
            (60, "1m 0s"),
            (3_725, "1h 2m"),
            (90_000, "1d 1h"),
        ];
        for (seconds, text) in ages {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        let before = since("2026-01-01T00:00:00Z", now);
        assert_eq!(before, Some(Duration::from_secs(10)));
        assert_eq!(since("2026-01-01T00:01:00Z", now), Some(Duration::ZERO));
        assert_eq!(since("yesterday", now), None);
    }
}
