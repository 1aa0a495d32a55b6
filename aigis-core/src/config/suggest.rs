//! "Did you mean": the nearest known name.

/// Longer names than this are not compared: no known name is near them.
const MAX_COMPARED: usize = 40;

/// Returns the name in `known` that is most like `written`, if one is near enough to be what was meant.
///
/// Upper and lower case count as equal.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > MAX_COMPARED {
        return None;
    }
    let written = written.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&written, &name.to_ascii_lowercase());
            (distance, name)
        })
        .filter(|&(distance, name)| distance <= (name.len().max(written.len()) / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}
