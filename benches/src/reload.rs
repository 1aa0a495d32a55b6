//! How long it takes from a built library to skills that are switched over.

use std::error::Error;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use aigis_core::State;
use aigis_core::host::{Event, Observer};

use crate::goal::Goals;
use crate::home::{self, BenchHome};
use crate::table::{self, Figures};

/// Measures.
pub(crate) fn run(rounds: usize, goals: &mut Goals) -> Result<(), Box<dyn Error>> {
    let mut home = BenchHome::new()?;
    home.add("callee", &home::plugin("callee"));
    let activations = Arc::<Activations>::default();
    let observer = Arc::clone(&activations) as Arc<dyn Observer>;
    let host = home.start(&home::plugin_target()?, Some(observer))?;
    let source = home.path().join("ext/callee/src/lib.rs");

    let (mut whole, mut activate) = (Figures::default(), Figures::default());
    for _ in 0..rounds {
        // Written again by an editor, as far as times tell.
        let file = File::options().write(true).open(&source)?;
        file.set_modified(SystemTime::now())?;
        let begun = Instant::now();
        host.reload("callee", false)?;
        whole.push(milliseconds(begun));
        let sum: u64 = host.call("callee.add", (2, 3))?;
        assert_eq!(sum, 5);

        // A plugin that starts says when it has been built, one that is reloaded does not; what follows is the same.
        host.stop_forced("callee")?;
        host.start_plugin("callee")?;
        activate.push(activations.last().ok_or("no start was seen")?);
    }
    host.shutdown();

    table::head(&format!("{rounds} rounds"), "ms");
    whole.print("a whole `reload`, touched but unchanged");
    activate.print("of that: constructors, register, switch");
    println!();
    // It holds the probe, and a look at the sources besides.
    let name = "from a built library to switched, probe included (a whole `reload` without cargo)";
    goals.at_most(name, 15.0, " ms", whole.median());
    Ok(())
}

/// Sees how long a start takes once everything is built.
#[derive(Default)]
struct Activations(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    begun: Option<Instant>,
    last: Option<f64>,
}

impl Activations {
    fn last(&self) -> Option<f64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.take()
    }
}

impl Observer for Activations {
    fn event(&self, event: &Event<'_>) {
        let Event::State { state, .. } = event else {
            return;
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Starting => seen.begun = Some(Instant::now()),
            State::Ready => seen.last = seen.begun.take().map(milliseconds),
            _ => {}
        }
    }
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
