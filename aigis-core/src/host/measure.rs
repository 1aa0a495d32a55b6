//! What plugins and the core use, for `aigis status`: looked at when somebody asks, never in between.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::status::{CoreStatus, PluginStatus, ProcessStatus};
use super::{Inner, lock};
use crate::supervisor::usage;

/// Two looks closer than this tell too little: the system counts in hundredths of a second.
const SHORTEST: Duration = Duration::from_millis(200);

/// What the last look at each tree has found.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<HashMap<Tree, Sample>>);

/// A tree of processes, by the number of its root and the time of its launch: numbers are used again.
type Tree = (u32, String);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    cpu_ms: u64,
    percent: f64,
}

impl Sample {
    /// Makes what follows `before`, or the first one of a tree of this age.
    fn next(before: Option<&Sample>, now: Instant, cpu_ms: u64, age: Duration) -> Sample {
        let (used, over) = match before {
            Some(before) => {
                let over = now.saturating_duration_since(before.at);
                if over < SHORTEST {
                    return *before;
                }
                (cpu_ms.saturating_sub(before.cpu_ms), over)
            }
            None => (cpu_ms, age.max(SHORTEST)),
        };
        Sample {
            at: now,
            cpu_ms,
            percent: used as f64 / over.as_secs_f64() / 10.0,
        }
    }
}

impl Samples {
    /// Notes what a tree has used by now; returns how much of a core it uses, in hundredths.
    fn note(&self, tree: Tree, cpu_ms: u64, age: Duration) -> f64 {
        let mut all = lock(&self.0);
        let next = Sample::next(all.get(&tree), Instant::now(), cpu_ms, age);
        all.insert(tree, next);
        next.percent
    }

    /// Forgets those that are gone.
    fn keep(&self, is_there: impl Fn(&Tree) -> bool) {
        lock(&self.0).retain(|tree, _| is_there(tree));
    }
}

fn age_of(started: &str) -> Duration {
    let started = started.parse::<Timestamp>().ok().map(SystemTime::from);
    let age = started.and_then(|started| SystemTime::now().duration_since(started).ok());
    age.unwrap_or_default()
}

/// Returns what names a tree, while it runs.
fn tree_of(process: &ProcessStatus) -> Option<Tree> {
    process.shim.zip(process.started.clone())
}

impl Inner {
    /// Adds to statuses what the trees use.
    pub(super) fn measure(&self, all: &mut [PluginStatus]) {
        let processes = all.iter().flat_map(|status| &status.processes);
        let trees: Vec<Tree> = processes.filter_map(tree_of).collect();
        let own = (std::process::id(), String::new());
        self.samples
            .keep(|tree| *tree == own || trees.contains(tree));
        if trees.is_empty() {
            return;
        }
        let roots: Vec<u32> = trees.iter().map(|(root, _)| *root).collect();
        let found = usage::below(&roots);
        for status in all {
            for process in &mut status.processes {
                let Some(tree) = tree_of(process) else {
                    continue;
                };
                let Some(usage) = found.get(&tree.0) else {
                    continue;
                };
                let age = age_of(&tree.1);
                process.cpu_ms = Some(usage.cpu_ms);
                process.cpu_percent = Some(self.samples.note(tree, usage.cpu_ms, age));
                process.memory_bytes = Some(usage.memory);
                process.tree = Some(usage.processes);
            }
            sum_up(status);
        }
    }

    /// Says how the core itself is.
    pub(super) fn core_status(&self) -> CoreStatus {
        let pid = std::process::id();
        let (usage, age) = usage::own().unwrap_or_default();
        let age = Duration::from_millis(age);
        let started = Timestamp::now().checked_sub(age).ok();
        CoreStatus {
            pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: started.map(|started| started.to_string()),
            cpu_ms: usage.cpu_ms,
            cpu_percent: Some(self.samples.note((pid, String::new()), usage.cpu_ms, age)),
            memory_bytes: usage.memory,
        }
    }
}

/// Adds up what the processes of a plugin use.
fn sum_up(status: &mut PluginStatus) {
    let all = &status.processes;
    let numbers = |field: fn(&ProcessStatus) -> Option<u64>| {
        let known = all.iter().filter_map(field);
        known.reduce(|one, other| one + other)
    };
    let cpu_ms = numbers(|process| process.cpu_ms);
    let memory_bytes = numbers(|process| process.memory_bytes);
    let percents = all.iter().filter_map(|process| process.cpu_percent);
    let cpu_percent = percents.reduce(|one, other| one + other);
    let trees = all.iter().filter_map(|process| process.tree);
    let tree = trees.reduce(|one, other| one + other);
    (status.cpu_ms, status.memory_bytes) = (cpu_ms, memory_bytes);
    (status.cpu_percent, status.tree) = (cpu_percent, tree);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_told_since_the_look_before() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let first = Sample::next(None, at(0), 500, Duration::from_secs(10));
        assert_eq!(first.percent, 5.0, "since the launch");
        let second = Sample::next(Some(&first), at(1000), 2000, Duration::from_secs(11));
        assert_eq!(second.percent, 150.0, "one and a half cores");
        let soon = Sample::next(Some(&second), at(1050), 2050, Duration::from_secs(11));
        assert_eq!((soon.percent, soon.at), (150.0, second.at), "too soon");
        let less = Sample::next(Some(&second), at(3000), 1000, Duration::from_secs(13));
        assert_eq!(less.percent, 0.0, "what is gone is not counted any more");
        let young = Sample::next(None, at(0), 20, Duration::ZERO);
        assert!(young.percent.is_finite());
    }
}
