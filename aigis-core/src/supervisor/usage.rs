//! What trees of processes use: time of the CPU, memory.

use std::collections::HashMap;
use std::fs;

use super::linux::Process;

/// What one tree has used and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The CPU's time, of all cores, in milliseconds; that of processes which have ended included.
    pub(crate) cpu_ms: u64,
    /// Bytes of memory; what several processes share is divided among them where the system tells.
    pub(crate) memory: u64,
    /// How many processes there are.
    pub(crate) processes: usize,
}

/// Adds up what the descendants of each of these processes use, the process itself apart. In one look at all
/// processes of the machine.
pub(crate) fn below(roots: &[u32]) -> HashMap<u32, Usage> {
    let all = Process::all();
    let parents: HashMap<i32, i32> = all
        .iter()
        .map(|process| (process.pid, process.parent))
        .collect();
    let mut found: HashMap<u32, Usage> =
        roots.iter().map(|root| (*root, Usage::default())).collect();
    let tick = 1000 / rustix::param::clock_ticks_per_second().max(1);
    for process in &all {
        if let Some(usage) = found.get_mut(&process.pid.unsigned_abs()) {
            // What it has collected has used this.
            usage.cpu_ms += process.collected_ticks * tick;
        }
        let Some(root) = root_of(process.pid, &parents, &found) else {
            continue;
        };
        let usage = found.entry(root).or_default();
        usage.cpu_ms += (process.ticks + process.collected_ticks) * tick;
        if !process.is_dead() {
            usage.processes += 1;
            usage.memory += memory_of(process.pid);
        }
    }
    found
}

/// Returns what this process itself has used, and for how long it has been running, in milliseconds.
pub(crate) fn own() -> Option<(Usage, u64)> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let process = Process::read(pid)?;
    let tick = 1000 / rustix::param::clock_ticks_per_second().max(1);
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = up.split_ascii_whitespace().next()?.parse().ok()?;
    let age = ((up * 1000.0) as u64).saturating_sub(process.start_time * tick);
    let usage = Usage {
        cpu_ms: process.ticks * tick,
        memory: memory_of(pid),
        processes: 1,
    };
    Some((usage, age))
}

/// Returns which of the roots a process descends from.
fn root_of(pid: i32, parents: &HashMap<i32, i32>, roots: &HashMap<u32, Usage>) -> Option<u32> {
    let mut at = *parents.get(&pid)?;
    // The list is not of one instant, so it might hold a circle.
    for _ in 0..parents.len() {
        if roots.contains_key(&at.unsigned_abs()) {
            return Some(at.unsigned_abs());
        }
        at = *parents.get(&at)?;
    }
    None
}

/// Returns the memory of a process, in bytes.
fn memory_of(pid: i32) -> u64 {
    let kib_in = |file: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // The proportional size is for the process's own user and root alone.
    let kib = kib_in("smaps_rollup", "Pss:").or_else(|| kib_in("status", "VmRSS:"));
    kib.unwrap_or(0) * 1024
}
