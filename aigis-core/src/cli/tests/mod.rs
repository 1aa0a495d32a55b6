//! Commands are run in this process, against a core that the tests play themselves.

mod arguments;
mod commands;
mod console;
mod errors;
mod fake_core;
mod lines;
mod logs;
mod repl;
mod tables;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::Parser;

use super::context::Context;
use super::error::Exit;
use super::{Cli, run};
use crate::config::PluginKind;
use crate::host::{PluginStatus, State};

/// A stream that can be read back.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panicked here").clone())
            .expect("the output is text")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panicked here").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A context whose streams can be read back: standard output, then standard error.
fn context(home: &Path, pretty: bool) -> (Context, Sink, Sink) {
    let (out, err) = (Sink::default(), Sink::default());
    let ctx = Context::with_streams(
        home.to_owned(),
        Box::new(out.clone()),
        Box::new(err.clone()),
        pretty,
    );
    (ctx, out, err)
}

/// How a command ended and what it printed.
#[derive(Debug)]
struct Ended {
    exit: Exit,
    out: String,
    err: String,
}

/// Runs a command in `home`.
fn aigis(home: &Path, arguments: &[&str]) -> Ended {
    let (mut ctx, out, err) = context(home, false);
    let words = ["aigis"].iter().chain(arguments);
    let cli = Cli::try_parse_from(words).expect("the command line is right");
    let exit = run(&cli.command, &mut ctx).unwrap_or_else(|error| error.report(ctx.stderr()));
    Ended {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

pub(super) fn status(name: &str, state: State) -> PluginStatus {
    PluginStatus {
        name: name.to_owned(),
        kind: PluginKind::Core,
        state,
        pid: Some(4711),
        restarts: 0,
        generation: 1,
        source: "../greeter".to_owned(),
        error: None,
        generations: Vec::new(),
        crash: None,
        slow_calls: Vec::new(),
        overdue_calls: Vec::new(),
        serving: Vec::new(),
        isolated: None,
        processes: Vec::new(),
        in_config: true,
        waits_for: Vec::new(),
        cpu_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        tree: None,
        started: None,
        last_exit: None,
    }
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn seconds_may_have_a_fraction_and_nothing_else() {
    use std::time::Duration;
    assert_eq!(super::seconds("0.5"), Ok(Duration::from_millis(500)));
    assert_eq!(super::seconds("600"), Ok(Duration::from_mins(10)));
    for wrong in ["", "-1", "nan", "1e300", "5s", "inf"] {
        assert!(super::seconds(wrong).is_err(), "{wrong}");
    }
}
