//! What plugins cost that do nothing: time on a processor, wake-ups, memory.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::figures::Figures;
use crate::peers::find_supervisord;
use crate::place::{
    Home, Usage, eventually, folder, load, marked, private_memory, signal, verdict,
};

/// The most of one processor that a core may use, in percent.
const MOST_CPU: f64 = 0.1;

/// The most private memory of a shim and of a core, in MiB.
const MOST_MEMORY: (f64, f64) = (2.0, 24.0);

/// What is begun at the start is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// By what supervisord's programs are known.
const MARK: (&str, &str) = ("AIGIS_BENCH_IDLE", "1");

/// The figures of one process, or of several taken together, a round each.
#[derive(Default)]
struct Row {
    /// Percent of one processor.
    cpu: Figures,
    /// Wake-ups per second.
    wakes: Figures,
    /// Private memory in MiB; the greatest of several processes.
    memory: Figures,
}

impl Row {
    fn push(&mut self, (cpu, sleeps): (f64, u64), seconds: f64, memory: f64) {
        self.cpu.push(cpu / seconds * 100.0);
        self.wakes.push(sleeps as f64 / seconds);
        self.memory.push(memory);
    }

    fn print(&self, name: &str) {
        let ranges = [self.cpu.range(), self.wakes.range(), self.memory.range()];
        if let [Some(cpu), Some(wakes), Some(memory)] = ranges {
            println!(
                "| {name} | {:.3} ({:.3}-{:.3}) | {:.2} ({:.2}-{:.2}) | {:.2} ({:.2}-{:.2}) |",
                cpu.0, cpu.1, cpu.2, wakes.0, wakes.1, wakes.2, memory.0, memory.1, memory.2
            );
        }
    }
}

/// Measures and prints; tells whether the goals are reached.
pub(crate) fn measure(rounds: usize, seconds: usize, plugins: usize) -> io::Result<bool> {
    let time = Duration::from_secs(seconds as u64);
    let supervisord = find_supervisord();
    println!(
        "{plugins} programs that sleep, watched for {seconds} s, load before: {}",
        load()
    );
    let (mut core, mut shims, mut peer) = (Row::default(), Row::default(), Row::default());
    for round in 0..rounds {
        own(&mut core, &mut shims, time, plugins)?;
        if let Some(program) = &supervisord {
            supervised(program, &mut peer, time, plugins)?;
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    println!(
        "\n| {rounds} rounds | % of a processor | wake-ups per s | private MiB |\n|---|---:|---:|---:|"
    );
    core.print("AIGIS: the core");
    shims.print(&format!("AIGIS: all {plugins} shims; memory: the greatest"));
    peer.print("supervisord");
    if supervisord.is_none() {
        println!("supervisord: not found and not installed (SUPERVISORD names one); left out");
    }
    println!();
    let middle = |figures: &Figures| figures.range().map_or(f64::MAX, |range| range.0);
    let greatest = |figures: &Figures| figures.range().map_or(f64::MAX, |range| range.2);
    let goals = [
        ("% of a processor, the core", middle(&core.cpu), MOST_CPU),
        ("MiB, each shim", greatest(&shims.memory), MOST_MEMORY.0),
        ("MiB, the core", greatest(&core.memory), MOST_MEMORY.1),
        ("wake-ups of shims per s", middle(&shims.wakes), 0.0),
    ];
    for (what, found, most) in goals {
        println!(
            "goal: {what} <= {most}: {} ({found:.3})",
            verdict(found <= most)
        );
    }
    Ok(goals.iter().all(|(_, found, most)| found <= most))
}

fn own(core_row: &mut Row, shim_row: &mut Row, time: Duration, plugins: usize) -> io::Result<()> {
    let mut home = Home::new()?;
    for number in 0..plugins {
        home.plugin(&format!("p{number}"), &["sleep", "100000"], "")?;
    }
    let core = home.begin()?;
    // Not for longer than that: a session keeps a core busier than nobody does.
    drop(home.settled()?);
    let shims: Vec<u32> = home.records()?.iter().map(|it| it.shim_pid).collect();
    if shims.len() != plugins {
        let found = shims.len();
        return Err(io::Error::other(format!("{found} of {plugins} shims")));
    }
    thread::sleep(SETTLE);
    let used = || -> io::Result<Vec<Usage>> {
        let all = std::iter::once(core.pid()).chain(shims.iter().copied());
        all.map(Usage::of).collect()
    };
    let before = used()?;
    thread::sleep(time);
    let after = used()?;
    let mut spent = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after.since(before));
    let of_core = spent.next().unwrap_or_default();
    let of_shims = spent.fold((0.0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let mut greatest = 0.0_f64;
    for &shim in &shims {
        greatest = greatest.max(private_memory(shim)?);
    }
    let seconds = time.as_secs_f64();
    core_row.push(of_core, seconds, private_memory(core.pid())?);
    shim_row.push(of_shims, seconds, greatest);
    core.end()
}

fn supervised(program: &Path, row: &mut Row, time: Duration, plugins: usize) -> io::Result<()> {
    let folder = folder()?;
    let at = folder.path().display();
    let mut config = format!(
        "[supervisord]\nnodaemon=true\nlogfile={at}/own.log\npidfile={at}/own.pid\n\
         childlogdir={at}\nenvironment={}=\"{}\"\n",
        MARK.0, MARK.1
    );
    for number in 0..plugins {
        config += &format!(
            "[program:p{number}]\ncommand=sleep 100000\nstartsecs=0\n\
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
    let mark = format!("{}={}", MARK.0, MARK.1);
    let measured = eventually("all of supervisord's programs", || {
        let found = marked(&mark).ok()?;
        (found.len() >= plugins).then_some(())
    })
    .and_then(|()| {
        thread::sleep(SETTLE);
        let before = Usage::of(child.id())?;
        thread::sleep(time);
        let used = Usage::of(child.id())?.since(&before);
        row.push(used, time.as_secs_f64(), private_memory(child.id())?);
        Ok(())
    });
    signal(child.id(), "TERM");
    child.wait()?;
    measured
}
