//! What the system says of this process.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

/// Returns the memory that the process occupies, in MiB.
pub(crate) fn resident() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<f64>().ok())
        .ok_or_else(|| io::Error::other("/proc/self/status has no `VmRSS`"))?;
    Ok(kib / 1024.0)
}

/// Returns how many different files are mapped whose paths begin with `start`, removed ones included.
pub(crate) fn mapped(start: &Path) -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let start = start.to_string_lossy();
    // Address, rights, offset, device, inode, path.
    let paths = maps.lines().filter_map(|line| line.split_once(&*start));
    Ok(paths.map(|(_, rest)| rest).collect::<HashSet<_>>().len())
}
