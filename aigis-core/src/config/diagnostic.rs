//! Mistakes in a file, each with its place, and how they are shown.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::source_text::Excerpt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but probably does not do what was meant.
    Warning,
}

/// One finding in one file.
///
/// Its `Display` is the message with the file's name, the line it is about, carets below the span, and the hint,
/// without a line break at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, without a full stop.
    pub message: String,
    /// The file, as it was named by the user.
    #[serde(serialize_with = "path_as_text")]
    pub file: PathBuf,
    /// The place in the file, in bytes; `None` when the finding is about the whole file.
    pub span: Option<Range<usize>>,
    /// The line of the place, counted from 1.
    pub line: Option<usize>,
    /// The column of the place, in characters, counted from 1.
    pub column: Option<usize>,
    /// What to do about it; more than one hint has a line each.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// Serialises a path that is not valid UTF-8 too, which serde refuses to do.
fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Diagnostic {
    /// Returns an error about the whole of `file`.
    pub fn error(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            file: file.into(),
            span: None,
            line: None,
            column: None,
            hint: None,
            excerpt: None,
        }
    }

    /// Adds a hint below those that are there already.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(match self.hint {
            Some(before) => format!("{before}\n{}", hint.into()),
            None => hint.into(),
        });
        self
    }

    /// Adds a hint if there is one.
    #[must_use]
    pub(super) fn with_hint_if(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.with_hint(hint),
            None => self,
        }
    }

    /// Makes a warning of it.
    #[must_use]
    pub fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Orders by place in the file; findings about the whole file come last.
    pub(super) fn by_place(&self, other: &Self) -> Ordering {
        let place = |d: &Self| {
            let span = d.span.clone();
            (span.is_none(), span.map(|span| (span.start, span.end)))
        };
        place(self).cmp(&place(other))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        let file = self.file.to_string_lossy();
        let file = printable(&file);
        match (self.line, self.column, &self.excerpt) {
            (Some(line), Some(column), Some(excerpt)) => {
                let gutter = line.to_string().len();
                writeln!(f, "{:gutter$}--> {file}:{line}:{column}", "")?;
                writeln!(f, "{:gutter$} |", "")?;
                writeln!(f, "{}", format!("{line} | {}", excerpt.text).trim_end())?;
                write!(
                    f,
                    "{:gutter$} | {:before$}",
                    "",
                    "",
                    before = excerpt.before
                )?;
                write!(f, "{:^<carets$}", "", carets = excerpt.carets)?;
            }
            _ => write!(f, " --> {file}")?,
        }
        for hint in self.hint.iter().flat_map(|hint| hint.lines()) {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a file.
///
/// At most [`Diagnostics::LIMIT`] findings are kept, so that a hostile file cannot fill the memory with them; further
/// ones are counted. Its `Display` shows all that are kept, with an empty line between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// The most findings that are kept.
    pub const LIMIT: usize = 200;

    /// Returns an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.push_with(|| diagnostic);
    }

    /// Adds a finding that is only made if there is room for it.
    pub(super) fn push_with(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.is_full() {
            self.omitted += 1;
        } else {
            self.kept.push(make());
        }
    }

    /// Says whether further findings would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= Self::LIMIT
    }

    /// Says whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns the number of findings that are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the number of findings that were counted but not kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Iterates over the findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// Drops the findings that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.kept.retain(keep);
    }

    /// Returns `value` if nothing was found, and otherwise the findings in the order of the file.
    pub(super) fn into_result<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                self.kept.sort_by(Diagnostic::by_place);
                Err(self)
            }
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            kept: vec![diagnostic],
            omitted: 0,
        }
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.kept)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.kept.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\n\nerror: {} more mistakes are not shown", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Returns `text` in backquotes for a message: cut when it is long, and harmless on a terminal.
pub(super) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    let mut shown: String = text.chars().take(MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", printable(&shown))
}

/// Says whether a character would change what a terminal shows around it.
pub(super) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes the characters of `text` that would change what a terminal shows around them.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}
