//! What a manifest says about what a plugin's processes are given and may use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the processes of a plugin are given and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Environment variables: `ENV`.
    pub env: Vec<(String, String)>,
    /// Files with lines `NAME=value`, absolute: `ENV_FILE`. A later one counts instead of an earlier one, and `ENV`
    /// instead of all of them.
    pub env_files: Vec<PathBuf>,
    /// The user, by name or number: `USER`.
    pub user: Option<String>,
    /// The group, by name or number: `GROUP`.
    pub group: Option<String>,
    /// The mask of the permissions of new files: `UMASK`.
    pub umask: Option<u32>,
    /// The niceness: `NICE`.
    pub nice: Option<i32>,
    /// Limits of each process, soft and hard; `None` for unlimited: `LIMITS`.
    pub limits: Vec<(Limit, Option<u64>)>,
    /// How many bytes of memory the whole tree may have: `MEMORY_MAX`.
    pub memory_max: Option<u64>,
    /// How many cores the whole tree may keep busy: `CPU`.
    pub cpu: Option<f64>,
}

/// A limit of `setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Address space, in bytes.
    As,
    /// A core file, in bytes.
    Core,
    /// Time on a processor, in seconds.
    Cpu,
    /// Data, in bytes.
    Data,
    /// A file that is written, in bytes.
    Fsize,
    /// File locks.
    Locks,
    /// Memory that is locked, in bytes.
    Memlock,
    /// Message queues of the user, in bytes.
    Msgqueue,
    /// The ceiling of niceness, as 20 less the niceness.
    Nice,
    /// Descriptors, one more than the highest.
    Nofile,
    /// Processes and threads of the user.
    Nproc,
    /// Resident memory, in bytes; without effect on today's Linux.
    Rss,
    /// The ceiling of the realtime priority.
    Rtprio,
    /// Time on a processor without a pause at realtime priority, in microseconds.
    Rttime,
    /// Signals of the user that are pending.
    Sigpending,
    /// The stack, in bytes.
    Stack,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// Returns the name: that of `setrlimit` in lower case, without `RLIMIT_`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }

    /// Says whether the limit is a number of bytes.
    pub fn is_in_bytes(self) -> bool {
        matches!(
            self,
            Self::As
                | Self::Core
                | Self::Data
                | Self::Fsize
                | Self::Memlock
                | Self::Msgqueue
                | Self::Rss
                | Self::Stack
        )
    }
}
