//! The control group of a launch, where the system lets us have one: whatever the plugin starts is in it,
//! wherever it goes, one write ends all of it at once, and it can be limited as a whole.
//!
//! The core makes it and names it in the spec; the plugin's own process enters it between fork and exec; whoever
//! clears up after the plugin, its shim or else a core, removes it. Only version 2 is used, and of that only what is
//! found: a mount may have no controllers at all, and then it still ends trees.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The time slice that a limit of the CPU is counted over, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// The place below which this process may make control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    folder: PathBuf,
}

/// What a group of processes may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    /// How many cores' time.
    pub(crate) cpu: Option<f64>,
}

impl Limits {
    fn controllers(&self) -> impl Iterator<Item = &'static str> {
        let memory = self.memory.map(|_| "memory");
        let cpu = self.cpu.map(|_| "cpu");
        memory.into_iter().chain(cpu)
    }
}

impl Parent {
    /// Finds it: the group that this process is in, in the hierarchy of version 2, if groups can be made there.
    pub(crate) fn find() -> Option<Parent> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let folder = locate(&mounts, &own)?;
        let may_write = |name: &str| access(folder.join(name), Access::WRITE_OK).is_ok();
        let usable = access(&folder, Access::WRITE_OK).is_ok() && may_write("cgroup.procs");
        usable.then_some(Parent { folder })
    }

    /// Makes the group of one launch. What of the limits cannot be had is returned beside it, in words.
    pub(crate) fn make(&self, name: &str, limits: Limits) -> io::Result<(Cgroup, Vec<String>)> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder)?;
        let group = Cgroup { folder };
        if !group.folder.join("cgroup.kill").exists() {
            // Of a kernel before 5.14: it could not end what is in it.
            group.remove();
            return Err(io::Error::other("the kernel has no cgroup.kill"));
        }
        let mut missing = Vec::new();
        for controller in limits.controllers() {
            let set = self
                .enable(controller)
                .and_then(|()| group.limit(controller, limits));
            if let Err(error) = set {
                let option = if controller == "memory" {
                    "MEMORY_MAX"
                } else {
                    "CPU"
                };
                missing.push(format!(
                    "{option} has no effect: the controller `{controller}` cannot be used in {}: {error}",
                    self.folder.display()
                ));
            }
        }
        Ok((group, missing))
    }

    /// Has groups below this one use a controller.
    fn enable(&self, controller: &str) -> io::Result<()> {
        let has = |file: &str| {
            fs::read_to_string(self.folder.join(file))
                .is_ok_and(|all| all.split_ascii_whitespace().any(|one| one == controller))
        };
        if has("cgroup.subtree_control") {
            return Ok(());
        }
        if !has("cgroup.controllers") {
            return Err(io::Error::other("it is not there"));
        }
        let switch = || {
            fs::write(
                self.folder.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )
        };
        match switch() {
            // A group that hands controllers on may hold no process itself, and this one is in it.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let own = self.folder.join("aigis-core");
                match fs::create_dir(&own) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => fs::write(own.join("cgroup.procs"), "0")?,
                }
                switch()
            }
            outcome => outcome,
        }
    }
}

/// Returns the folder of the group that `own` (`/proc/self/cgroup`) names, by what is mounted where
/// (`/proc/self/mountinfo`).
fn locate(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // Optional fields, of any number, end with a dash.
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        // A mount shows what is below its root; a group beside that is out of reach.
        let below = Path::new(path).strip_prefix(&root).ok()?;
        let folder = Path::new(&point).join(below);
        (!below.starts_with("..")).then_some(folder)
    })
}

/// Undoes what the kernel does to blanks in paths.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                text.push(code.into());
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

/// The group of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Names the group in `folder`, which another process has made.
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Cgroup {
        Cgroup {
            folder: folder.into(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn limit(&self, controller: &str, limits: Limits) -> io::Result<()> {
        match (controller, limits) {
            (
                "memory",
                Limits {
                    memory: Some(bytes),
                    ..
                },
            ) => {
                fs::write(self.folder.join("memory.max"), bytes.to_string())?;
                // The limit is for what is used together with the swap; without that file there is no swap.
                let _ = fs::write(self.folder.join("memory.swap.max"), "0");
                Ok(())
            }
            (
                "cpu",
                Limits {
                    cpu: Some(cores), ..
                },
            ) => {
                let quota = (cores * CPU_PERIOD as f64).max(1000.0) as u64;
                fs::write(self.folder.join("cpu.max"), format!("{quota} {CPU_PERIOD}"))
            }
            _ => Ok(()),
        }
    }

    /// Opens what a process writes a `0` to in order to come in.
    pub(crate) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .open(self.folder.join("cgroup.procs"))
    }

    /// Ends everything that is in it, also what is being forked; false if it cannot.
    pub(crate) fn kill(&self) -> bool {
        fs::write(self.folder.join("cgroup.kill"), "1").is_ok()
    }

    /// Returns the processes in it, also below it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                below
                    .filter(|entry| entry.path().is_dir())
                    .map(|entry| entry.path()),
            );
        }
        // A process of a namespace that is not ours is shown as 0.
        found.retain(|pid| *pid > 0);
        found
    }

    /// Tells whether nothing lives in it.
    pub(crate) fn is_empty(&self) -> bool {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Ok(text) => text.lines().any(|line| line == "populated 0"),
            Err(_) => true,
        }
    }

    /// Removes it, with what the plugin has made below it. Only an empty one can be.
    pub(crate) fn remove(&self) {
        fn remove(folder: &Path) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // One that is still in use stays until the system restarts, and does no harm.
            let _ = fs::remove_dir(folder);
        }
        remove(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 master:1 - cgroup2 cgroup2 rw
";

    #[test]
    fn a_group_is_found_wherever_its_hierarchy_is_mounted() {
        let found = |own: &str| locate(HYBRID, own);
        assert_eq!(
            found("4:memory:/x\n0::/system.slice/aigis.service\n"),
            Some("/sys/fs/cgroup/unified/system.slice/aigis.service".into())
        );
        assert_eq!(found("0::/\n"), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(found("4:memory:/x\n"), None);
        let only_old = HYBRID.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(locate(&only_old, "0::/\n"), None);
    }

    #[test]
    fn a_mount_may_show_a_part_of_the_hierarchy() {
        let mounts = "9 1 0:5 /box /run/my\\040groups rw - cgroup2 none rw\n";
        assert_eq!(
            locate(mounts, "0::/box/inner\n"),
            Some("/run/my groups/inner".into())
        );
        assert_eq!(locate(mounts, "0::/elsewhere\n"), None);
        assert_eq!(unescape("a\\134b\\"), "a\\b\\");
    }
}
