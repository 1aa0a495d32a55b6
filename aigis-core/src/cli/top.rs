//! `aigis top`: the plugins and what they use, again and again.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use aigis_plugin_api::Session;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use unicode_width::UnicodeWidthChar as _;

use super::context::{self, Context};
use super::error::{CliError, Exit};
use super::{table, units};
use crate::host::PluginStatus;

/// The screen of its own that a terminal has for programs like this one, without a cursor; and the way back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What is at the head of the columns looks different from what is below.
const REVERSE: (&str, &str) = ("\x1b[7m", "\x1b[0m");

/// The bytes of keys that end it: q, Q, and Ctrl-C and Ctrl-D, which are no signals while it reads keys.
const END_KEYS: [u8; 4] = *b"qQ\x03\x04";

/// The screen of a terminal that does not tell its size.
const DEFAULT_SCREEN: (usize, usize) = (80, 24);

/// Show what plugins use, live, those first that use most
///
/// On a terminal, `q` ends it. Elsewhere the tables follow one another.
#[derive(Debug, clap::Args)]
pub(super) struct TopArgs {
    /// The time between two looks: `500ms`, `1s`, `2m`, or a number of seconds
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// End after so many looks
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) fn run(args: &TopArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    // Before the session has threads, so that no signal finds one of them.
    let mut terminal = match ctx.is_terminal() {
        true => Some(Terminal::take(ctx)?),
        false => None,
    };
    let shown = show(args, ctx, terminal.as_ref());
    if let Some(terminal) = &mut terminal {
        terminal.give_back(ctx)?;
    }
    shown.map(|()| Exit::Ok)
}

fn show(args: &TopArgs, ctx: &mut Context, terminal: Option<&Terminal>) -> Result<(), CliError> {
    let session = ctx.session()?;
    let mut left = args.count;
    loop {
        let next = Instant::now() + args.interval;
        let frame = frame(&session, terminal)?;
        ctx.write(&frame)?;
        if let Some(left) = &mut left {
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
        match terminal {
            Some(terminal) => {
                if terminal.wait_until(next)? {
                    return Ok(());
                }
            }
            None => {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                ctx.write("\n")?;
            }
        }
    }
}

/// Looks at everything, and makes what is to be written.
fn frame(session: &Session, terminal: Option<&Terminal>) -> Result<String, CliError> {
    let mut statuses = context::statuses(session)?;
    statuses.sort_by(by_use);
    let mut lines: Vec<String> = context::core(session).iter().map(table::core).collect();
    lines.push(summary(&statuses));
    let Some(terminal) = terminal else {
        lines.extend(table::rows(&statuses, None));
        return Ok(lines.join("\n") + "\n");
    };
    let (columns, rows) = units::screen().unwrap_or(DEFAULT_SCREEN);
    let title = lines.len() + 1;
    lines.push(String::new());
    lines.extend(table::rows(&statuses, Some(columns)));
    lines.truncate(rows.max(1));
    // From the top of the screen; what was there before is overwritten, so that nothing flickers.
    let mut text = "\x1b[H".to_owned();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str("\r\n");
        }
        let shown = clip(line, columns);
        if index == title && terminal.color {
            let _ = write!(text, "{}{shown:<columns$}{}", REVERSE.0, REVERSE.1);
        } else {
            text.push_str(&shown);
            // In the last column this would take the last character away.
            if shown.len() < columns {
                text.push_str("\x1b[K");
            }
        }
    }
    text.push_str("\x1b[J");
    Ok(text)
}

/// What uses most of the CPU comes first, then what holds most memory.
fn by_use(one: &PluginStatus, other: &PluginStatus) -> Ordering {
    let of = |status: &PluginStatus| status.cpu_percent.unwrap_or(-1.0);
    of(other)
        .total_cmp(&of(one))
        .then_with(|| other.memory_bytes.cmp(&one.memory_bytes))
        .then_with(|| one.name.cmp(&other.name))
}

fn summary(statuses: &[PluginStatus]) -> String {
    let percent: f64 = statuses.iter().filter_map(|it| it.cpu_percent).sum();
    let bytes: u64 = statuses.iter().filter_map(|it| it.memory_bytes).sum();
    let processes: usize = statuses.iter().filter_map(|it| it.tree).sum();
    let unit = if processes == 1 {
        "process"
    } else {
        "processes"
    };
    format!(
        "plugins: {}, in {processes} {unit}: {} CPU, {} memory",
        statuses.len(),
        units::percent(percent.max(0.0)),
        units::size(bytes)
    )
}

/// Returns as much of a line as there is room for.
fn clip(line: &str, columns: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    line.chars().take_while(fits).collect()
}

/// The terminal while it shows this and nothing else.
struct Terminal {
    /// How it was before, if keys can be read from it.
    keys: Option<Termios>,
    signals: SignalFd,
    color: bool,
    taken: bool,
}

impl Terminal {
    fn take(ctx: &mut Context) -> Result<Self, CliError> {
        let failed = || CliError::system("the terminal cannot be used");
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        set.thread_block().map_err(|error| failed()(error.into()))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(|error| failed()(error.into()))?;
        let stdin = io::stdin();
        let keys = rustix::termios::tcgetattr(&stdin).ok();
        if let Some(before) = &keys {
            let mut raw = before.clone();
            raw.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            raw.special_codes[SpecialCodeIndex::VMIN] = 0;
            raw.special_codes[SpecialCodeIndex::VTIME] = 0;
            rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw)
                .map_err(|error| failed()(error.into()))?;
        }
        let terminal = Self {
            keys,
            signals,
            color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            taken: true,
        };
        ctx.write(ENTER)?;
        Ok(terminal)
    }

    /// Waits for the next look; true if it is to end instead.
    fn wait_until(&self, next: Instant) -> Result<bool, CliError> {
        let failed = CliError::system("the terminal cannot be read");
        let stdin = io::stdin();
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            let mut watched = vec![PollFd::from_borrowed_fd(
                self.signals.as_fd(),
                PollFlags::IN,
            )];
            if self.keys.is_some() {
                watched.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut watched, left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            let has_key = watched.get(1).is_some_and(|one| !one.revents().is_empty());
            drop(watched);
            match self.signals.read_signal() {
                // It has another size now.
                Ok(Some(signal)) if signal.ssi_signo == Signal::SIGWINCH as u32 => {
                    return Ok(false);
                }
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if has_key {
                let mut keys = [0; 64];
                match rustix::io::read(&stdin, &mut keys) {
                    // The terminal is gone.
                    Ok(0) => return Ok(true),
                    Ok(count) if keys[..count].iter().any(|key| END_KEYS.contains(key)) => {
                        return Ok(true);
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(error) => return Err(failed(error.into())),
                }
            }
        }
    }

    /// Leaves it as it was.
    fn give_back(&mut self, ctx: &mut Context) -> Result<(), CliError> {
        self.restore_keys();
        ctx.write(LEAVE)
    }

    fn restore_keys(&mut self) {
        self.taken = false;
        if let Some(before) = self.keys.take() {
            // A terminal that is gone needs nothing.
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for Terminal {
    /// After a failure in the middle.
    fn drop(&mut self) {
        if self.taken {
            self.restore_keys();
            let _ = rustix::io::write(io::stdout(), LEAVE.as_bytes());
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.trim().parse::<f64>().map(|number| number * factor);
    seconds
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| (Duration::from_millis(50)..Duration::from_hours(24 * 365)).contains(time))
        .ok_or_else(|| {
            "expected a time of at least 50 ms, such as `500ms`, `1s` or `2m`".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::host::State;

    #[test]
    fn what_uses_most_comes_first() {
        let of = |name: &str, percent: Option<f64>, bytes: Option<u64>| {
            let mut status = status(name, State::Ready);
            (status.cpu_percent, status.memory_bytes) = (percent, bytes);
            status
        };
        let mut all = [
            of("library", None, None),
            of("idle", Some(0.0), Some(1)),
            of("b-large", Some(0.0), Some(9 << 20)),
            of("busy", Some(150.0), Some(2)),
        ];
        all.sort_by(by_use);
        let names = all.each_ref().map(|status| status.name.as_str());
        assert_eq!(names, ["busy", "b-large", "idle", "library"]);
        assert_eq!(
            summary(&all),
            "plugins: 4, in 0 processes: 150% CPU, 9.0 MiB memory"
        );
    }

    #[test]
    fn lines_end_where_the_screen_does() {
        assert_eq!(clip("abc", 2), "ab");
        assert_eq!(clip("a\u{4e2d}b", 2), "a", "half of a wide one is none");
        assert_eq!(clip("a\u{4e2d}b", 3), "a\u{4e2d}");
    }

    #[test]
    fn intervals_have_units() {
        let good = [("1s", 1000), ("500ms", 500), ("0.5", 500), ("2m", 120_000)];
        for (text, ms) in good {
            assert_eq!(interval(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0", "1ms", "-1s", "1x", "nan", "inf", "1e300h"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
