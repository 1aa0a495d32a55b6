//! One line of the REPL.
//!
//! A call is written like a command, `greeter.greet zaltu 3`, or like source, `greeter.greet("zaltu", 3)`. In the first
//! form words are separated by blanks and read by the parameter's type; `'…'` and `"…"` (with JSON's escapes) keep
//! blanks together, and a word that starts with `[` or `{` goes on to the bracket's end. In the second form arguments
//! are JSON. In both, `name=value` gives a parameter by name.

use aigis_plugin_api::Value;

use super::arguments::{Argument, Given, is_identifier};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// Nothing: the line is empty or a comment.
    Empty,
    /// The end.
    Quit,
    /// The list of commands.
    Help,
    /// The state of the plugins.
    Status,
    /// The skills whose names start so.
    Skills { prefix: String },
    /// A plugin built and swapped anew.
    Reload { name: String },
    /// A call of a skill.
    Call {
        name: String,
        arguments: Vec<Argument>,
    },
}

/// Why a line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// A character of the line is not what has to be there.
    #[error("column {column}: expected {expected}, found {found}")]
    Unexpected {
        column: usize,
        expected: &'static str,
        found: String,
    },
    /// An argument is no JSON.
    #[error("argument {number}, at column {column}, is given as JSON: {error}")]
    NotJson {
        number: usize,
        column: usize,
        error: String,
    },
    /// A command of the REPL was given the wrong words.
    #[error("expected `{usage}`")]
    Usage { usage: &'static str },
}

/// Reads a line.
///
/// # Errors
/// The line is none of a command and a call.
pub(super) fn parse(line: &str) -> Result<Line, LineError> {
    let mut scanner = Scanner { line, at: 0 };
    scanner.blank();
    let start = scanner.at;
    while scanner
        .peek()
        .is_some_and(|c| !c.is_whitespace() && c != '(')
    {
        scanner.step();
    }
    let name = &line[start..scanner.at];
    if scanner.eat('(') {
        if name.is_empty() {
            return Err(scanner.unexpected_at(start, "the name of a skill"));
        }
        let arguments = scanner.source_form()?;
        return Ok(Line::Call {
            name: name.to_owned(),
            arguments,
        });
    }
    let mut words = line[scanner.at..].split_whitespace();
    let (first, more) = (words.next(), words.next().is_some());
    let bare = |line, usage| match first {
        None => Ok(line),
        Some(_) => Err(LineError::Usage { usage }),
    };
    match name {
        "" => Ok(Line::Empty),
        comment if comment.starts_with('#') => Ok(Line::Empty),
        "quit" | "exit" => bare(Line::Quit, "quit"),
        "help" | "?" => bare(Line::Help, "help"),
        "status" => bare(Line::Status, "status"),
        "skills" if more => Err(LineError::Usage {
            usage: "skills [PREFIX]",
        }),
        "skills" => Ok(Line::Skills {
            prefix: first.unwrap_or_default().to_owned(),
        }),
        "reload" => match first {
            Some(plugin) if !more => Ok(Line::Reload {
                name: plugin.to_owned(),
            }),
            _ => Err(LineError::Usage {
                usage: "reload NAME",
            }),
        },
        name => Ok(Line::Call {
            name: name.to_owned(),
            arguments: scanner.command_form()?,
        }),
    }
}

struct Scanner<'a> {
    line: &'a str,
    /// The next character's byte.
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.line[self.at..].chars().next()
    }

    fn step(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn eat(&mut self, c: char) -> bool {
        let eaten = self.peek() == Some(c);
        if eaten {
            self.step();
        }
        eaten
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.step();
        }
    }

    fn column(&self, at: usize) -> usize {
        self.line[..at].chars().count() + 1
    }

    fn unexpected(&self, expected: &'static str) -> LineError {
        self.unexpected_at(self.at, expected)
    }

    fn unexpected_at(&self, at: usize, expected: &'static str) -> LineError {
        let found = match self.line[at..].chars().next() {
            None => "the end of the line".to_owned(),
            Some(c) => format!("`{}`", c.escape_debug()),
        };
        LineError::Unexpected {
            column: self.column(at),
            expected,
            found,
        }
    }

    /// Reads the words after a skill's name.
    fn command_form(&mut self) -> Result<Vec<Argument>, LineError> {
        let mut arguments = Vec::new();
        loop {
            self.blank();
            if self.peek().is_none() {
                return Ok(arguments);
            }
            let start = self.at;
            let name = self.name();
            let given = self.word(arguments.len() + 1)?;
            arguments.push(match name {
                Some(name) => Argument::Either {
                    whole: self.line[start..self.at].to_owned(),
                    name,
                    given,
                },
                None => Argument::Positional(given),
            });
        }
    }

    /// Steps over a name and the `=` behind it, if they are next.
    fn name(&mut self) -> Option<String> {
        let rest = &self.line[self.at..];
        let (name, value) = rest.split_once('=')?;
        // `a == b` is no name and value.
        if value.starts_with('=') || !is_identifier(name) {
            return None;
        }
        self.at += name.len() + 1;
        Some(name.to_owned())
    }

    fn word(&mut self, number: usize) -> Result<Given, LineError> {
        let start = self.at;
        let given = match self.peek() {
            Some('"') => {
                self.string()?;
                Given::Json(self.json(start, self.at, number)?)
            }
            Some('\'') => {
                self.step();
                while self.peek().is_some_and(|c| c != '\'') {
                    self.step();
                }
                let text = self.line[start + 1..self.at].to_owned();
                if !self.eat('\'') {
                    return Err(self.unexpected("`'`"));
                }
                Given::Text(text)
            }
            Some('[' | '{') => {
                self.brackets()?;
                Given::Text(self.line[start..self.at].to_owned())
            }
            _ => {
                while self.peek().is_some_and(|c| !c.is_whitespace()) {
                    self.step();
                }
                return Ok(Given::Text(self.line[start..self.at].to_owned()));
            }
        };
        match self.peek() {
            Some(c) if !c.is_whitespace() => Err(self.unexpected("a blank")),
            _ => Ok(given),
        }
    }

    /// Reads what follows the opening parenthesis.
    fn source_form(&mut self) -> Result<Vec<Argument>, LineError> {
        let mut arguments = Vec::new();
        loop {
            self.blank();
            if self.eat(')') {
                break;
            }
            let start = self.at;
            let name = self.spaced_name();
            self.blank();
            let value = self.at;
            self.until_separator()?;
            if self.at == value {
                return Err(self.unexpected("an argument"));
            }
            let given = Given::Json(self.json(value, self.at, arguments.len() + 1)?);
            arguments.push(match name {
                Some(name) => Argument::Named { name, given },
                None => Argument::Positional(given),
            });
            debug_assert!(self.at > start, "each turn takes an argument");
            if self.eat(')') {
                break;
            }
            if !self.eat(',') {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        self.eat(';');
        self.blank();
        match self.peek() {
            None => Ok(arguments),
            Some(_) => Err(self.unexpected("the end of the line")),
        }
    }

    /// Steps over a name and the `=` behind it, blanks allowed between them.
    fn spaced_name(&mut self) -> Option<String> {
        let rest = &self.line[self.at..];
        let (name, _) = rest.split_once('=')?;
        let length = name.len() + 1;
        let name = name.trim();
        if !is_identifier(name) {
            return None;
        }
        self.at += length;
        Some(name.to_owned())
    }

    /// Steps to the `,` or `)` that ends an argument.
    fn until_separator(&mut self) -> Result<(), LineError> {
        loop {
            match self.peek() {
                None | Some(',' | ')') => return Ok(()),
                Some('"') => self.string()?,
                Some('[' | '{') => self.brackets()?,
                Some(_) => self.step(),
            }
        }
    }

    /// Steps over a string in double quotes.
    fn string(&mut self) -> Result<(), LineError> {
        self.step();
        loop {
            match self.peek() {
                None => return Err(self.unexpected("`\"`")),
                Some('"') => {
                    self.step();
                    return Ok(());
                }
                Some('\\') => {
                    self.step();
                    self.step();
                }
                Some(_) => self.step(),
            }
        }
    }

    /// Steps over brackets and what is inside.
    fn brackets(&mut self) -> Result<(), LineError> {
        let mut open = Vec::new();
        loop {
            match self.peek() {
                Some('[') => open.push("`]`"),
                Some('{') => open.push("`}`"),
                Some(close @ (']' | '}')) => {
                    let expected = open.pop().unwrap_or("a bracket");
                    if !expected.contains(close) {
                        return Err(self.unexpected(expected));
                    }
                    if open.is_empty() {
                        self.step();
                        return Ok(());
                    }
                }
                Some('"') => {
                    self.string()?;
                    continue;
                }
                Some(_) => {}
                None => return Err(self.unexpected(open.last().copied().unwrap_or("a bracket"))),
            }
            self.step();
        }
    }

    fn json(&self, start: usize, end: usize, number: usize) -> Result<Value, LineError> {
        Value::from_json(self.line[start..end].trim()).map_err(|error| LineError::NotJson {
            number,
            // An argument is on one line, so that its own columns count on.
            column: self.column(start) + error.column - 1,
            error: format!("expected {}, found {}", error.expected, error.found),
        })
    }
}
