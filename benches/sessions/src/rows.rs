//! What is measured, and what is wanted of it.

use std::thread;
use std::time::Duration;

use session_peers::{Failed, Order};

use crate::aigis::Core;
use crate::burden::Burden;
use crate::child::Child;
use crate::goal::Goals;
use crate::peer::Pair;
use crate::peer::Peer::{
    self, Aigis, AigisSocket, AigisValue, Iceoryx2, Memory, Python, Raw, Tarpc, Tokio, Tonic,
};
use crate::process;
use crate::python;
use crate::role::{BURDEN, BUSY, HOLD, PORTABLE};
use crate::rounds::{Field, Found, Tallies};
use crate::table::{self, Figures};

/// Something to measure.
pub(crate) struct Row {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// How many rounds it has if nobody says otherwise.
    pub(crate) rounds: usize,
    pub(crate) run: fn(usize, &mut Goals) -> Result<(), Failed>,
}

pub(crate) const ROWS: [Row; 11] = [
    row("echo", "64 bytes, one caller, back to back", echo),
    row("paced", "64 bytes, once per 10 ms", paced),
    row("busy", "64 bytes, every core kept busy by others", busy),
    row("socket", "64 bytes, the session's socket alone", socket),
    row("threads", "64 bytes, eight callers at once", threads),
    row("fair", "64 bytes, next to clients that are a burden", fair),
    row("large", "1 MiB there and back, one caller", large),
    row("portable", "a skill brought to its caller", portable),
    row("python", "64 bytes, next to Python's manager", python),
    row("many", "1,000 sessions of one process", many),
    row("value", "a shared value, set and got", value),
];

const fn row(
    name: &'static str,
    title: &'static str,
    run: fn(usize, &mut Goals) -> Result<(), Failed>,
) -> Row {
    Row {
        name,
        title,
        rounds: 15,
        run,
    }
}

/// The usual order; rows change what they are about.
const SMALL: Order = Order {
    bytes: 64,
    callers: 1,
    slice: Duration::from_millis(150),
    rest: Duration::ZERO,
};

const SESSIONS: usize = 1000;

/// How long the many sessions call in each round.
const CALLING: u32 = 3;

/// The set and get of the original, in microseconds.
const CATKIT: f64 = 600.0;

fn p50(tallies: &Tallies) -> &Figures {
    &tallies.p50
}

fn p99(tallies: &Tallies) -> &Figures {
    &tallies.p99
}

fn mean(tallies: &Tallies) -> &Figures {
    &tallies.mean
}

fn rate(tallies: &Tallies) -> &Figures {
    &tallies.rate
}

fn pace(tallies: &Tallies) -> &Figures {
    &tallies.pace
}

fn echo(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let found = Field::start(&[Aigis, Raw, Iceoryx2, Memory])?.run(rounds, &SMALL)?;
    found.print("p50", "µs", p50);
    found.print("p99", "µs", p99);
    println!();
    at_most(goals, &found, "p50", p50, (Aigis, Raw), 0.025);
    at_most(goals, &found, "p50", p50, (Aigis, Iceoryx2), 1.0);
    Ok(())
}

fn paced(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order {
        slice: Duration::from_millis(500),
        rest: Duration::from_millis(10),
        ..SMALL
    };
    let found = Field::start(&[Aigis, Raw])?.run(rounds, &order)?;
    found.print("p50", "µs", p50);
    found.print("mean", "µs", mean);
    println!();
    at_most(goals, &found, "p50", p50, (Aigis, Raw), 1.2);
    Ok(())
}

fn busy(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order {
        slice: Duration::from_millis(300),
        ..SMALL
    };
    let mut field = Field::start(&[Aigis, Raw])?;
    let cores = 0..thread::available_parallelism()?.get();
    let load = cores.map(|_| Child::in_role(&[BUSY], &[]));
    let load = load.collect::<Result<Vec<_>, _>>()?;
    let found = field.run(rounds, &order)?;
    drop(load);
    found.print("p50", "µs", p50);
    // A median says nothing of the calls that waited until a busy process had had its time.
    found.print("mean", "µs", mean);
    found.print("p99", "µs", p99);
    println!();
    at_most(goals, &found, "p50", p50, (Aigis, Raw), 1.2);
    at_most(goals, &found, "mean", mean, (Aigis, Raw), 1.2);
    Ok(())
}

/// What a burden costs the others, against what unrelated work costs them that keeps the cores equally busy.
fn fair(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order {
        slice: Duration::from_millis(300),
        ..SMALL
    };
    let core = Core::start()?;
    let home = core.home().to_str().ok_or("the home is not UTF-8")?;
    let mut honest = Pair::start(Aigis, core.home())?;
    let mut slice = |found: &mut Tallies, load: Vec<Child>| -> Result<(), Failed> {
        found.push(&honest.slice(&order)?);
        drop(load);
        Ok(())
    };
    let cores = thread::available_parallelism()?.get();
    let (mut alone, mut busy) = (Tallies::default(), Tallies::default());
    let mut burdened = Burden::ALL.map(|burden| (burden, Tallies::default()));
    for _ in 0..rounds {
        slice(&mut alone, Vec::new())?;
        let load = (0..cores).map(|_| Child::in_role(&[BUSY], &[]));
        slice(&mut busy, load.collect::<Result<_, _>>()?)?;
        for (burden, found) in &mut burdened {
            slice(
                found,
                vec![Child::in_role(&[BURDEN, burden.name(), home], &[])?],
            )?;
        }
    }
    for (title, unit, figures) in [
        ("calls", "per second", rate as fn(&Tallies) -> &Figures),
        ("p99", "µs", p99),
    ] {
        table::head(&format!("{title}, {rounds} rounds"), unit);
        figures(&alone).print("alone");
        figures(&busy).print("next to as many busy processes as cores");
        for (burden, found) in &burdened {
            figures(found).print(&format!("next to {}", burden.name()));
        }
        println!();
    }
    for (burden, found) in &burdened {
        let cost = busy.rate.over(&found.rate);
        goals.at_most(&format!("what {} costs", burden.name()), 2.0, "x", &cost);
    }
    Ok(())
}

fn socket(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let peers = [AigisSocket, Raw, Tokio, Tarpc, Tonic];
    let found = Field::start(&peers)?.run(rounds, &SMALL)?;
    found.print("p50", "µs", p50);
    found.print("p99", "µs", p99);
    println!();
    for (peer, of_p50, of_p99) in [(Raw, 1.2, 1.2), (Tarpc, 0.85, 0.85), (Tonic, 0.45, 0.55)] {
        at_most(goals, &found, "p50", p50, (AigisSocket, peer), of_p50);
        at_most(goals, &found, "p99", p99, (AigisSocket, peer), of_p99);
    }
    Ok(())
}

fn threads(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order {
        callers: 8,
        ..SMALL
    };
    let peers = [Aigis, AigisSocket, Raw, Tokio, Tarpc, Tonic];
    let found = Field::start(&peers)?.run(rounds, &order)?;
    found.print("all eight", "calls per second", rate);
    found.print("p99", "µs", p99);
    println!();
    for (peer, least) in [(Raw, 4.0), (Tarpc, 10.0), (Tonic, 25.0)] {
        at_least(
            goals,
            &found,
            "calls per second",
            rate,
            (Aigis, peer),
            least,
        );
    }
    Ok(())
}

fn large(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order {
        bytes: 1 << 20,
        slice: Duration::from_millis(300),
        ..SMALL
    };
    let found = Field::start(&[Aigis, AigisSocket, Raw, Iceoryx2])?.run(rounds, &order)?;
    // A call moves 1 MiB there and 1 MiB back.
    found.print_each("there and back", "MiB/s", |tallies| {
        tallies.pace.map(|calls| 2.0 * calls)
    });
    found.print("p50", "µs", p50);
    println!();
    at_least(goals, &found, "MiB/s", pace, (Aigis, Raw), 4.0);
    at_least(goals, &found, "MiB/s", pace, (AigisSocket, Raw), 0.9);
    Ok(())
}

fn portable(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let core = Core::start()?;
    let home = core.home().to_str().ok_or("the home is not UTF-8")?;
    let mut caller = Child::in_role(&[PORTABLE, home], &[])?;
    for (skill, calls) in [("adds", 5_000_000), ("echoes", 1_000_000)] {
        let (mut here, mut there) = (Figures::default(), Figures::default());
        let orders = [
            format!("{skill} {calls}"),
            format!("in the core {skill} {calls}"),
        ];
        // The first slices warm up.
        for round in 0..=rounds {
            // Each is first in every other round.
            for turn in 0..2 {
                let place = (turn + round) % 2;
                let took = caller.ask(&orders[place])?.parse()?;
                let figures = if place == 0 { &mut here } else { &mut there };
                if round > 0 {
                    figures.push(took);
                }
            }
        }
        table::head(&format!("{skill}, {rounds} rounds"), "ns each");
        here.print("brought to its caller");
        there.print("in the core, direct");
        println!();
        goals.at_most(skill, 1.5, "x", &here.over(&there));
    }
    Ok(())
}

fn python(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    if !python::is_installed() {
        println!("\nnot measured: there is no Python");
        return Ok(());
    }
    let found = Field::start(&[Aigis, Python])?.run(rounds, &SMALL)?;
    found.print("p50", "µs", p50);
    println!();
    at_least(goals, &found, "p50", p50, (Python, Aigis), 50.0);
    Ok(())
}

fn value(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let order = Order { bytes: 8, ..SMALL };
    let found = Field::start(&[AigisValue])?.run(rounds, &order)?;
    found.print("p50 of both calls", "µs", p50);
    println!();
    let what = "set and get, p50";
    goals.at_most(what, CATKIT / 50.0, " µs", &found.of(AigisValue).p50);
    Ok(())
}

fn many(rounds: usize, goals: &mut Goals) -> Result<(), Failed> {
    let core = Core::start()?;
    let home = core.home().to_str().ok_or("the home is not UTF-8")?;
    // What the first session brings is no part of what each costs.
    let mut holder = Child::in_role(&[HOLD, home], &[])?;
    holder.ask("open 1")?;
    let before = process::resident(core.id())?;
    holder.ask(&format!("open {SESSIONS}"))?;
    let (mut each, mut idle, mut calling) =
        (Figures::default(), Figures::default(), Figures::default());
    each.push((process::resident(core.id())? - before) / SESSIONS as f64);
    for _ in 0..rounds {
        let begun = process::on_cores(core.id())?;
        thread::sleep(Duration::from_secs(1));
        let called = process::on_cores(core.id())?;
        let took: f64 = holder.ask(&format!("call {CALLING}"))?.parse()?;
        let ended = process::on_cores(core.id())?;
        idle.push((called - begun) * 100.0);
        // Late calls make the time longer, and so the part of it smaller: it is held against the time they should need.
        calling.push((ended - called) * 100.0 / f64::from(CALLING));
        if took > 1.1 * f64::from(CALLING) {
            println!("late: the calls of {CALLING} s took {took:.1} s");
        }
    }
    let after = (process::resident(core.id())? - before) / SESSIONS as f64;
    table::head("the core's process", "% of one core");
    idle.print("no session calls");
    calling.print("each session calls once per second");
    println!("\nmemory per session after all calls: {after:.1} KiB\n");
    goals.at_most("core, % of one core", 5.0, " %", &calling);
    goals.at_most("memory per idle session", 64.0, " KiB", &each);
    Ok(())
}

/// Wants the first of two peers to have at most so much of what the second has.
fn at_most(
    goals: &mut Goals,
    found: &Found,
    what: &str,
    figures: fn(&Tallies) -> &Figures,
    (one, other): (Peer, Peer),
    most: f64,
) {
    let ratio = figures(found.of(one)).over(figures(found.of(other)));
    goals.at_most(&name(what, one, other), most, "x", &ratio);
}

/// Wants the first of two peers to have at least so much of what the second has.
fn at_least(
    goals: &mut Goals,
    found: &Found,
    what: &str,
    figures: fn(&Tallies) -> &Figures,
    (one, other): (Peer, Peer),
    least: f64,
) {
    let ratio = figures(found.of(one)).over(figures(found.of(other)));
    goals.at_least(&name(what, one, other), least, "x", &ratio);
}

fn name(what: &str, one: Peer, other: Peer) -> String {
    format!("{what}, `{}` / `{}`", one.name(), other.name())
}
