//! The time zone of the system.

use std::fs;
use std::path::Path;

use jiff::tz::TimeZone;

/// Where systems keep the rules of their own zone.
const LOCAL: &str = "/etc/localtime";

/// Returns the time zone that times are shown in.
///
/// Looked up by its name, as jiff does it, all folders of the database of zones are listed first, which costs each
/// shim more than all else that it does before its plugin runs. The rules themselves lie in one file.
pub(super) fn local() -> TimeZone {
    match std::env::var_os("TZ") {
        None => read(Path::new(LOCAL)).unwrap_or_else(TimeZone::system),
        Some(_) => TimeZone::system(),
    }
}

fn read(path: &Path) -> Option<TimeZone> {
    TimeZone::tzif("Local", &fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_zone_that_is_read_is_the_one_that_its_name_stands_for() {
        let Ok(named) = TimeZone::get("Europe/Berlin") else {
            // There is no database on this machine.
            return;
        };
        let read = read(Path::new("/usr/share/zoneinfo/Europe/Berlin")).expect("is a zone");
        for second in [0, 1_700_000_000, 1_720_000_000, 4_000_000_000] {
            let time = Timestamp::from_second(second).expect("a time");
            assert_eq!(read.to_offset(time), named.to_offset(time), "{time}");
        }
    }

    #[test]
    fn what_is_no_zone_is_none() {
        assert!(read(Path::new("/etc/passwd")).is_none());
        assert!(read(Path::new("/nowhere")).is_none());
    }
}
