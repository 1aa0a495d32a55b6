//! The program `aigis`.

use std::process::ExitCode;

fn main() -> ExitCode {
    aigis_core::cli::main()
}
