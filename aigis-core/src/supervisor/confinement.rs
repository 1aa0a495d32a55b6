//! What a launched process is given and denied besides its program: who it is, what it may use.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::protocol::OsText;
use crate::config::Limit;

/// What a launched process is given and denied. Nothing of it by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// Who it is; the user of the core without this.
    pub identity: Option<Identity>,
    /// The permissions that files it makes do not get.
    pub umask: Option<u32>,
    /// Its priority, from -20, which is the highest, to 19.
    pub nice: Option<i32>,
    /// What each process of it may use; none is without a limit.
    pub limits: Vec<(Limit, Option<u64>)>,
    /// The folder of its control group.
    pub cgroup: Option<OsText>,
}

/// A user, with all of its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// The numbers of all its groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Makes it the owner of what a descriptor stands for.
    pub(super) fn own(&self, descriptor: impl AsFd) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        Ok(rustix::fs::fchown(descriptor, Some(uid), Some(gid))?)
    }
}

impl Confinement {
    /// Returns its control group.
    pub(super) fn group(&self) -> Option<Cgroup> {
        self.cgroup
            .as_ref()
            .map(|folder| Cgroup::at(folder.as_path()))
    }
}

/// A step between fork and exec, for the message if it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Cgroup,
    Nice,
    Limits,
    Identity,
}

impl Step {
    const ALL: [Step; 4] = [Step::Cgroup, Step::Nice, Step::Limits, Step::Identity];

    fn what(self) -> &'static str {
        match self {
            Step::Cgroup => "enter its control group",
            Step::Nice => "take the priority that NICE says",
            Step::Limits => "take the limits that LIMITS says",
            Step::Identity => "become the user and group that USER and GROUP say",
        }
    }
}

/// A confinement that can be entered without allocating: everything is open and at hand.
#[derive(Debug)]
pub(super) struct Entry {
    entrance: Option<File>,
    umask: Option<Mode>,
    nice: Option<i32>,
    limits: Vec<(Resource, Rlimit)>,
    identity: Option<(Uid, Gid, Vec<Gid>)>,
    report: OwnedFd,
}

/// Reads which step an [`Entry`] has failed in.
#[derive(Debug)]
pub(super) struct Report(OwnedFd);

impl Report {
    /// Returns what was attempted when it failed; none if it did not. To be asked when the entry is closed on all
    /// sides.
    pub(super) fn failed(self) -> Option<&'static str> {
        let mut step = [0];
        let count = File::from(self.0).read(&mut step).ok()?;
        let [number] = step;
        let step = Step::ALL.into_iter().find(|step| *step as u8 == number)?;
        (count == 1).then(|| step.what())
    }
}

impl Entry {
    /// Gets everything ready.
    pub(super) fn new(confinement: &Confinement) -> io::Result<(Entry, Report)> {
        let (reader, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let entrance = confinement
            .group()
            .map(|group| group.entrance())
            .transpose()?;
        let limit = |&(limit, most): &(Limit, Option<u64>)| {
            let both = Rlimit {
                current: most,
                maximum: most,
            };
            (resource(limit), both)
        };
        let gid = |number: &u32| Gid::from_raw(*number);
        let entry = Entry {
            entrance,
            umask: confinement.umask.map(Mode::from_raw_mode),
            nice: confinement.nice,
            limits: confinement.limits.iter().map(limit).collect(),
            identity: confinement.identity.as_ref().map(|identity| {
                let groups = identity.groups.iter().map(gid).collect();
                (Uid::from_raw(identity.uid), gid(&identity.gid), groups)
            }),
            report,
        };
        Ok((entry, Report(reader)))
    }

    /// Goes in, in the child, between fork and exec: plain system calls on what is there, no allocation, no lock.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.step(Step::Cgroup, || match &self.entrance {
            Some(entrance) => rustix::io::write(entrance, b"0").map(drop),
            None => Ok(()),
        })?;
        self.step(Step::Nice, || match self.nice {
            Some(nice) => rustix::process::setpriority_process(None, nice),
            None => Ok(()),
        })?;
        if let Some(umask) = self.umask {
            rustix::process::umask(umask);
        }
        self.step(Step::Limits, || {
            let mut limits = self.limits.iter();
            limits.try_for_each(|(resource, limit)| rustix::process::setrlimit(*resource, *limit))
        })?;
        self.step(Step::Identity, || match &self.identity {
            // Groups first: without its user's rights it could not change them any more. The child has one thread, so
            // the thread's identity is the process's.
            Some((uid, gid, groups)) => {
                rustix::thread::set_thread_groups(groups)?;
                rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
                rustix::thread::set_thread_res_uid(*uid, *uid, *uid)
            }
            None => Ok(()),
        })
    }

    fn step(&self, step: Step, work: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
        work().map_err(|error| {
            // The number of the error is all that std carries over to the parent.
            let _ = rustix::io::write(&self.report, &[step as u8]);
            error.into()
        })
    }
}

fn resource(limit: Limit) -> Resource {
    match limit {
        Limit::As => Resource::As,
        Limit::Core => Resource::Core,
        Limit::Cpu => Resource::Cpu,
        Limit::Data => Resource::Data,
        Limit::Fsize => Resource::Fsize,
        Limit::Locks => Resource::Locks,
        Limit::Msgqueue => Resource::Msgqueue,
        Limit::Nice => Resource::Nice,
        Limit::Rss => Resource::Rss,
        Limit::Rtprio => Resource::Rtprio,
        Limit::Rttime => Resource::Rttime,
        Limit::Sigpending => Resource::Sigpending,
        Limit::Memlock => Resource::Memlock,
        Limit::Nofile => Resource::Nofile,
        Limit::Nproc => Resource::Nproc,
        Limit::Stack => Resource::Stack,
    }
}
