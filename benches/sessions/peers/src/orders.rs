//! What a process of the benchmark is asked for, and what it answers: a line each.
//!
//! Orders come in on standard input. Each is answered on standard output with a line that begins with [`DONE`], or else
//! is an error; one such line comes first of all, when the process is ready. The process ends when there are no more.

use std::io::{self, BufRead, Write};
use std::process;
use std::thread;

use crate::Failed;

/// The first word of an answer that is no error.
pub const DONE: &str = "done";

/// Says that all is ready, then carries orders out until there are no more.
///
/// # Errors
/// When input or output is broken; what goes wrong with an order is its answer.
pub fn obey(mut order: impl FnMut(&str) -> Result<String, Failed>) -> Result<(), Failed> {
    done("")?;
    for line in io::stdin().lock().lines() {
        match order(&line?) {
            Ok(answer) => done(&answer)?,
            Err(error) => say(&one_line(&error))?,
        }
    }
    Ok(())
}

/// Says that all is ready; ends the process when there are no more orders.
///
/// # Errors
/// When the output is broken, or there can be no thread.
pub fn obey_end() -> Result<(), Failed> {
    thread::Builder::new().spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    })?;
    done("")
}

/// Returns an error as one line, so that it is an answer.
pub fn one_line(error: &Failed) -> String {
    error.to_string().replace('\n', "; ")
}

fn done(answer: &str) -> Result<(), Failed> {
    say(&format!("{DONE} {answer}"))
}

fn say(line: &str) -> Result<(), Failed> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
