//! A plugin that is replaced again and again under threads that call it all the time.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::Host;

use crate::goal::Goals;
use crate::home::{self, BenchHome};
use crate::process;
use crate::table::{self, Figures};

/// The threads that call. They live through the whole run.
const THREADS: u32 = 2;

/// Reloads before memory is counted: what is allocated once is there by then.
const WARM_UP: usize = 20;

/// How long the last of the old versions may take to be unmapped.
const UNMAPPING: Duration = Duration::from_secs(10);

/// Measures.
pub(crate) fn run(rounds: usize, goals: &mut Goals) -> Result<(), Box<dyn Error>> {
    let mut home = BenchHome::new()?;
    home.add("swapped", &home::plugin("swapped"));
    home::add_caller(&mut home)?;
    let host = home.start(&home::plugin_target()?, None)?;
    host.call::<()>("caller.begin_swapping", (THREADS,))?;

    for _ in 0..WARM_UP {
        host.reload("swapped", false)?;
    }
    let (before, begun) = (process::resident()?, Instant::now());
    let mut reloads = Figures::default();
    for _ in 0..rounds {
        let begun = Instant::now();
        host.reload("swapped", false)?;
        reloads.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let took = begun.elapsed().as_secs_f64();
    let (calls, failed, first): (u64, u64, Option<String>) = host.call("caller.tally", ())?;
    let mapped = mapped(&host)?;
    // The callers still run.
    let growth = process::resident()? - before;
    host.call::<()>("caller.end_swapping", ())?;
    host.shutdown();

    table::head(&format!("{THREADS} threads that call"), "ms");
    reloads.print(&format!("{rounds} times `reload`"));
    println!("\n| in {took:.1} s | |\n|---|---:|");
    println!("| calls | {calls} |");
    println!("| failed calls | {failed} |");
    println!("| memory at the begin, MiB | {before:.1} |");
    println!("| memory more at the end, MiB | {growth:.1} |");
    println!("| versions still mapped | {mapped} |\n");
    if let Some(first) = first {
        println!("the first call that failed: {first}\n");
    }
    goals.at_least("calls", 10e6, "", calls as f64);
    goals.at_most("failed calls", 0.0, "", failed as f64);
    goals.at_most("more memory", 8.0, " MiB", growth);
    Ok(())
}

/// Waits until only one version is mapped, or for as long as that may take; returns how many are.
fn mapped(host: &Host) -> Result<usize, Box<dyn Error>> {
    let start = host.home().run().join("libraries/swapped-");
    let begun = Instant::now();
    loop {
        let mapped = process::mapped(&start)?;
        if mapped <= 1 || begun.elapsed() > UNMAPPING {
            return Ok(mapped);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
