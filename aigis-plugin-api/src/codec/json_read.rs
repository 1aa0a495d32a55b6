//! JSON text to [`Value`].

use super::base64;
use super::json::{BYTES, EXT, FLOAT, JsonError, MAP, is_convention};
use super::value::Value;
use super::wire::MAX_DEPTH;

/// How deep JSON may be: a map takes up to three levels, and what is innermost up to two more.
const MAX_NESTING: usize = 3 * MAX_DEPTH + 2;

/// Reads a text that is one JSON value.
pub(super) fn parse(text: &str) -> Result<Value, JsonError> {
    let mut parser = Parser {
        text,
        position: 0,
        depth: 0,
    };
    let value = parser.value()?;
    parser.blank();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.error("the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    /// Steps over `byte`, if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.position += usize::from(eaten);
        eaten
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.position += 1;
        }
    }

    /// An error at the current position.
    #[cold]
    fn error(&self, expected: &'static str) -> JsonError {
        let found = match self.text[self.position..].chars().next() {
            None => "the end".to_owned(),
            Some(c) if c.is_control() => format!("U+{:04X}", u32::from(c)),
            Some(c) => format!("`{c}`"),
        };
        self.error_at(self.position, expected, found)
    }

    #[cold]
    fn error_at(
        &self,
        position: usize,
        expected: &'static str,
        found: impl Into<String>,
    ) -> JsonError {
        let before = &self.text[..position];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        JsonError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            expected,
            found: found.into(),
        }
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        self.blank();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Nil),
            _ => Err(self.error("a JSON value")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.text[self.position..].starts_with(word) {
            return Err(self.error("a JSON value"));
        }
        self.position += word.len();
        Ok(value)
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Value, JsonError>,
    ) -> Result<Value, JsonError> {
        if self.depth >= MAX_NESTING {
            return Err(self.error("less nesting"));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, JsonError> {
        self.position += 1;
        let mut items = Vec::new();
        self.blank();
        if self.eat(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blank();
            if self.eat(b']') {
                return Ok(Value::List(items));
            }
            if !self.eat(b',') {
                return Err(self.error("`,` or `]`"));
            }
        }
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        self.position += 1;
        let mut entries = Vec::new();
        self.blank();
        if self.eat(b'}') {
            return Ok(Value::Map(entries));
        }
        let mut content = 0;
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes"));
            }
            let key = self.string()?;
            self.blank();
            if !self.eat(b':') {
                return Err(self.error("`:`"));
            }
            self.blank();
            content = self.position.max(content);
            entries.push((Value::Text(key), self.value()?));
            self.blank();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.error("`,` or `}`"));
            }
        }
        match &mut entries[..] {
            [(Value::Text(key), value)] if is_convention(key) => {
                let (expected, meant) = conventional(key, std::mem::take(value));
                meant.ok_or_else(|| self.error_at(content, expected, "something else"))
            }
            _ => Ok(Value::Map(entries)),
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.position;
        self.eat(b'-');
        match self.peek() {
            Some(b'0') => self.position += 1,
            _ => self.digits()?,
        }
        let mut integer = true;
        if self.eat(b'.') {
            integer = false;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.position];
        if integer {
            if let Ok(value) = text.parse::<i128>() {
                return Ok(value.into());
            }
            if let Ok(value) = text.parse::<u128>() {
                return Ok(value.into());
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value.into()),
            _ => Err(self.error_at(
                start,
                "a number that fits into 64-bit floating point",
                "a larger one",
            )),
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.position += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.position += 1;
        let mut string = String::new();
        let mut plain = self.position;
        loop {
            match self.peek() {
                Some(byte @ (b'"' | b'\\')) => {
                    string.push_str(&self.text[plain..self.position]);
                    if byte == b'"' {
                        self.position += 1;
                        return Ok(string);
                    }
                    string.push(self.escape()?);
                    plain = self.position;
                }
                None => return Err(self.error("`\"`")),
                Some(0..=0x1f) => {
                    return Err(self.error("`\"`, or a control character written as an escape"));
                }
                Some(_) => self.position += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.position;
        self.position += 1;
        let c = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.position += 1;
                return self.code_point(start);
            }
            _ => return Err(self.error("one of `\"\\/bfnrtu`")),
        };
        self.position += 1;
        Ok(c)
    }

    /// Reads the digits of an escape that begins at `start`, and the other half of a pair.
    fn code_point(&mut self, start: usize) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.position..].starts_with("\\u") => {
                self.position += 2;
                match self.four_digits()? {
                    second @ 0xdc00..=0xdfff => {
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => first,
                }
            }
            _ => first,
        };
        char::from_u32(code)
            .ok_or_else(|| self.error_at(start, "a character or a surrogate pair", "half a pair"))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.error("a hexadecimal digit"));
            };
            code = code << 4 | digit;
            self.position += 1;
        }
        Ok(code)
    }
}

/// Returns what the content of a `$` object must be, and the value that it stands for if it is that.
fn conventional(key: &str, content: Value) -> (&'static str, Option<Value>) {
    match key {
        BYTES => ("a string in base64", bytes(content).map(Value::Bytes)),
        MAP => ("a list of pairs", pairs(content).map(Value::Map)),
        FLOAT => (
            "\"nan\", \"inf\" or \"-inf\"",
            content.as_str().and_then(special_float).map(Value::Float),
        ),
        EXT => (
            "a list of an extension type, -128 to 127, and a string in base64",
            extension(content),
        ),
        _ => ("a value", Some(Value::Some(Box::new(content)))),
    }
}

fn bytes(content: Value) -> Option<Vec<u8>> {
    content.as_str().and_then(base64::decode)
}

fn pairs(content: Value) -> Option<Vec<(Value, Value)>> {
    let Value::List(items) = content else {
        return None;
    };
    let pair = |item| match item {
        Value::List(pair) => <[Value; 2]>::try_from(pair)
            .ok()
            .map(<(Value, Value)>::from),
        _ => None,
    };
    items.into_iter().map(pair).collect()
}

fn special_float(text: &str) -> Option<f64> {
    match text {
        "nan" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => {
            let digits = text.strip_prefix("nan:")?;
            let bits = u64::from_str_radix(digits, 16).ok()?;
            let float = f64::from_bits(bits);
            (digits.len() == 16 && float.is_nan()).then_some(float)
        }
    }
}

fn extension(content: Value) -> Option<Value> {
    let Value::List(items) = content else {
        return None;
    };
    let [kind, payload] = <[Value; 2]>::try_from(items).ok()?;
    let kind = i8::try_from(kind.as_i64()?).ok()?;
    Some(Value::Ext(kind, bytes(payload)?))
}
