//! What is written down when the process dies: one line, made by a signal handler and read by the
//! next start.
//!
//! ```text
//! aigis-crash-1  SIGSEGV  1767225600  greeter  2  libgreeter-1f.so  greeter.greet  -  4711  worker  end
//! ```
//!
//! The fields are separated by tabs; `-` stands for nothing.

use std::os::fd::RawFd;

use nix::libc;

use crate::config::PluginName;

const FIRST: &str = "aigis-crash-1";
const LAST: &str = "end";
const NOTHING: &str = "-";
const OVERFLOW: &str = "stack-overflow";
const SENT: &str = "sent-by-";

/// The most bytes of a line, and of one field of it.
pub(super) const LONGEST: usize = 1024;
const LONGEST_FIELD: usize = 200;

/// How the process died, as it could be told while it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// The signal's name.
    pub(crate) signal: String,
    /// When, in seconds since 1970.
    pub(crate) at: i64,
    /// Whose code was running; none for the core's own.
    pub(crate) culprit: Option<Culprit>,
    /// What is known of the cause.
    pub(crate) cause: Cause,
    /// The number of the thread.
    pub(crate) tid: u32,
    /// The thread's name.
    pub(crate) thread: String,
}

/// The plugin whose code was running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Culprit {
    pub(crate) plugin: PluginName,
    pub(crate) generation: u64,
    /// The name of the artifact that was loaded, which follows from its content.
    pub(crate) artifact: String,
    /// The skill that the thread was in, by its full name.
    pub(crate) skill: Option<String>,
}

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The code that was running.
    Code,
    /// The code that was running has used up its thread's stack.
    StackOverflow,
    /// Another process, of this number.
    Sent(u32),
}

/// Reads a record; `None` for an empty one.
///
/// # Errors
/// Why it is none, in words.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Death>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let line = text
        .strip_suffix('\n')
        .ok_or("its line does not end: it was cut off")?;
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("it is not one line of text".to_owned());
    }
    let fields: Vec<&str> = line.split('\t').collect();
    let [
        FIRST,
        signal,
        at,
        plugin,
        generation,
        artifact,
        skill,
        cause,
        tid,
        thread,
        LAST,
    ] = fields[..]
    else {
        return Err(format!("it is not a line from `{FIRST}` to `{LAST}`"));
    };
    let known = super::SIGNALS.iter().any(|(_, name)| *name == signal);
    if !known {
        return Err("it names no signal that is recorded".to_owned());
    }
    let something = |field: &str| (field != NOTHING).then(|| field.to_owned());
    let number = |what: &str| format!("its {what} is not a number");
    let culprit = match plugin {
        NOTHING => None,
        plugin => Some(Culprit {
            plugin: plugin
                .parse()
                .map_err(|error| format!("it names no plugin: {error}"))?,
            generation: generation.parse().map_err(|_| number("generation"))?,
            artifact: artifact.to_owned(),
            skill: something(skill),
        }),
    };
    let cause = match cause {
        NOTHING => Cause::Code,
        OVERFLOW => Cause::StackOverflow,
        other => Cause::Sent(
            other
                .strip_prefix(SENT)
                .and_then(|pid| pid.parse().ok())
                .ok_or_else(|| "it tells no known cause".to_owned())?,
        ),
    };
    Ok(Some(Death {
        signal: signal.to_owned(),
        at: at.parse().map_err(|_| number("time"))?,
        culprit,
        cause,
        tid: tid.parse().map_err(|_| number("thread"))?,
        thread: thread.to_owned(),
    }))
}

/// A line that is being made, in memory of its own: nothing is allocated.
pub(super) struct Line {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Line {
    /// Begins a line.
    pub(super) fn new() -> Self {
        let mut line = Self {
            bytes: [0; LONGEST],
            len: 0,
        };
        line.push(FIRST.as_bytes());
        line
    }

    /// Adds a field; one that is too long is cut off, and what would not be text on one line is
    /// replaced.
    pub(super) fn field(&mut self, text: &[u8]) {
        self.push(b"\t");
        let text = if text.is_empty() {
            NOTHING.as_bytes()
        } else {
            text
        };
        for &byte in text.iter().take(LONGEST_FIELD) {
            let plain = byte == b' ' || byte.is_ascii_graphic();
            self.push(&[if plain { byte } else { b'?' }]);
        }
    }

    /// Adds a number as a field.
    pub(super) fn number(&mut self, number: u64) {
        let mut digits = [0_u8; 20];
        self.field(decimal(number, &mut digits));
    }

    /// Adds the cause.
    pub(super) fn cause(&mut self, cause: Cause) {
        match cause {
            Cause::Code => self.field(b""),
            Cause::StackOverflow => self.field(OVERFLOW.as_bytes()),
            Cause::Sent(pid) => {
                let mut digits = [0_u8; 20];
                self.field(SENT.as_bytes());
                self.push(decimal(u64::from(pid), &mut digits));
            }
        }
    }

    /// Ends the line and writes it in one go.
    pub(super) fn write(mut self, file: RawFd) {
        self.field(LAST.as_bytes());
        self.push(b"\n");
        let text = self.bytes.get(..self.len).unwrap_or_default();
        // SAFETY: `text` is valid for its length. Should the descriptor be closed, the call fails, and
        // there is nobody left to be told.
        unsafe { libc::write(file, text.as_ptr().cast(), text.len()) };
    }

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }

    #[cfg(test)]
    fn text(mut self) -> Vec<u8> {
        self.field(LAST.as_bytes());
        self.push(b"\n");
        self.bytes[..self.len].to_vec()
    }
}

/// Writes a number in decimal digits at the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    while at > 0 {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            // A remainder of ten fits.
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(plugin: &str, skill: &str, cause: Cause, thread: &[u8]) -> Vec<u8> {
        let mut line = Line::new();
        line.field(b"SIGSEGV");
        line.number(1_767_225_600);
        line.field(plugin.as_bytes());
        line.number(2);
        line.field(b"libgreeter-1f.so");
        line.field(skill.as_bytes());
        line.cause(cause);
        line.number(u64::from(u32::MAX));
        line.field(thread);
        line.text()
    }

    #[test]
    fn what_is_written_is_read() {
        let death = Death {
            signal: "SIGSEGV".to_owned(),
            at: 1_767_225_600,
            culprit: Some(Culprit {
                plugin: "greeter".parse().expect("a name"),
                generation: 2,
                artifact: "libgreeter-1f.so".to_owned(),
                skill: Some("greeter.greet".to_owned()),
            }),
            cause: Cause::StackOverflow,
            tid: u32::MAX,
            thread: "a worker".to_owned(),
        };
        let written = line(
            "greeter",
            "greeter.greet",
            Cause::StackOverflow,
            b"a worker",
        );
        assert_eq!(parse(&written), Ok(Some(death.clone())));
        let nobody = Death {
            culprit: None,
            cause: Cause::Sent(0),
            thread: "w?rk?".to_owned(),
            ..death
        };
        let written = line("", "", Cause::Sent(0), b"w\trk\n");
        assert_eq!(parse(&written), Ok(Some(nobody)));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn a_long_field_is_cut_off_and_the_line_stays_whole() {
        let skill = "s".repeat(5000);
        let death = parse(&line("greeter", &skill, Cause::Code, &[b'x'; 5000]));
        let death = death.expect("is a record").expect("is not empty");
        let skill = death.culprit.and_then(|culprit| culprit.skill);
        assert_eq!(skill.map(|skill| skill.len()), Some(LONGEST_FIELD));
        assert_eq!(death.thread.len(), LONGEST_FIELD);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 4711, u64::MAX] {
            let mut digits = [0; 20];
            assert_eq!(decimal(number, &mut digits), number.to_string().as_bytes());
        }
    }

    #[test]
    fn torn_and_hostile_records_are_refused() {
        let whole = line("greeter", "greeter.greet", Cause::Code, b"main");
        for length in 1..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} bytes");
        }
        let twice = [whole.clone(), whole.clone()].concat();
        let replaced = |from: &str, to: &str| {
            let text = String::from_utf8(whole.clone()).expect("is text");
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        };
        for wrong in [
            twice,
            vec![0; 4096],
            vec![0xff; 4096],
            b"\n".to_vec(),
            replaced("\tgreeter\t", "\t../../etc\t"),
            replaced("\tgreeter\t", "\t\t"),
            replaced("SIGSEGV", "SIGKILL"),
            replaced("1767225600", "soon"),
            replaced("\t2\t", "\t-2\t"),
            replaced("main", "\u{1b}[2J"),
            replaced("\t-\t", "\tsent-by-nobody\t"),
        ] {
            let refused = parse(&wrong);
            assert!(refused.is_err(), "{refused:?}");
        }
    }
}
