//! Cores and shims that are killed at any moment, while their plugins are busy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::supervisor::ShimRecord;
use aigis_core::supervisor::protocol::INVOCATION_VARIABLE;
use aigis_plugin_api::Session;

use crate::figures::Figures;
use crate::place::{Core, Home, Random, eventually, load, marked, ready, signal, verdict};

/// The first argument that makes this program a plugin that counts.
pub(crate) const COUNT: &str = "count";

/// The same, of the process below it.
pub(crate) const COUNT_BELOW: &str = "count-below";

/// How many lines a plugin prints at a time, and how long it sleeps then: 2,000 lines per second.
const BATCH: (u64, Duration) = (20, Duration::from_millis(10));

/// The plugins that lose their cores only, and those that lose their shims.
const PLUGINS: (usize, usize) = (10, 3);

/// What a plugin prints if another one of the same name still runs.
const DOUBLED: &str = "doubled";

/// The longest that a core may take until all plugins are its own.
const MOST: f64 = 1.0;

/// Measures and prints; tells whether the goals are reached.
pub(crate) fn measure(rounds: usize, seed: usize) -> io::Result<bool> {
    println!(
        "{rounds} cores and {rounds} shims killed at random (seed {seed}), {} plugins with 2,000 lines per second each, \
         load before: {}",
        PLUGINS.0 + PLUGINS.1,
        load()
    );
    let own = std::env::current_exe()?.display().to_string();
    let mut home = Home::new()?;
    let restart = "RESTART = { backoff = \"10ms\", cap = \"10ms\", jitter = 0.0 }";
    for number in 0..PLUGINS.0 {
        home.plugin(&format!("kept{number}"), &[&own, COUNT], restart)?;
    }
    for number in 0..PLUGINS.1 {
        home.plugin(&format!("bare{number}"), &[&own, COUNT], restart)?;
    }
    let mut random = Random::new(seed as u64);
    let mut core = home.begin()?;
    let first = ready(&home.settled()?)?;
    if first.len() != PLUGINS.0 + PLUGINS.1 {
        let found = first.len();
        return Err(io::Error::other(format!("{found} plugins are ready")));
    }
    let mut faults = Vec::new();
    let cores = kill_cores(&home, &mut core, &first, rounds, &mut random, &mut faults)?;
    let shims = kill_shims(&home, rounds, &mut random, &mut faults)?;
    let session = home.settled()?;
    let last = ready(&session)?;
    drop(session);
    let kept = |name: &&String| name.starts_with("kept");
    for name in first.keys().filter(kept) {
        if last.get(name) != first.get(name) {
            faults.push(format!("{name} is not what it was: {:?}", last.get(name)));
        }
    }
    core.end()?;
    let mut lines = 0;
    for name in first.keys() {
        lines += verify(&home, name, name.starts_with("kept"), &mut faults)?;
    }
    println!("\n| {rounds} rounds each | s, median (min-max) |\n|---|---:|");
    for (name, figures) in [
        (
            "killed core: from the start of the next one until all plugins are its own",
            &cores,
        ),
        ("killed shim: until its plugin is ready again", &shims),
    ] {
        if let Some((middle, least, most)) = figures.range() {
            println!("| {name} | {middle:.3} ({least:.3}-{most:.3}) |");
        }
    }
    println!();
    for fault in faults.iter().take(20) {
        println!("fault: {fault}");
    }
    let slowest = cores.range().map_or(f64::MAX, |range| range.2);
    println!(
        "goal: no plugin lost or doubled, no line lost or doubled: {} ({} faults, {lines} lines)",
        verdict(faults.is_empty()),
        faults.len()
    );
    println!(
        "goal: all adopted within {MOST} s: {} ({slowest:.3})",
        verdict(slowest <= MOST)
    );
    Ok(faults.is_empty() && slowest <= MOST)
}

/// Kills cores, every third one while it is still starting; `core` is the one that runs in the end.
fn kill_cores(
    home: &Home,
    core: &mut Core,
    first: &BTreeMap<String, (u32, u32)>,
    rounds: usize,
    random: &mut Random,
    faults: &mut Vec<String>,
) -> io::Result<Figures> {
    let mut adopted = Figures::new();
    for round in 0..rounds {
        thread::sleep(Duration::from_millis(random.below(300)));
        core.kill()?;
        if round % 3 == 2 {
            // Wherever its start has got to by then.
            let mut next = home.begin()?;
            thread::sleep(Duration::from_micros(random.below(60_000)));
            next.kill()?;
        }
        let since = Instant::now();
        *core = home.begin()?;
        let session = home.settled()?;
        adopted.push(since.elapsed().as_secs_f64());
        let found = ready(&session)?;
        if found != *first {
            faults.push(format!("round {round}: {found:?} instead of {first:?}"));
        }
        progress(round, rounds, "cores");
    }
    Ok(adopted)
}

/// Kills shims under a core that runs.
fn kill_shims(
    home: &Home,
    rounds: usize,
    random: &mut Random,
    faults: &mut Vec<String>,
) -> io::Result<Figures> {
    let session = home.settled()?;
    let mut back = Figures::new();
    for round in 0..rounds {
        let name = format!("bare{}", random.below(PLUGINS.1 as u64));
        let before = of(&session, &name)?;
        let record = record(home, &name)?;
        thread::sleep(Duration::from_millis(random.below(100)));
        let since = Instant::now();
        signal(record.shim_pid, "KILL");
        let after = eventually(&format!("the restart of {name}"), || {
            let now = of(&session, &name).ok()?;
            (now.0 != before.0).then_some(now)
        })?;
        back.push(since.elapsed().as_secs_f64());
        let left = marked(&format!("{INVOCATION_VARIABLE}={}", record.invocation))?;
        if !left.is_empty() {
            faults.push(format!("round {round}: {name} has left {left:?}"));
        }
        if after.1 != before.1 + 1 {
            faults.push(format!(
                "round {round}: {name} was {before:?} and is {after:?}"
            ));
        }
        progress(round, rounds, "shims");
    }
    Ok(back)
}

fn progress(round: usize, rounds: usize, what: &str) {
    if (round + 1) % 10 == 0 || round + 1 == rounds {
        eprintln!("{} of {rounds} {what}", round + 1);
    }
}

/// Returns the process of a plugin that is ready, and its restarts.
fn of(session: &Session, name: &str) -> io::Result<(u32, u32)> {
    let all = ready(session)?;
    let found = all.get(name).copied();
    found.ok_or_else(|| io::Error::other(format!("{name} is not ready")))
}

fn record(home: &Home, name: &str) -> io::Result<ShimRecord> {
    let path = home.path().join(format!("run/shims/{name}.json"));
    ShimRecord::read(path)?.ok_or_else(|| io::Error::other(format!("{name} has no record")))
}

/// Goes through the log of a plugin and returns how many lines are in it: each process must have printed its
/// numbers without a gap, and all of them must be there if it was never killed.
fn verify(home: &Home, name: &str, kept: bool, faults: &mut Vec<String>) -> io::Result<u64> {
    let mut lines = 0;
    let mut runs = BTreeSet::new();
    let mut current = (0_u32, 0_u64);
    for line in BufReader::new(File::open(home.log(name))?).lines() {
        let line = line?;
        if line.ends_with(DOUBLED) {
            faults.push(format!("{name} has run twice at a time: {line}"));
        }
        let Some((pid, number)) = line.split_once(" : INFO : number ").and_then(|(_, rest)| {
            let (pid, number) = rest.split_once(' ')?;
            Some((pid.parse().ok()?, number.parse().ok()?))
        }) else {
            continue;
        };
        if pid != current.0 {
            if !runs.insert(pid) {
                faults.push(format!("{name}: {pid} comes back"));
            }
            current = (pid, 0);
        }
        if number != current.1 + 1 {
            faults.push(format!("{name}: {number} after {} of {pid}", current.1));
        }
        current.1 = number;
        lines += 1;
    }
    if kept {
        let folder = home.path().join("ext").join(name);
        let printed = fs::read_to_string(folder.join("printed"))?;
        let printed: u64 = printed.trim().parse().map_err(io::Error::other)?;
        // The last batch may have been printed before its number was noted.
        if runs.len() != 1 || !(printed..=printed + BATCH.0).contains(&current.1) {
            let (found, runs) = (current.1, runs.len());
            faults.push(format!(
                "{name}: {found} lines of {printed}, {runs} processes"
            ));
        }
    }
    Ok(lines)
}

/// Runs this program as a plugin that counts.
pub(crate) fn count_main() -> ExitCode {
    match count() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn count() -> io::Result<()> {
    let held = File::create("held")?;
    let below = File::create("held-below")?;
    let mut out = io::stdout().lock();
    if held.try_lock().is_err() || below.try_lock().is_err() {
        writeln!(out, "{DOUBLED}")?;
    }
    drop(below);
    Command::new(std::env::current_exe()?)
        .arg(COUNT_BELOW)
        .spawn()?;
    let own = std::process::id();
    let mut number = 0_u64;
    let note = File::create("printed")?;
    loop {
        let mut batch = String::new();
        for _ in 0..BATCH.0 {
            number += 1;
            batch += &format!("number {own} {number}\n");
        }
        out.write_all(batch.as_bytes())?;
        out.flush()?;
        let text = format!("{number:020}");
        std::os::unix::fs::FileExt::write_all_at(&note, text.as_bytes(), 0)?;
        thread::sleep(BATCH.1);
    }
}

/// Runs this program as the process below one that counts: in a session of its own, until it is ended.
pub(crate) fn count_below_main() -> ExitCode {
    let hold = || -> io::Result<()> {
        rustix::process::setsid()?;
        let below = File::open("held-below")?;
        below.lock()?;
        loop {
            thread::park();
        }
    };
    match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
