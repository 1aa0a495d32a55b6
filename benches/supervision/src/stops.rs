//! Trees that are hard to end: what is left of them after a stop.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::supervisor::protocol::INVOCATION_VARIABLE;
use aigis_core::supervisor::{LaunchSpec, Supervised};

use crate::figures::Figures;
use crate::peers::find_supervisord;
use crate::place::{eventually, folder, load, marked, signal, verdict};

/// How long a tree has to end by itself.
const GRACE: Duration = Duration::from_millis(200);

/// The file that what runs away looks for: without it, it ends.
const LEASH: &str = "leash";

/// How many programs supervisord is tried with.
const PEER_ROUNDS: usize = 10;

/// A tree that is hard to end. Each is a Perl program, since that forks without starting a program anew. None has
/// more than ten living processes, each ends with its leash, and none lives longer than a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tree {
    /// Four chains of processes, each of which starts its successor in a new session and ends, as fast as it
    /// can; all ignore the polite signal.
    Relay,
    /// Forked twice, with a session of its own, ignoring the polite signal.
    Daemon,
    /// Three generations that stop themselves, again each time that they are continued.
    Stopped,
}

impl Tree {
    const ALL: [Self; 3] = [Self::Relay, Self::Daemon, Self::Stopped];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "chains that fork their successors",
            Self::Daemon => "a daemon: forked twice, own session",
            Self::Stopped => "a stopped tree",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Relay => {
                "use POSIX; $SIG{TERM} = 'IGNORE'; $| = 1; my $end = time + 60; \
                 for (1 .. 4) { my $first = fork // exit; next if $first; \
                 while (-e 'leash' and time < $end) { my $next = fork // exit; exit if $next; setsid; } \
                 exit; } print qq(ready\\n); sleep 1 while -e 'leash' and time < $end;"
            }
            Self::Daemon => {
                "use POSIX; $| = 1; my $child = fork // exit; if (!$child) { setsid; \
                 my $next = fork // exit; exit if $next; $SIG{TERM} = 'IGNORE'; print qq(ready\\n); \
                 for (1 .. 60) { sleep 1; -e 'leash' or exit; } exit; } \
                 for (1 .. 60) { sleep 1; -e 'leash' or exit; }"
            }
            Self::Stopped => {
                "use POSIX; $SIG{TERM} = 'IGNORE'; $| = 1; print qq(ready\\n); \
                 my $child = fork // exit; if (!$child) { setsid; my $next = fork // exit; } \
                 kill STOP => $$ while -e 'leash';"
            }
        }
    }
}

/// What came of the stops of one kind.
#[derive(Default)]
struct Row {
    tries: usize,
    /// Of how many something was left.
    left: usize,
    /// Milliseconds beyond the grace until the stop was reported.
    beyond: Figures,
}

/// Measures and prints; tells whether the goals are reached.
pub(crate) fn measure(rounds: usize) -> io::Result<bool> {
    let supervisord = find_supervisord();
    let groups = groups();
    println!(
        "stops with a grace of {} ms, load before: {}",
        GRACE.as_millis(),
        load()
    );
    if groups.is_none() {
        println!("control groups: none can be made here; left out");
    }
    let mut rows = Vec::new();
    for tree in Tree::ALL {
        for grouped in [true, false] {
            if !grouped || groups.is_some() {
                rows.push((tree, grouped, Row::default()));
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for round in 0..rounds {
        for (tree, grouped, row) in &mut rows {
            let group = groups.as_ref().filter(|_| *grouped);
            let group = group.map(|it| it.join(format!("aigis-bench-{}", std::process::id())));
            runtime.block_on(once(*tree, group.as_deref(), row))?;
        }
        if (round + 1) % 10 == 0 || round + 1 == rounds {
            eprintln!("round {} of {rounds}", round + 1);
        }
    }
    println!(
        "\n| tree, what stops it | nothing left | ms beyond the grace, median (min-max) |\n|---|---:|---:|"
    );
    for (tree, grouped, row) in &rows {
        let how = match grouped {
            true => "AIGIS with a control group",
            false => "AIGIS without",
        };
        print_row(*tree, how, row);
    }
    if let Some(program) = &supervisord {
        for tree in Tree::ALL {
            let row = supervised(program, tree, rounds.min(PEER_ROUNDS))?;
            print_row(tree, "supervisord, stopasgroup and killasgroup", &row);
        }
    } else {
        println!("supervisord: not found and not installed (SUPERVISORD names one); left out");
    }
    println!();
    let mut all = true;
    for grouped in [true, false] {
        let of = || rows.iter().filter(|row| row.1 == grouped);
        let (tries, left) = of().fold((0, 0), |sum, (.., row)| {
            (sum.0 + row.tries, sum.1 + row.left)
        });
        if tries > 0 {
            let how = if grouped { "with" } else { "without" };
            println!(
                "goal: nothing left {how} a control group: {} ({} of {tries})",
                verdict(left == 0),
                tries - left
            );
        }
        all &= left == 0;
    }
    Ok(all)
}

fn print_row(tree: Tree, how: &str, row: &Row) {
    let beyond = row.beyond.range().map_or("-".to_owned(), |range| {
        format!("{:.0} ({:.0}-{:.0})", range.0, range.1, range.2)
    });
    let name = tree.name();
    let clean = row.tries - row.left;
    println!("| {name}: {how} | {clean} of {} | {beyond} |", row.tries);
}

/// Launches one tree and stops it.
async fn once(tree: Tree, group: Option<&Path>, row: &mut Row) -> io::Result<()> {
    let folder = folder()?;
    let at = folder.path();
    fs::write(at.join(LEASH), "")?;
    let name = "tree".parse().map_err(io::Error::other)?;
    let log = at.join("tree.log");
    let mut spec = LaunchSpec::new(name, "perl", at, &log, at.join("run/tree.json"))
        .args(["-e", tree.script()])
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(group) = group {
        fs::create_dir(group)?;
        spec.confinement.cgroup = Some(group.into());
    }
    let mark = format!("{INVOCATION_VARIABLE}={}", spec.invocation);
    let launched = Supervised::launch(&std::env::current_exe()?, spec).await;
    let supervised = launched.map_err(io::Error::other)?;
    wait_for(tree, &log, &mark)?;
    let since = Instant::now();
    let report = supervised.stop(GRACE).await;
    let took = since.elapsed();
    let left = marked(&mark)?;
    row.tries += 1;
    if left.is_empty() && report.exit.is_some() {
        row.beyond
            .push((took.as_secs_f64() - GRACE.as_secs_f64()) * 1000.0);
        return Ok(());
    }
    row.left += 1;
    eprintln!("{tree:?}: left {left:?}, reported {report:?}");
    fs::remove_file(at.join(LEASH))?;
    sweep(&mark)?;
    supervised.wait().await;
    Ok(())
}

/// Waits until a tree is what it is meant to be.
fn wait_for(tree: Tree, log: &Path, mark: &str) -> io::Result<()> {
    eventually("the tree", || {
        let text = fs::read_to_string(log).ok()?;
        // The log of AIGIS has the program itself in its first line.
        let mut lines = text.lines().map(|line| line.rsplit(" : ").next());
        lines.any(|line| line == Some("ready")).then_some(())
    })?;
    if tree == Tree::Stopped {
        eventually("the tree to be stopped", || {
            let all = marked(mark).ok()?;
            (all.len() == 3 && all.iter().all(|&pid| is_stopped(pid))).then_some(())
        })?;
    }
    Ok(())
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Ends what was left of a tree whose leash is gone.
fn sweep(mark: &str) -> io::Result<()> {
    eventually("the end of what was left", || {
        let left = marked(mark).ok()?;
        for &pid in &left {
            signal(pid, "KILL");
        }
        left.is_empty().then_some(())
    })
}

/// Finds where this process may make control groups of version 2.
fn groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let folder = Path::new(mount.split(' ').nth(4)?).join(own);
    let probe = folder.join(format!("aigis-bench-{}-probe", std::process::id()));
    fs::create_dir(&probe).ok()?;
    let can_kill = probe.join("cgroup.kill").exists();
    fs::remove_dir(&probe).ok()?;
    can_kill.then_some(folder)
}

/// Has supervisord stop several of one kind, with all of its options for whole groups.
fn supervised(program: &Path, tree: Tree, rounds: usize) -> io::Result<Row> {
    let mut row = Row::default();
    for round in 0..rounds {
        let folder = folder()?;
        let at = folder.path().display();
        fs::write(folder.path().join(LEASH), "")?;
        let mark = format!("AIGIS_BENCH_TREE={}-{round}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap_or_default();
        // A percent sign means something there.
        let script = folder.path().join("tree.pl");
        fs::write(&script, tree.script())?;
        let log = folder.path().join("tree.log");
        let config = folder.path().join("supervisord.conf");
        fs::write(
            &config,
            format!(
                "[supervisord]\nnodaemon=true\nlogfile={at}/own.log\npidfile={at}/own.pid\n\
                 [program:tree]\ncommand=perl {}\ndirectory={at}\nstartsecs=0\nautorestart=false\n\
                 stopwaitsecs=1\nstopasgroup=true\nkillasgroup=true\n\
                 environment={name}=\"{value}\"\nstdout_logfile={at}/tree.log\n",
                script.display()
            ),
        )?;
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let there = wait_for(tree, &log, &mark);
        let since = Instant::now();
        signal(child.id(), "TERM");
        child.wait()?;
        let took = since.elapsed();
        there?;
        // What it has killed last may still be on its way out.
        thread::sleep(Duration::from_millis(100));
        row.tries += 1;
        if marked(&mark)?.is_empty() {
            row.beyond.push((took.as_secs_f64() - 1.0) * 1000.0);
        } else {
            row.left += 1;
        }
        fs::remove_file(folder.path().join(LEASH))?;
        sweep(&mark)?;
    }
    Ok(row)
}
