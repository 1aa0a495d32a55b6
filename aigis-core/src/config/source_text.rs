//! The text of a file, the places of its lines, and the piece of it that a diagnostic shows.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use unicode_width::UnicodeWidthChar;

use super::diagnostic::{Diagnostic, Diagnostics, is_unprintable};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of one file, with its name.
pub(super) struct SourceText {
    file: PathBuf,
    text: String,
    /// Where each line starts; made at the first mistake, since most files have none.
    line_starts: OnceLock<Vec<usize>>,
}

/// Leaves the text out: it may be long, and may hold what does not belong into a log.
impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceText")
            .field("file", &self.file)
            .field("length", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl SourceText {
    pub(super) fn new(file: impl Into<PathBuf>, text: String) -> Self {
        Self {
            file: file.into(),
            text,
            line_starts: OnceLock::new(),
        }
    }

    /// Takes the bytes of `file` as text, or points at the first byte that is not UTF-8.
    pub(super) fn from_bytes(file: &Path, bytes: Vec<u8>) -> Result<Self, Diagnostics> {
        let error = match String::from_utf8(bytes) {
            Ok(text) => return Ok(Self::new(file, text)),
            Err(error) => error,
        };
        let start = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let wrong = error
            .utf8_error()
            .error_len()
            .unwrap_or(bytes.len() - start);
        let found = bytes[start];
        let hint = if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            "the file looks like UTF-16; save it as UTF-8"
        } else {
            "save the file as UTF-8"
        };
        // The text before the mistake is the same in the lossy text, so the offset is right there too.
        let lossy = Self::new(file, String::from_utf8_lossy(bytes).into_owned());
        let shown = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
        let mut diagnostic = lossy.error(
            shown,
            format!("the file is not valid UTF-8: found byte 0x{found:02x} at offset {start}"),
        );
        diagnostic.span = Some(start..start + wrong);
        Err(diagnostic.with_hint(hint).into())
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns an error at `span`.
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end).max(start);
        let line = self.line_of(start);
        let bounds = self.line_bounds(line);
        let content = &self.text[bounds.clone()];
        // A span that starts at a line break belongs to the line that it ends.
        let from = start.clamp(bounds.start, bounds.end) - bounds.start;
        let to = end.clamp(bounds.start, bounds.end) - bounds.start;
        Diagnostic {
            span: Some(start..end),
            line: Some(line),
            column: Some(content[..from].chars().count() + 1),
            excerpt: Some(Excerpt::of(content, from..to)),
            ..Diagnostic::error(&self.file, message)
        }
    }

    /// Returns the line, counted from 1, that holds the byte at `offset`.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts()
            .partition_point(|&start| start <= offset)
            .max(1)
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let first = if self.text.starts_with(BYTE_ORDER_MARK) {
                BYTE_ORDER_MARK.len_utf8()
            } else {
                0
            };
            let breaks = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(first).chain(breaks).collect()
        })
    }

    /// Returns where a line starts and ends, without its line break.
    fn line_bounds(&self, line: usize) -> Range<usize> {
        let starts = self.line_starts();
        let start = starts[line - 1];
        let end = starts.get(line).map_or(self.text.len(), |next| next - 1);
        let content = &self.text[start..end];
        start..start + content.strip_suffix('\r').unwrap_or(content).len()
    }
}

/// The line that a diagnostic shows, ready to be printed, and where its carets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line, cut around the carets when it is long, with tabs expanded and nothing that moves the cursor.
    pub(super) text: String,
    /// The columns of the terminal before the carets.
    pub(super) before: usize,
    /// The columns of the terminal that the carets take: at least one.
    pub(super) carets: usize,
}

impl Excerpt {
    /// The most columns of a line that are shown.
    const MAX_COLUMNS: usize = 120;
    /// The most columns that are shown before the carets when a line is cut.
    const MAX_BEFORE: usize = 50;

    /// Cuts `line` around the bytes `marked` of it.
    fn of(line: &str, marked: Range<usize>) -> Self {
        // No character has more than four bytes, so the first test spares measuring a line of megabytes.
        let fits = line.len() <= 4 * Self::MAX_COLUMNS
            && line.chars().map(columns).sum::<usize>() <= Self::MAX_COLUMNS;
        let first = if fits {
            0
        } else {
            window_start(&line[..marked.start], Self::MAX_BEFORE)
        };
        let mut excerpt = Self {
            text: String::new(),
            before: 0,
            carets: 0,
        };
        let mut used = 0;
        if first > 0 {
            excerpt.text.push('…');
            used += 1;
        }
        excerpt.before = used;
        for (at, c) in line[first..].char_indices().map(|(at, c)| (first + at, c)) {
            let width = columns(c);
            if !fits && used + width > Self::MAX_COLUMNS {
                excerpt.text.push('…');
                break;
            }
            match c {
                '\t' => excerpt.text.push_str("    "),
                c if is_unprintable(c) => excerpt.text.push(char::REPLACEMENT_CHARACTER),
                c => excerpt.text.push(c),
            }
            used += width;
            if at < marked.start {
                excerpt.before = used;
            } else if at < marked.end {
                excerpt.carets += width;
            }
        }
        excerpt.carets = excerpt.carets.max(1);
        excerpt
    }
}

/// Returns where to start in `line` so that at most `max` columns come before its end.
fn window_start(line: &str, max: usize) -> usize {
    let mut used = 0;
    for (at, c) in line.char_indices().rev() {
        used += columns(c);
        if used > max {
            return at + c.len_utf8();
        }
    }
    0
}

/// Returns the columns that a character takes in an excerpt.
fn columns(c: char) -> usize {
    match c {
        '\t' => 4,
        c if is_unprintable(c) => 1,
        c => c.width().unwrap_or(1),
    }
}
