//! Measures supervision: what a capture, a launch and idle plugins cost, and what is left after stops and kills.
//!
//! Start at the README. The program is its own core and shim, its own chatty program (`generator`) and its own
//! plugin that counts (`kills`).

#![forbid(unsafe_code)]

mod capture;
mod figures;
mod generator;
mod idle;
mod kills;
mod launch;
mod peers;
mod place;
mod stops;

use std::env;
use std::io;
use std::process::ExitCode;

/// Exit codes: 0 every goal is reached, 1 one is missed, 2 something could not be measured.
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (first, rest) = match arguments.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("capture", &[][..]),
    };
    match first {
        // A core is this program, and so are its shims.
        "build-and-run" => aigis_core::cli::main(),
        _ if first.starts_with("__") => aigis_core::cli::main(),
        generator::MARK => generator::run(rest),
        peers::COPY => peers::copy_main(rest),
        kills::COUNT => kills::count_main(),
        kills::COUNT_BELOW => kills::count_below_main(),
        "capture" => measure(rest, [5, 10_000_000], |[rounds, lines]| {
            capture::measure(rounds, lines)
        }),
        "launch" => measure(rest, [9, 200], |[rounds, children]| {
            launch::measure(rounds, children)
        }),
        "idle" => measure(rest, [3, 30, 100], |[rounds, seconds, plugins]| {
            idle::measure(rounds, seconds, plugins)
        }),
        "stops" => measure(rest, [100], |[rounds]| stops::measure(rounds)),
        "kills" => measure(rest, [100, 1], |[rounds, seed]| {
            kills::measure(rounds, seed)
        }),
        _ => usage(),
    }
}

/// Runs what measures with the numbers of the command line, or else with those that are usual.
fn measure<const N: usize>(
    arguments: &[String],
    mut numbers: [usize; N],
    run: impl FnOnce([usize; N]) -> io::Result<bool>,
) -> ExitCode {
    if arguments.len() > N {
        return usage();
    }
    for (number, argument) in numbers.iter_mut().zip(arguments) {
        match argument.parse() {
            Ok(given) if given > 0 => *number = given,
            _ => return usage(),
        }
    }
    match run(numbers) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: it could not be measured: {error}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: aigis-supervision-bench [capture [ROUNDS [LINES]] | launch [ROUNDS [CHILDREN]] |\n       \
         idle [ROUNDS [SECONDS [PLUGINS]]] | stops [ROUNDS] | kills [ROUNDS [SEED]]]"
    );
    ExitCode::from(2)
}
