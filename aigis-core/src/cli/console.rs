//! What people see of a core in the foreground: log lines, the output of builds, and how far the work is.
//!
//! On a terminal, fetches and builds share one line at the bottom that is drawn over and over; elsewhere each gets a
//! plain line now and then.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::table::one_line;
use crate::host::{Event, Observer, PluginStatus, State};
use crate::logging::{CONTINUATION, Level};
use crate::source::{Phase, Progress};

/// How often the line at the bottom is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How often a plain line tells how far one fetch or build is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How wide a terminal is that does not say.
const DEFAULT_WIDTH: usize = 80;

/// Prints what happens in a host.
pub(super) struct Console {
    screen: Mutex<Screen>,
    quiet: bool,
}

struct Screen {
    out: Box<dyn Write + Send>,
    terminal: bool,
    /// What is under way, oldest first.
    active: Vec<Activity>,
    /// Whether the line at the bottom can be seen.
    drawn: bool,
    last: Option<Instant>,
}

struct Activity {
    plugin: String,
    what: &'static str,
    progress: String,
    /// When a plain line told of it.
    told: Option<Instant>,
}

impl Console {
    /// Returns a console on standard error; a quiet one shows errors only.
    pub(super) fn of_process(quiet: bool) -> Self {
        let stderr = io::stderr();
        let terminal = stderr.is_terminal();
        Self::new(Box::new(stderr), terminal, quiet)
    }

    pub(super) fn new(out: Box<dyn Write + Send>, terminal: bool, quiet: bool) -> Self {
        Self {
            screen: Mutex::new(Screen {
                out,
                terminal,
                active: Vec::new(),
                drawn: false,
                last: None,
            }),
            quiet,
        }
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        // Output that a panic cut short is no reason to show nothing more.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how the plugins are once all have come to rest.
    pub(super) fn settled(&self, statuses: &[PluginStatus]) {
        let mut screen = self.screen();
        let failed: Vec<_> = statuses.iter().filter(|s| s.state.is_failure()).collect();
        for status in &failed {
            let error = status.error.as_deref().unwrap_or("no reason is known");
            screen.print(&format!(
                "error: the plugin `{}` has failed\n{}",
                status.name,
                indented(error)
            ));
        }
        let up = |state| matches!(state, State::Ready | State::Finished);
        if !failed.is_empty() {
            screen.print(&format!(
                "{} of {} plugins failed; the others go on",
                failed.len(),
                statuses.len()
            ));
        } else if !self.quiet && statuses.iter().all(|status| up(status.state)) {
            // Otherwise the core is being shut down before they were up, and there is nothing to tell.
            screen.print(&match statuses.len() {
                0 => "no plugins are configured; waiting".to_owned(),
                1 => "the plugin is up".to_owned(),
                count => format!("all {count} plugins are up"),
            });
        }
    }

    /// Says whether there is a line at the bottom.
    pub(super) fn is_terminal(&self) -> bool {
        self.screen().terminal && !self.quiet
    }

    /// Shows what a wait for `text` is about on the line at the bottom; on a terminal only.
    pub(super) fn show(&self, text: &str) {
        let mut screen = self.screen();
        if screen.terminal && !self.quiet {
            screen.draw(text);
        }
    }

    /// Takes the line at the bottom away.
    pub(super) fn clear(&self) {
        self.screen().clear();
    }
}

impl Observer for Console {
    fn event(&self, event: &Event<'_>) {
        let quiet = self.quiet;
        match event {
            Event::Log {
                plugin,
                level,
                message,
            } if !quiet || *level == Level::Error => {
                let source = plugin.unwrap_or("core");
                let message = message
                    .lines()
                    .map(one_line)
                    .collect::<Vec<_>>()
                    .join(&format!("\n{CONTINUATION}"));
                self.screen()
                    .print(&format!("{source} : {level} : {message}"));
            }
            // As cargo prints it, colours included.
            Event::Output { line, .. } if !quiet => self.screen().print(line),
            Event::Fetch { plugin, progress } if !quiet => {
                let (what, progress) = fetching(*progress);
                self.screen().activity(plugin, what, progress);
            }
            Event::Build {
                plugin,
                done,
                total,
            } if !quiet => {
                let progress = match total {
                    Some(total) => format!("{done}/{total}"),
                    None => String::new(),
                };
                self.screen().activity(plugin, "building", progress);
            }
            Event::State { plugin, state } if !quiet => {
                let mut screen = self.screen();
                match state {
                    State::Fetching => {}
                    State::Building => screen.activity(plugin, "building", String::new()),
                    _ => screen.finished(plugin),
                }
            }
            _ => {}
        }
    }
}

fn fetching(progress: Progress) -> (&'static str, String) {
    let what = match progress.phase {
        Phase::Resolving => "asking for",
        Phase::Receiving => "fetching",
        Phase::Indexing => "indexing",
        Phase::CheckingOut => "checking out",
        Phase::Copying => "copying",
    };
    let mut text = match progress.total {
        Some(total) if total > 0 => format!("{}/{total}", progress.done),
        _ => String::new(),
    };
    if progress.bytes > 0 {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{}", size(progress.bytes));
    }
    (what, text)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

impl Activity {
    fn text(&self) -> String {
        match self.progress.as_str() {
            "" => format!("{} {}", self.what, self.plugin),
            progress => format!("{} {} ({progress})", self.what, self.plugin),
        }
    }
}

impl Screen {
    // Nothing here fails: a core whose terminal is gone goes on, and its log files have it all.

    /// Prints whole lines above the line at the bottom.
    fn print(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
        if self.terminal && !self.active.is_empty() {
            self.draw(&self.bottom());
        }
    }

    fn activity(&mut self, plugin: &str, what: &'static str, progress: String) {
        let index = match self.active.iter().position(|a| a.plugin == plugin) {
            Some(index) => index,
            None => {
                self.active.push(Activity {
                    plugin: plugin.to_owned(),
                    what,
                    progress: String::new(),
                    told: None,
                });
                self.active.len() - 1
            }
        };
        let activity = &mut self.active[index];
        let changed = activity.what != what;
        activity.what = what;
        activity.progress = progress;
        if self.terminal {
            if self.last.is_none_or(|last| last.elapsed() >= DRAW_EVERY) {
                self.draw(&self.bottom());
            }
        } else if changed
            || activity
                .told
                .is_none_or(|told| told.elapsed() >= TELL_EVERY)
        {
            activity.told = Some(Instant::now());
            let text = activity.text();
            self.print(&text);
        }
    }

    fn finished(&mut self, plugin: &str) {
        self.active.retain(|activity| activity.plugin != plugin);
        if self.active.is_empty() {
            self.clear();
        } else if self.drawn {
            self.draw(&self.bottom());
        }
    }

    fn bottom(&self) -> String {
        let texts: Vec<String> = self.active.iter().map(Activity::text).collect();
        texts.join(" · ")
    }

    fn draw(&mut self, text: &str) {
        // A line that reaches the last column would go on in the next one and stay there.
        let shown: String = text.chars().take(width().saturating_sub(1)).collect();
        let _ = write!(self.out, "\r\x1b[2K{shown}");
        let _ = self.out.flush();
        self.drawn = true;
        self.last = Some(Instant::now());
    }

    fn clear(&mut self) {
        if self.drawn {
            let _ = write!(self.out, "\r\x1b[2K");
            let _ = self.out.flush();
            self.drawn = false;
        }
    }
}

fn width() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => DEFAULT_WIDTH,
    }
}
