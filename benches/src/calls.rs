//! What a call from one plugin to another costs, next to what else such a call could be.

use std::error::Error;

use aigis_core::Host;

use crate::goal::Goals;
use crate::home::{self, BenchHome};
use crate::table::{self, Figures};

/// The rows, as the plugin `caller` knows them.
const ROWS: [&str; 11] = [
    "add: function",
    "add: raw",
    "add: raw, panics caught",
    "add: import",
    "greet: function",
    "greet: raw, adopted",
    "greet: RString",
    "greet: import",
    "record: codec",
    "record: rmp-serde",
    "record: import",
];

const THREADS: [u32; 2] = [1, 2];

/// How long a row runs in each round, in nanoseconds.
const SLICE: f64 = 60e6;

/// What is enough to tell how long one call takes.
const TRIAL: f64 = 5e6;

/// Measures.
pub(crate) fn run(rounds: usize, goals: &mut Goals) -> Result<(), Box<dyn Error>> {
    let mut home = BenchHome::new()?;
    home.add("callee", &home::plugin("callee"));
    home::add_caller(&mut home)?;
    let host = home.start(&home::plugin_target()?, None)?;
    host.call::<()>("caller.check", ())?;

    let mut rows = Vec::new();
    for threads in THREADS {
        for name in ROWS {
            rows.push(Row {
                name,
                threads,
                iterations: iterations(&host, name, threads)?,
                figures: Figures::default(),
            });
        }
    }
    // All rows in turn, so that what else the machine does is spread over all of them.
    for _ in 0..rounds {
        for row in &mut rows {
            let figure = time(&host, row.name, row.threads, row.iterations)?;
            row.figures.push(figure);
        }
    }
    host.shutdown();

    for threads in THREADS {
        let title = format!("{threads} thread(s), {rounds} rounds");
        table::head(&title, "ns per call");
        for row in rows.iter().filter(|row| row.threads == threads) {
            row.figures.print(row.name);
        }
    }
    println!();
    judge(&rows, goals);
    Ok(())
}

struct Row {
    name: &'static str,
    threads: u32,
    iterations: u64,
    figures: Figures,
}

fn judge(rows: &[Row], goals: &mut Goals) {
    let found = |name: &str, threads: u32| -> &Figures {
        let mut all = rows.iter();
        let row = all.find(|row| row.name == name && row.threads == threads);
        &row.expect("each row is measured with each number of threads")
            .figures
    };
    let ratio = |one: &Figures, other: &Figures| one.with(other, |a, b| a / b).median();
    let cost = found("add: import", 1).with(found("add: raw", 1), |a, b| a - b);
    goals.at_most(
        "`add`, import minus raw (aim 3 ns)",
        5.0,
        " ns",
        cost.median(),
    );
    let text = ratio(found("greet: import", 1), found("greet: RString", 1));
    goals.at_most("`greet`, import / RString", 1.3, "x", text);
    let record = ratio(found("record: import", 1), found("record: codec", 1));
    goals.at_most("record, import / codec alone", 1.2, "x", record);
    for what in ["add", "greet", "record"] {
        let name = format!("{what}: import");
        let threads = ratio(found(&name, 2), found(&name, 1));
        goals.at_most(&format!("{name}, two threads / one"), 1.1, "x", threads);
    }
    // What the machine itself makes of two threads.
    let machine = ratio(found("add: raw", 2), found("add: raw", 1));
    println!("for comparison: add: raw, two threads / one: {machine:.2}x");
}

/// Returns how many calls take as long as a row is meant to run.
fn iterations(host: &Host, row: &str, threads: u32) -> Result<u64, Box<dyn Error>> {
    let mut trial = 64_u64;
    loop {
        let each = time(host, row, threads, trial)?;
        if each * trial as f64 >= TRIAL {
            return Ok(((SLICE / each) as u64).max(1));
        }
        trial *= 2;
    }
}

fn time(host: &Host, row: &str, threads: u32, iterations: u64) -> Result<f64, Box<dyn Error>> {
    Ok(host.call("caller.run", (row, threads, iterations))?)
}
