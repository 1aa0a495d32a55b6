//! How long it takes to start many trivial programs and to collect them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use aigis_core::supervisor::{LaunchSpec, Supervised};
use tokio::task::JoinSet;

use crate::figures::Figures;
use crate::peers::find_supervisord;
use crate::place::{eventually, folder, load, signal, verdict};

/// What is started: nothing that takes any time of its own.
const PROGRAM: &str = "/bin/true";

/// Milliseconds for each child that a core should need.
const AIM: f64 = 2.0;

/// Measures and prints; tells whether the goals are reached.
pub(crate) fn measure(rounds: usize, children: usize) -> io::Result<bool> {
    let supervisord = find_supervisord();
    println!("{children} times {PROGRAM}, load before: {}", load());
    let mut rows = [const { Figures::new() }; 4];
    for round in 0..rounds {
        rows[0].push(together(children)?);
        if let Some(program) = &supervisord {
            rows[1].push(supervised(program, children)?);
        }
        rows[2].push(in_turn(children)?);
        rows[3].push(bare(children)?);
        eprintln!("round {} of {rounds}", round + 1);
    }
    let names = [
        "AIGIS: all at once, each with its shim, record and log",
        "supervisord, all at once",
        "AIGIS: one after the other",
        "spawn and wait, one after the other",
    ];
    println!("\n| {rounds} rounds | ms per child, median (min-max) |\n|---|---:|");
    for (name, row) in names.iter().zip(&rows) {
        if let Some((middle, least, most)) = row.range() {
            println!("| {name} | {middle:.2} ({least:.2}-{most:.2}) |");
        }
    }
    println!();
    let own = rows[0].range().map_or(f64::MAX, |range| range.0);
    let aimed = own <= AIM;
    println!("aim: {AIM} ms per child: {} ({own:.2})", verdict(aimed));
    let Some((ratio, ..)) = rows[0].over(&rows[1]).range() else {
        println!("supervisord: not found and not installed (SUPERVISORD names one); left out");
        return Ok(aimed);
    };
    let faster = ratio < 1.0;
    println!(
        "goal: ms per child / supervisord's < 1: {} ({ratio:.2})",
        verdict(faster)
    );
    Ok(faster && aimed)
}

fn spec(folder: &Path, number: usize) -> io::Result<LaunchSpec> {
    let name = format!("p{number}");
    let record = folder.join(format!("run/{name}.json"));
    let log = folder.join(format!("{name}.log"));
    let plugin = name.parse().map_err(io::Error::other)?;
    Ok(LaunchSpec::new(plugin, PROGRAM, folder, log, record))
}

fn per_child(since: Instant, children: usize) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0 / children as f64
}

fn together(children: usize) -> io::Result<f64> {
    let folder = folder()?;
    let own = std::env::current_exe()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let since = Instant::now();
        let mut running = JoinSet::new();
        for number in 0..children {
            let (own, spec) = (own.clone(), spec(folder.path(), number)?);
            running.spawn(async move {
                let launched = Supervised::launch(&own, spec).await;
                Ok::<_, aigis_core::supervisor::LaunchError>(launched?.wait().await)
            });
        }
        while let Some(exit) = running.join_next().await {
            let exit = exit.map_err(io::Error::other)?.map_err(io::Error::other)?;
            if !exit.is_success() {
                return Err(io::Error::other(format!("{PROGRAM} {exit}")));
            }
        }
        Ok(per_child(since, children))
    })
}

fn in_turn(children: usize) -> io::Result<f64> {
    let folder = folder()?;
    let own = std::env::current_exe()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let since = Instant::now();
        for number in 0..children {
            let launched = Supervised::launch(&own, spec(folder.path(), number)?).await;
            launched.map_err(io::Error::other)?.wait().await;
        }
        Ok(per_child(since, children))
    })
}

fn bare(children: usize) -> io::Result<f64> {
    let since = Instant::now();
    for _ in 0..children {
        Command::new(PROGRAM).stdin(Stdio::null()).status()?;
    }
    Ok(per_child(since, children))
}

/// Has supervisord start them when it starts itself, and takes the times from its log.
fn supervised(program: &Path, children: usize) -> io::Result<f64> {
    let folder = folder()?;
    let at = folder.path().display();
    let log = folder.path().join("own.log");
    let mut config = format!(
        "[supervisord]\nnodaemon=true\nlogfile={at}/own.log\npidfile={at}/own.pid\n\
         childlogdir={at}\n"
    );
    for number in 0..children {
        config += &format!(
            "[program:p{number}]\ncommand={PROGRAM}\nautorestart=false\nstartsecs=0\n\
             stdout_logfile={at}/p{number}.log\nstderr_logfile={at}/p{number}.err\n"
        );
    }
    let file = folder.path().join("supervisord.conf");
    fs::write(&file, config)?;
    let mut child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let text = eventually("the end of all of supervisord's", || {
        // Now and then, so that looking takes no time from it.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let text = fs::read_to_string(&log).ok()?;
        (text.matches(" exited: ").count() >= children).then_some(text)
    });
    signal(child.id(), "TERM");
    child.wait()?;
    let text = text?;
    let first = text.lines().find(|it| it.contains("started with pid"));
    let last = text.lines().rfind(|it| it.contains(" exited: "));
    let times = first.and_then(time_of).zip(last.and_then(time_of));
    let (first, last) = times.ok_or_else(|| io::Error::other("its log has no times"))?;
    // Over midnight a day is missing.
    Ok((last - first).rem_euclid(86_400_000.0) / children as f64)
}

/// Reads the milliseconds of a day from a line like `2026-11-22 01:02:03,004 INFO ...`.
fn time_of(line: &str) -> Option<f64> {
    let mut parts = line.get(11..23)?.split([':', ',']);
    let mut next = || parts.next()?.parse::<f64>().ok();
    let (hours, minutes, seconds, rest) = (next()?, next()?, next()?, next()?);
    Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0 + rest)
}
