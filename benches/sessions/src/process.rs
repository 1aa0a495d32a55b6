//! What the system says of another process.

use std::fs;

use session_peers::Failed;

/// The clock of `/proc/<pid>/stat`, in ticks per second: the same on every Linux.
const TICKS: f64 = 100.0;

/// Returns the memory that the process occupies, in KiB.
pub(crate) fn resident(process: u32) -> Result<f64, Failed> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path)?;
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kib = kib.ok_or_else(|| format!("`{path}` has no `VmRSS` in kB"))?;
    Ok(kib.trim().parse()?)
}

/// Returns the time that the process has had on cores so far, in seconds.
pub(crate) fn on_cores(process: u32) -> Result<f64, Failed> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path)?;
    // The second field is the name, in parentheses, and may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let times = fields.split(' ').skip(11).take(2);
    let times: Vec<f64> = times.map(str::parse).collect::<Result<_, _>>()?;
    match times[..] {
        [user, system] => Ok((user + system) / TICKS),
        _ => Err(format!("`{path}` has no times").into()),
    }
}
