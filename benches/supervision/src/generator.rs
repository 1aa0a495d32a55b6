//! The chatty program: numbered lines of 100 bytes, as fast as somebody takes them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The first argument that makes this program the generator.
pub(crate) const MARK: &str = "generate";

/// The length of a line, its line break included.
pub(crate) const LINE_BYTES: usize = 100;

/// What is written at a time, as a program does that writes through a buffer.
const WRITE_BYTES: usize = 8000;

/// How long the generator waits for whoever measures.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a generator and whoever measures find each other.
#[derive(Clone, Debug)]
pub(crate) struct Signs(PathBuf);

impl Signs {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Returns the words that start a generator of so many lines.
    pub(crate) fn arguments(&self, lines: usize) -> Vec<String> {
        let folder = self.0.display().to_string();
        vec![MARK.to_owned(), lines.to_string(), folder]
    }

    /// Gives a sign.
    pub(crate) fn give(&self, sign: &str, text: &str) -> io::Result<()> {
        let unfinished = self.0.join(format!("{sign}.new"));
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, self.0.join(sign))
    }

    /// Waits for a sign and returns its text.
    pub(crate) fn wait(&self, sign: &str) -> io::Result<String> {
        let end = Instant::now() + PATIENCE;
        let path = self.0.join(sign);
        while Instant::now() < end {
            match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(1));
                }
                read => return read,
            }
        }
        Err(io::Error::other(format!("waited in vain for `{sign}`")))
    }
}

/// Returns the seconds of a clock that all processes share.
pub(crate) fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Returns the number that a line has to begin with.
pub(crate) fn number_of(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line.get(..10)?).ok()?.parse().ok()
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [lines, folder] = arguments else {
        return ExitCode::from(2);
    };
    let (Ok(lines), signs) = (lines.parse(), Signs::new(Path::new(folder))) else {
        return ExitCode::from(2);
    };
    match print(lines, &signs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn print(lines: usize, signs: &Signs) -> io::Result<()> {
    signs.give("ready", "")?;
    signs.wait("go")?;
    let start = now();
    let mut out = io::stdout().lock();
    let mut line = [b'.'; LINE_BYTES];
    line[LINE_BYTES - 1] = b'\n';
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    for number in 0..lines {
        let mut rest = number;
        for digit in line[..10].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        buffer.extend_from_slice(&line);
        if buffer.len() >= WRITE_BYTES {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()?;
    signs.give("printed", &format!("{start} {}", now()))?;
    // Whoever captures is looked at before it has the end of this process to see to.
    signs.wait("done")?;
    Ok(())
}
