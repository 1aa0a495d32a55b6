//! How fast a chatty program's output gets into a file, and at which cost.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::generator::{LINE_BYTES, Signs, now, number_of};
use crate::peers::{Capturer, find_supervisord, settle, start};

/// How long a capture may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a record of AIGIS has before its message: `2026-11-22 00:00:00,000 : INFO : `.
const STAMP_BYTES: usize = 33;

/// One row of the table.
#[derive(Default)]
struct Row {
    /// MiB of input per second.
    rate: Figures,
    /// CPU seconds of the capturing process per GiB of input.
    cpu: Figures,
}

/// Measures all capturers and prints a table; tells whether the goals are reached.
pub(crate) fn measure(rounds: usize, lines: usize) -> io::Result<bool> {
    let supervisord = find_supervisord();
    if supervisord.is_none() {
        println!("supervisord: not found and not installed (SUPERVISORD names one); left out");
    }
    let place = place();
    let input = lines * LINE_BYTES;
    println!(
        "{lines} lines of {LINE_BYTES} bytes ({} MiB), logs in {}, load before: {}",
        input >> 20,
        place.display(),
        fs::read_to_string("/proc/loadavg")?.trim_end()
    );
    let mut rows = Capturer::ALL.map(|capturer| (capturer, Row::default()));
    for round in 0..rounds {
        for (capturer, row) in &mut rows {
            if *capturer == Capturer::Supervisord && supervisord.is_none() {
                continue;
            }
            let (seconds, cpu) = once(*capturer, &place, lines, supervisord.as_deref())?;
            row.rate.push(input as f64 / f64::from(1 << 20) / seconds);
            row.cpu.push(cpu / (input as f64 / f64::from(1 << 30)));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    println!(
        "\n| {rounds} rounds, lines verified | MiB/s, median (min-max) | CPU s per GiB |\n|---|---:|---:|"
    );
    for (capturer, row) in &rows {
        if let (Some(rate), Some(cpu)) = (row.rate.range(), row.cpu.range()) {
            let cpu = match capturer {
                Capturer::Nobody => "-".to_owned(),
                _ => format!("{:.2} ({:.2}-{:.2})", cpu.0, cpu.1, cpu.2),
            };
            let name = capturer.name();
            println!(
                "| {name} | {:.0} ({:.0}-{:.0}) | {cpu} |",
                rate.0, rate.1, rate.2
            );
        }
    }
    Ok(judge(&rows[0].1, &rows[1].1))
}

/// Compares the shim with supervisord, by what they had in the same rounds.
fn judge(shim: &Row, peer: &Row) -> bool {
    let (rate, cpu) = (shim.rate.over(&peer.rate), shim.cpu.over(&peer.cpu));
    let (Some(rate), Some(cpu)) = (rate.range(), cpu.range()) else {
        return true;
    };
    let verdict = |reached| if reached { "reached" } else { "missed" };
    println!();
    println!(
        "goal: rate / supervisord's >= 1: {} ({:.2})",
        verdict(rate.0 >= 1.0),
        rate.0
    );
    println!(
        "goal: CPU / supervisord's <= 1: {} ({:.2})",
        verdict(cpu.0 <= 1.0),
        cpu.0
    );
    rate.0 >= 1.0 && cpu.0 <= 1.0
}

/// Captures one generator's output; returns the seconds from its first line until the last is in the
/// file, and the CPU seconds of the capturer.
fn once(
    capturer: Capturer,
    place: &Path,
    lines: usize,
    supervisord: Option<&Path>,
) -> io::Result<(f64, f64)> {
    let folder = tempfile::Builder::new()
        .prefix("aigis-bench-")
        .tempdir_in(place)?;
    let log = folder.path().join("log").join("chatty.log");
    fs::create_dir(folder.path().join("log"))?;
    let signs = Signs::new(folder.path());
    let running = start(capturer, folder.path(), &log, lines, supervisord)?;
    signs.wait("ready")?;
    settle();
    let before = size(&log)?;
    let cpu_before = cpu(running.pid())?;
    signs.give("go", "")?;
    let per_line = match capturer {
        Capturer::Shim => LINE_BYTES + STAMP_BYTES,
        _ => LINE_BYTES,
    };
    let wanted = before + (lines * per_line) as u64;
    let deadline = Instant::now() + PATIENCE;
    while size(&log)? < wanted {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{capturer:?} has lost lines")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let end = now();
    let printed = signs.wait("printed")?;
    let cpu = cpu(running.pid())? - cpu_before;
    signs.give("done", "")?;
    running.end(capturer)?;
    verify(&log, lines, capturer)?;
    let start = printed
        .split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok());
    let start = start.ok_or_else(|| io::Error::other("the generator told no time"))?;
    Ok((end - start, cpu))
}

/// Returns the seconds that a process has been on a processor.
fn cpu(pid: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = text
        .split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok());
    first
        .map(|nanoseconds| nanoseconds / 1e9)
        .ok_or_else(|| io::Error::other(text))
}

/// Returns the size of a log and its backups.
fn size(log: &Path) -> io::Result<u64> {
    let mut total = 0;
    for file in files(log)? {
        // One that has just been renamed is counted the next time.
        total += fs::metadata(file).map_or(0, |metadata| metadata.len());
    }
    Ok(total)
}

/// Returns the backups of a log, oldest first, and the log itself.
fn files(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let folder = log.parent().unwrap_or(log);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("chatty.log."))
            .and_then(|rest| rest.rsplit_once('.')?.1.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    let mut paths: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
    if log.exists() {
        paths.push(log.to_owned());
    }
    Ok(paths)
}

/// Sees whether all lines are there, in order, each with a stamp where there is to be one.
fn verify(log: &Path, lines: usize, capturer: Capturer) -> io::Result<()> {
    let mut expected = 0;
    for path in files(log)? {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = match capturer {
                Capturer::Shim => match line.windows(10).position(|at| at == b" : INFO : ") {
                    Some(at) => &line[at + 10..],
                    None => &[][..],
                },
                _ => &line[..],
            };
            if text.len() == LINE_BYTES && number_of(text) == Some(expected) {
                expected += 1;
            } else if text.len() == LINE_BYTES && number_of(text).is_some() {
                let what = format!("{capturer:?}: line {expected} is missing");
                return Err(io::Error::other(what));
            }
            line.clear();
        }
    }
    match expected == lines {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{capturer:?}: {expected} of {lines} lines"
        ))),
    }
}

/// Returns a folder in memory, if there is one.
fn place() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    match memory.is_dir() {
        true => memory,
        false => std::env::temp_dir(),
    }
}
