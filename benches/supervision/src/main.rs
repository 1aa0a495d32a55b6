//! Measures supervision: so far, how fast the output of a chatty program is captured.
//!
//! Start at the README. The program is its own shim, and its own chatty program (`generator`).

#![forbid(unsafe_code)]

mod capture;
mod figures;
mod generator;
mod peers;

use std::env;
use std::process::ExitCode;

/// Exit codes: 0 every goal is reached, 1 one is missed, 2 something could not be measured.
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        // A core's shim is the core's own program.
        Some(first) if first.starts_with("__") => aigis_core::cli::main(),
        Some(generator::MARK) => generator::run(&arguments[1..]),
        Some(peers::COPY) => peers::copy_main(&arguments[1..]),
        Some("capture") => measure(&arguments[1..]),
        None => measure(&[]),
        Some(_) => usage(),
    }
}

fn measure(arguments: &[String]) -> ExitCode {
    let mut numbers = [5, 10_000_000];
    for (number, argument) in numbers.iter_mut().zip(arguments) {
        match argument.parse() {
            Ok(given) if given > 0 => *number = given,
            _ => return usage(),
        }
    }
    match capture::measure(numbers[0], numbers[1]) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: the capture could not be measured: {error}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: aigis-supervision-bench [capture [ROUNDS [LINES]]]");
    ExitCode::from(2)
}
