//! The original's manifest syntax: assignments of literals as Python writes them.
//!
//! A manifest of the original is a Python module. This reads the part of the language that manifests use: `NAME =
//! value` with strings, numbers, `True`, `False`, `None`, lists, tuples and dicts, comments, and strings that stand
//! alone (docstrings). Nothing is executed; everything else is an error. After an error, reading goes on at the next
//! line that looks like an assignment.

use std::collections::HashMap;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::raw::{Raw, RawFile, RawOption, RawValue};
use super::source_text::SourceText;
use super::toml_text::given_twice;

/// How deeply lists, tuples and dicts may be nested.
const MAX_DEPTH: usize = 64;

const NOTHING_RUNS: &str = "nothing in a manifest is executed; write the value itself";

/// Words that start a statement of the language.
const STATEMENTS: [&str; 22] = [
    "assert", "async", "await", "class", "def", "del", "elif", "else", "except", "exec", "finally",
    "for", "from", "global", "if", "import", "pass", "print", "raise", "try", "while", "with",
];

/// One syntax error, before it is given its place in the file.
pub(super) struct Fault {
    span: Range<usize>,
    reached: usize,
    message: String,
    hint: Option<String>,
    /// Whether there is nothing left to read.
    at_end: bool,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            reached: span.end,
            span,
            message: message.into(),
            hint: None,
            at_end: false,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that the text was read up to `reached` before the mistake was noticed, with nothing left to read.
    pub(super) fn reaching(mut self, reached: usize) -> Self {
        self.reached = reached;
        self.at_end = true;
        self
    }
}

/// Parses `source` as a list of options.
pub(super) fn parse_options(source: &SourceText) -> RawFile {
    let mut parser = Parser {
        source,
        text: source.text(),
        at: 0,
        brackets: 0,
        warnings: Vec::new(),
        repeated: Vec::new(),
    };
    if parser.text.starts_with('\u{feff}') {
        parser.at = '\u{feff}'.len_utf8();
    }
    let mut file = RawFile::default();
    let mut first_lines = HashMap::new();
    while let Some(start) = parser.next_statement() {
        match parser.statement() {
            Ok(Some(option)) => {
                let span = option.name_span.clone();
                let line = source.line_of(span.start);
                // Python would keep the last of several; which one was meant is anybody's guess.
                match first_lines.get(&option.name) {
                    Some(&first) => {
                        file.faults
                            .errors
                            .push(given_twice(source, span, Some(first)));
                    }
                    None => {
                        first_lines.insert(option.name.clone(), line);
                        file.options.push(option);
                    }
                }
            }
            Ok(None) => {}
            Err(fault) => {
                file.faults.reached.get_or_insert(fault.reached);
                let error = source
                    .error(fault.span, fault.message)
                    .with_hint_if(fault.hint);
                file.faults.broken_lines.extend(error.line);
                file.faults.errors.push(error);
                file.faults.incomplete = true;
                if fault.at_end {
                    break;
                }
                parser.at = parser.at.max(start);
                parser.recover();
            }
        }
        if file.faults.errors.len() >= Diagnostics::LIMIT {
            file.faults.incomplete = true;
            break;
        }
    }
    file.faults.errors.append(&mut parser.repeated);
    file.warnings = parser.warnings;
    file
}

/// Reads the text from front to back.
pub(super) struct Parser<'s> {
    source: &'s SourceText,
    pub(super) text: &'s str,
    /// The byte that is read next.
    pub(super) at: usize,
    /// How many brackets are open: inside of them line breaks mean nothing.
    brackets: usize,
    warnings: Vec<Diagnostic>,
    /// Errors about names that stand twice in a dict: they do not stop the reading.
    repeated: Vec<Diagnostic>,
}

impl<'s> Parser<'s> {
    pub(super) fn rest(&self) -> &'s str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn warn(&mut self, span: Range<usize>, message: &str) {
        if self.warnings.len() < Diagnostics::LIMIT {
            self.warnings
                .push(self.source.error(span, message).into_warning());
        }
    }

    /// Steps over the line break that is here.
    pub(super) fn line_break(&mut self) {
        self.at += if self.rest().starts_with("\r\n") {
            2
        } else {
            1
        };
    }

    /// Steps over what separates tokens: inside of brackets line breaks and comments too.
    pub(super) fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\u{c}' => self.at += 1,
                '\n' | '\r' if self.brackets > 0 => self.line_break(),
                '#' if self.brackets > 0 => self.skip_line(),
                '\\' if self.rest()[1..].starts_with(['\n', '\r']) => {
                    self.at += 1;
                    self.line_break();
                }
                _ => return,
            }
        }
    }

    /// Steps to the end of the line.
    fn skip_line(&mut self) {
        self.at += self.rest().find(['\n', '\r']).unwrap_or(self.rest().len());
    }

    /// Steps over empty lines and comments; returns where the next statement starts, or `None` at the end.
    fn next_statement(&mut self) -> Option<usize> {
        loop {
            let start = self.at;
            self.skip_space();
            match self.peek()? {
                '\n' | '\r' => self.line_break(),
                '#' => self.skip_line(),
                _ => {
                    self.at = start;
                    return Some(start);
                }
            }
        }
    }

    /// After an error, steps to the next line that seems to start a statement, or to the end.
    ///
    /// Inside of brackets that is a line that looks like an assignment, and elsewhere one that is neither indented nor
    /// closes a bracket.
    fn recover(&mut self) {
        let in_brackets = std::mem::take(&mut self.brackets) > 0;
        if self.starts_assignment() {
            return;
        }
        loop {
            self.skip_line();
            if self.peek().is_none() {
                return;
            }
            self.line_break();
            let continues = self.rest().starts_with([' ', '\t', ')', ']', '}']);
            if self.starts_assignment() || !(in_brackets || continues) {
                return;
            }
        }
    }

    /// Says whether `NAME =` stands here, at the start of a line.
    fn starts_assignment(&self) -> bool {
        let at_line_start = self.at == 0 || self.text[..self.at].ends_with(['\n', '\r']);
        let name = name_length(self.rest());
        let after = self.rest()[name..].trim_start_matches([' ', '\t']);
        at_line_start && name > 0 && after.starts_with('=') && !after.starts_with("==")
    }

    /// Reads one statement; `None` for a string that stands alone.
    fn statement(&mut self) -> Result<Option<RawOption>, Fault> {
        let start = self.at;
        self.skip_space();
        if self.at > start && !self.text[start..self.at].contains(['\n', '\r']) {
            return Err(Fault::new(start..self.at, "unexpected indentation").hint(
                "start the line at its left edge: a manifest is a plain list of assignments",
            ));
        }
        if self.string_prefix().is_some() {
            self.strings()?;
            self.end_of_statement()?;
            return Ok(None);
        }
        let name_start = self.at;
        let name = &self.rest()[..name_length(self.rest())];
        if name.is_empty() {
            let found = self.token();
            return Err(Fault::new(
                found.clone(),
                format!("expected an assignment, found {}", self.shown(found)),
            )
            .hint("write `NAME = value`"));
        }
        self.at += name.len();
        let name_span = name_start..self.at;
        self.skip_space();
        let after = self.token();
        if STATEMENTS.contains(&name) {
            return Err(Fault::new(
                name_span,
                format!("a statement with {} is not accepted", quoted(name)),
            )
            .hint("nothing in a manifest is executed; write `NAME = value`"));
        }
        if !self.rest().starts_with('=') || self.rest().starts_with("==") {
            let message = format!(
                "expected `=` after {}, found {}",
                quoted(name),
                self.shown(after.clone())
            );
            return Err(Fault::new(after, message).hint("write `NAME = value`"));
        }
        self.at += 1;
        self.skip_space();
        let mut value = self.value(0)?;
        // `A = 1, 2` is a tuple without parentheses.
        let end = self.at;
        self.skip_space();
        if self.peek() == Some(',') {
            let first = value.span.start;
            let mut elements = vec![value];
            while self.peek() == Some(',') {
                self.at += 1;
                self.skip_space();
                if matches!(self.peek(), None | Some('\n' | '\r' | '#')) {
                    break;
                }
                elements.push(self.value(0)?);
                self.skip_space();
            }
            value = Raw {
                value: RawValue::List(elements),
                span: first..self.at,
            };
        } else {
            self.at = end;
        }
        self.end_of_statement()?;
        Ok(Some(RawOption {
            name: name.to_owned(),
            name_span,
            value,
        }))
    }

    fn end_of_statement(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.peek() == Some('#') {
            self.skip_line();
        }
        match self.peek() {
            None => Ok(()),
            Some('\n' | '\r') => {
                self.line_break();
                Ok(())
            }
            Some(_) => {
                let found = self.token();
                let message = format!(
                    "expected the end of the line, found {}",
                    self.shown(found.clone())
                );
                Err(Fault::new(found, message).hint(NOTHING_RUNS))
            }
        }
    }

    /// Reads the value that starts here.
    fn value(&mut self, depth: usize) -> Result<Raw, Fault> {
        let start = self.at;
        let value = match self.peek() {
            Some('[' | '(' | '{') if depth >= MAX_DEPTH => {
                let message = format!(
                    "the value is nested too deeply, at most {MAX_DEPTH} levels are accepted"
                );
                return Err(Fault::new(start..start + 1, message));
            }
            Some('[') => self.sequence(depth, ']')?,
            Some('(') => self.sequence(depth, ')')?,
            Some('{') => self.dict(depth)?,
            Some('0'..='9' | '+' | '-' | '.') => self.number()?,
            _ if self.string_prefix().is_some() => RawValue::Text(self.strings()?),
            _ => self.constant()?,
        };
        Ok(Raw {
            value,
            span: start..self.at,
        })
    }

    /// Reads `True`, `False` or `None`, or explains what stands there instead.
    fn constant(&mut self) -> Result<RawValue, Fault> {
        let found = self.token();
        let name = &self.rest()[..name_length(self.rest())];
        let value = match name {
            "True" => RawValue::Boolean(true),
            "False" => RawValue::Boolean(false),
            "None" => RawValue::None,
            "" => {
                let message = format!("expected a value, found {}", self.shown(found.clone()));
                return Err(Fault::new(found, message));
            }
            "true" => return Err(Fault::new(found, "`true` is not a value").hint("write `True`")),
            "false" => {
                return Err(Fault::new(found, "`false` is not a value").hint("write `False`"));
            }
            "null" | "none" | "nil" => {
                return Err(
                    Fault::new(found, format!("`{name}` is not a value")).hint("write `None`")
                );
            }
            _ => {
                let called = self.rest()[name.len()..].trim_start().starts_with('(');
                let what = if called { "a call" } else { "a name" };
                let message = format!("expected a value, found {what}: {}", quoted(name));
                return Err(Fault::new(found, message).hint(NOTHING_RUNS));
            }
        };
        self.at += name.len();
        Ok(value)
    }

    /// Reads a list, a tuple, or a value in parentheses.
    fn sequence(&mut self, depth: usize, close: char) -> Result<RawValue, Fault> {
        let open = self.open();
        let mut elements = Vec::new();
        let mut commas = 0;
        loop {
            self.skip_space();
            if self.peek() == Some(close) {
                break;
            }
            self.check_closed(open)?;
            elements.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(',') => {
                    self.at += 1;
                    commas += 1;
                }
                Some(c) if c == close => {}
                _ => return Err(self.unexpected(open, &format!("`,` or `{close}`"))),
            }
        }
        self.close();
        Ok(match <[Raw; 1]>::try_from(elements) {
            Ok([only]) if close == ')' && commas == 0 => only.value,
            Ok(only) => RawValue::List(only.into()),
            Err(elements) => RawValue::List(elements),
        })
    }

    fn dict(&mut self, depth: usize) -> Result<RawValue, Fault> {
        let open = self.open();
        let mut pairs: Vec<(Raw, Raw)> = Vec::new();
        let mut names = HashMap::new();
        loop {
            self.skip_space();
            if self.peek() == Some('}') {
                break;
            }
            self.check_closed(open)?;
            let key = self.value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(':') => self.at += 1,
                Some(',' | '}') if pairs.is_empty() => {
                    return Err(Fault::new(open..open + 1, "a set is not accepted")
                        .hint("write a list `[value, …]` or a dict `{name: value, …}`"));
                }
                _ => return Err(self.unexpected(open, "`:`")),
            }
            self.skip_space();
            self.check_closed(open)?;
            let value = self.value(depth + 1)?;
            if let RawValue::Text(name) = &key.value {
                let line = self.source.line_of(key.span.start);
                match names.get(name) {
                    Some(&first) if self.repeated.len() < Diagnostics::LIMIT => {
                        let error = given_twice(self.source, key.span.clone(), Some(first));
                        self.repeated.push(error);
                    }
                    Some(_) => {}
                    None => {
                        names.insert(name.clone(), line);
                    }
                }
            }
            pairs.push((key, value));
            self.skip_space();
            match self.peek() {
                Some(',') => self.at += 1,
                Some('}') => {}
                _ => return Err(self.unexpected(open, "`,` or `}`")),
            }
        }
        self.close();
        Ok(RawValue::Map(pairs))
    }

    fn open(&mut self) -> usize {
        let open = self.at;
        self.at += 1;
        self.brackets += 1;
        open
    }

    fn close(&mut self) {
        self.at += 1;
        self.brackets -= 1;
    }

    /// Says that the bracket at `open` is never closed, if the text ends here or the next assignment starts here.
    fn check_closed(&self, open: usize) -> Result<(), Fault> {
        if self.peek().is_some() && !self.starts_assignment() {
            return Ok(());
        }
        let bracket = &self.text[open..open + 1];
        let mut fault = Fault::new(open..open + 1, format!("`{bracket}` is never closed"));
        fault.reached = self.at;
        Err(fault)
    }

    fn unexpected(&self, open: usize, expected: &str) -> Fault {
        if let Err(fault) = self.check_closed(open) {
            return fault;
        }
        let found = self.token();
        let message = format!("expected {expected}, found {}", self.shown(found.clone()));
        Fault::new(found, message)
    }

    /// Returns where the word or character that stands here ends.
    fn token(&self) -> Range<usize> {
        let word = name_length(self.rest());
        let length = match self.peek() {
            None | Some('\n' | '\r') => 0,
            Some(c) => word.max(c.len_utf8()),
        };
        self.at..self.at + length
    }

    fn shown(&self, token: Range<usize>) -> String {
        match &self.text[token.clone()] {
            "" if token.end == self.text.len() => "the end of the file".to_owned(),
            "" => "the end of the line".to_owned(),
            found => quoted(found),
        }
    }
}

/// Returns the length in bytes of the name that `text` starts with.
fn name_length(text: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}
