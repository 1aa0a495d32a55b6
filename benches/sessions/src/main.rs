//! Measures sessions: calls of skills from another process, next to what else such a call could be.
//!
//! Start at the README. `rows` says what is measured and what is wanted of it. Whatever serves and whatever calls is a
//! process of its own: this program again in a `role`, which `child` starts and asks for one slice of calls at a time.
//! `peer` knows all that is called; `aigis` is AIGIS, and the others are in the package `session-peers`.

#![forbid(unsafe_code)]

mod aigis;
mod burden;
mod child;
mod goal;
mod limits;
mod peer;
mod process;
mod python;
mod role;
mod rounds;
mod rows;
mod table;

use std::env;
use std::fs;
use std::process::ExitCode;

use goal::Goals;
use rows::{ROWS, Row};

/// Exit codes: 0 every goal is reached, 1 one is missed, 2 something could not be measured.
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first() {
        // A host runs its own program as its probes and shims, and this is the program of the hosts here.
        Some(first) if first.starts_with("__") => aigis_core::cli::main(),
        Some(first) if first == role::MARK => role::run(&arguments[1..]),
        _ => measure(&arguments),
    }
}

fn measure(arguments: &[String]) -> ExitCode {
    let Some((chosen, rounds)) = chosen(arguments) else {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        let names = names.join(" | ");
        eprintln!("usage: aigis-sessions-bench [all | {names}]... [ROUNDS]");
        return ExitCode::from(2);
    };
    let mut goals = Goals::default();
    let mut failed = false;
    for row in chosen {
        println!("\n## {}: {}", row.name, row.title);
        // What else the machine does decides how much threads have to be woken for.
        if let Ok(load) = fs::read_to_string("/proc/loadavg") {
            println!("\nload before it: {}", load.trim_end());
        }
        if let Err(error) = (row.run)(rounds.unwrap_or(row.rounds), &mut goals) {
            println!("\nnot measured: {error}");
            eprintln!("error: `{}` could not be measured: {error}", row.name);
            failed = true;
        }
    }
    match goals.missed() {
        _ if failed => ExitCode::from(2),
        0 => ExitCode::SUCCESS,
        missed => {
            eprintln!("{missed} goals are missed");
            ExitCode::FAILURE
        }
    }
}

/// Reads names of rows and, at the end, a number of rounds; none if that is not what stands there.
fn chosen(arguments: &[String]) -> Option<(Vec<&'static Row>, Option<usize>)> {
    let (names, rounds) = match arguments.split_last() {
        Some((last, names)) if last.starts_with(|c: char| c.is_ascii_digit()) => {
            (names, Some(last.parse().ok().filter(|rounds| *rounds > 0)?))
        }
        _ => (arguments, None),
    };
    let all = names.is_empty() || names.iter().any(|name| name == "all");
    let known = |name: &String| name == "all" || ROWS.iter().any(|row| row.name == name);
    let rows = ROWS.iter();
    let rows = rows.filter(|row| all || names.iter().any(|name| name == row.name));
    names.iter().all(known).then(|| (rows.collect(), rounds))
}
