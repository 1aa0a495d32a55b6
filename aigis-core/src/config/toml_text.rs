//! TOML with positions, and all of its syntax errors.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::raw::{Raw, RawFile, RawOption, SyntaxFaults};
use super::source_text::SourceText;

/// Longer texts are read up to their first error: the parser keeps every error, and there may be millions.
const RECOVERY_LIMIT: usize = 256 << 10;

/// The most names given twice whose first place is looked up, since each look-up reads the text again.
const LOOKUP_LIMIT: usize = 20;

/// Starts of the parser's messages about mistakes that end with their own line.
const LOCAL_ERRORS: [&str; 6] = [
    "string values must be quoted",
    "invalid basic string",
    "invalid literal string",
    "invalid date",
    "invalid time",
    "`_` may only",
];

/// Parts of the parser's messages about what stands in an inline table.
const INSIDE_INLINE_TABLE: [&str; 2] = ["key-value pairs", "inline table"];

/// Parses `source`, recovering from errors as well as it can.
pub(super) fn parse(source: &SourceText) -> (DeTable<'_>, SyntaxFaults) {
    let text = source.text();
    let (table, mut errors) = if text.len() > RECOVERY_LIMIT {
        match DeTable::parse(text) {
            Ok(table) => (table.into_inner(), Vec::new()),
            Err(error) => (DeTable::new(), vec![error]),
        }
    } else {
        let (table, errors) = DeTable::parse_recoverable(text);
        (table.into_inner(), errors)
    };
    errors.sort_by_key(|error| error.span().map_or(text.len(), |span| span.start));

    let mut faults = SyntaxFaults::default();
    let mut lookups = 0;
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = source.line_of(span.start);
        if error.message() == "duplicate key" {
            lookups += 1;
            let first = (lookups <= LOOKUP_LIMIT && text.len() <= RECOVERY_LIMIT)
                .then(|| first_definition(text, &span))
                .flatten();
            let first_line = first.map(|at| source.line_of(at));
            faults.errors.push(given_twice(source, span, first_line));
        } else {
            faults.reached.get_or_insert(span.start);
            if faults.incomplete
                && INSIDE_INLINE_TABLE
                    .iter()
                    .any(|m| error.message().contains(m))
            {
                continue; // All that follows an inline table that is never closed is taken for a part of it.
            }
            if !LOCAL_ERRORS.iter().any(|l| error.message().starts_with(l)) {
                faults.lose(line);
            }
            // Further errors in a line are mostly consequences of the first one.
            if faults.broken_lines.last() != Some(&line) {
                faults
                    .errors
                    .push(syntax_error(source, error.message(), span));
                faults.broken_lines.push(line);
            }
        }
        if faults.errors.len() >= Diagnostics::LIMIT {
            faults.lose(line);
            break;
        }
    }
    if text.len() > RECOVERY_LIMIT && !errors.is_empty() {
        faults.lose(0);
    }
    (table, faults)
}

/// Parses `source` as a list of options.
pub(super) fn parse_options(source: &SourceText) -> RawFile {
    let (table, faults) = parse(source);
    let options = table
        .iter()
        .map(|(key, value)| RawOption {
            name: key.get_ref().clone().into_owned(),
            name_span: key.span(),
            value: Raw::from_toml(value),
        })
        .collect();
    RawFile {
        options,
        faults,
        warnings: Vec::new(),
    }
}

/// Returns the error about a name that is given for the second time in the same table.
pub(super) fn given_twice(
    source: &SourceText,
    span: Range<usize>,
    first_line: Option<usize>,
) -> Diagnostic {
    let name = unquoted(source.text().get(span.clone()).unwrap_or_default());
    source
        .error(span, format!("{} is given twice", quoted(name)))
        .with_hint_if(first_line.map(|line| format!("it is first given in line {line}; keep one")))
}

fn syntax_error(source: &SourceText, message: &str, span: Range<usize>) -> Diagnostic {
    if message.starts_with("string values must be quoted") {
        let written = source.text().get(span.clone()).unwrap_or_default();
        return match written {
            "" => source.error(span, "a value is missing"),
            _ => source
                .error(span, "a string must be in quotes")
                .with_hint(format!("write {}", quoted(&format!("{written:?}")))),
        };
    }
    if message.contains("recurs") {
        return source.error(span, "the value is nested too deeply");
    }
    let error = source.error(span, message);
    if INSIDE_INLINE_TABLE.iter().any(|m| message.contains(m)) {
        return error.with_hint("an inline table starts with `{` and must be closed with `}`");
    }
    error
}

/// Finds where the name that is given for the second time at `duplicate` is given first.
///
/// The parser knows, but does not tell. So the text before the second place is parsed again: in it the last key of
/// that name outside the inline tables that are already closed is the first of the two.
fn first_definition(text: &str, duplicate: &Range<usize>) -> Option<usize> {
    fn search(table: &DeTable<'_>, text: &str, name: &str, found: &mut Option<usize>) {
        for (key, value) in table {
            let at = key.span();
            if text.get(at.clone()).map(unquoted) == Some(name) {
                *found = (*found).max(Some(at.start));
            }
            search_value(value.get_ref(), value.span(), text, name, found);
        }
    }
    fn search_value(
        value: &DeValue<'_>,
        span: Range<usize>,
        text: &str,
        name: &str,
        found: &mut Option<usize>,
    ) {
        match value {
            DeValue::Table(table) => {
                let written = text.get(span).unwrap_or_default();
                if !(written.starts_with('{') && written.ends_with('}')) {
                    search(table, text, name, found);
                }
            }
            DeValue::Array(elements) => {
                for element in elements {
                    search_value(element.get_ref(), element.span(), text, name, found);
                }
            }
            _ => {}
        }
    }

    let name = unquoted(text.get(duplicate.clone())?);
    let (before, _) = DeTable::parse_recoverable(text.get(..duplicate.start)?);
    let mut found = None;
    search(before.get_ref(), text, name, &mut found);
    found
}

fn unquoted(key: &str) -> &str {
    key.trim_matches(['"', '\''])
}
