//! Measures AIGIS against its goals and against what else there is: `cargo run --release -- calls`.
//!
//! Start at the README. Each benchmark is a module; it prints tables in Markdown and one line per goal.

mod build;
mod calls;
mod goal;
mod home;
mod process;
mod reload;
mod swaps;
mod table;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use goal::Goals;

/// A benchmark: its name, how many rounds it has if nobody says otherwise, and what it does.
type Benchmark = (
    &'static str,
    usize,
    fn(usize, &mut Goals) -> Result<(), Box<dyn Error>>,
);

const BENCHMARKS: [Benchmark; 4] = [
    ("calls", 15, calls::run),
    ("reload", 100, reload::run),
    ("swaps", 1000, swaps::run),
    ("build", 3, build::run),
];

const USAGE: &str = "usage: aigis-benches [all | calls | reload | swaps | build] [ROUNDS]";

/// Exit codes: 0 every goal is reached, 1 one is missed, 2 something could not be measured.
fn main() -> ExitCode {
    let mut arguments = env::args();
    let name = arguments.nth(1).unwrap_or_else(|| "all".to_owned());
    if name.starts_with("__") {
        // A host runs its own program as its probes and shims, and this is the program of the hosts below.
        return aigis_core::cli::main();
    }
    let rounds = match arguments.next().map(|text| text.parse()) {
        None => None,
        Some(Ok(rounds)) if rounds > 0 => Some(rounds),
        Some(_) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut chosen = BENCHMARKS
        .iter()
        .filter(|(known, ..)| name == "all" || name == *known)
        .peekable();
    if chosen.peek().is_none() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut goals = Goals::default();
    for (name, usual, run) in chosen {
        println!("\n## {name}");
        if let Err(error) = run(rounds.unwrap_or(*usual), &mut goals) {
            eprintln!("error: `{name}` could not be measured: {error}");
            return ExitCode::from(2);
        }
    }
    match goals.missed() {
        0 => ExitCode::SUCCESS,
        missed => {
            eprintln!("{missed} goals are missed");
            ExitCode::FAILURE
        }
    }
}
