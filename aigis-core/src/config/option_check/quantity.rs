//! Times and sizes that are written with a unit.

/// The units of sizes, the largest last.
const SIZES: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The units of times. Milliseconds come first: they end like seconds.
const TIMES: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads a size with a unit as a number of bytes; none if it is not one.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = SIZES
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*unit)
}

/// Reads a time with a unit as a number of seconds; none if it is not one.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = TIMES
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let number = number.trim_end();
    // A sign, an exponent and `inf` are numbers to the parser, but no way to write a time.
    let is_plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = number.parse::<f64>().ok().filter(|_| is_plain)?;
    Some(number * unit)
}

/// Writes a number of bytes with the largest unit that leaves it whole.
pub(super) fn shown(bytes: u64) -> String {
    match SIZES
        .iter()
        .rev()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}
