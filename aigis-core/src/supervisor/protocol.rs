//! What the core and a shim say to each other.
//!
//! A message is its length (four bytes, little end first) and that much JSON. The core
//! begins with one [`LaunchSpec`]; after that it sends [`Command`]s and the shim [`Event`]s. To a core that
//! comes later, over the shim's own socket, the shim begins with a [`Standing`].

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Confinement, Exit, ProcessName};
use crate::config::{OnCoreDeath, PluginName};
use crate::logging::{Format, Level, Rotation, SecretValue};

/// The version of these messages; a shim refuses a spec of any other.
pub const PROTOCOL_VERSION: u32 = 2;

/// The environment variable that tells a plugin which descriptor its session grant is on.
pub const SESSION_FD_VARIABLE: &str = "AIGIS_SESSION_FD";

/// The environment variable that marks every process of one launch, wherever it goes.
pub const INVOCATION_VARIABLE: &str = "AIGIS_INVOCATION";

/// The environment variable that tells a plugin which descriptor to write a line to when it is ready.
pub const READY_FD_VARIABLE: &str = "AIGIS_READY_FD";

/// The environment variable that tells a plugin where `sd_notify` says that it is ready.
pub const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// The longest session grant, in bytes: it must fit into a pipe that nobody reads yet.
pub const MAX_GRANT_BYTES: usize = 32 * 1024;

/// Everything a shim needs to know to launch a plugin.
#[derive(Clone, Serialize, Deserialize)]
pub struct LaunchSpec {
    version: u32,
    /// The plugin's name.
    pub plugin: PluginName,
    /// The name of this one launch, unlike that of any other.
    pub invocation: String,
    /// The program: a path, relative to `cwd`, or a bare name that is looked up in the
    /// `PATH` of `env`.
    pub program: OsText,
    /// Its arguments, without the program itself.
    pub args: Vec<OsText>,
    /// The folder it runs in.
    pub cwd: OsText,
    /// Its whole environment; [`SESSION_FD_VARIABLE`] and [`INVOCATION_VARIABLE`] are added.
    pub env: Vec<(OsText, OsText)>,
    /// What it can read from its session descriptor; without it there is no descriptor.
    pub session: Option<Grant>,
    /// What each record of this launch starts with in the log, after its level; empty where the plugin
    /// has one process.
    #[serde(default)]
    pub label: String,
    /// What it is given and denied.
    #[serde(default)]
    pub confinement: Confinement,
    /// The record of the folder that its secrets are in; the shim holds it for as long as the tree lives.
    #[serde(default)]
    pub secrets_record: Option<OsText>,
    /// Its log file.
    pub log: OsText,
    /// How its log rotates.
    pub rotation: Rotation,
    /// How its log is written down.
    #[serde(default)]
    pub log_format: Format,
    /// What must not stand in its log; never shown, and not in the shim's record.
    #[serde(default)]
    pub secrets: Vec<SecretValue>,
    /// Where the shim keeps its own record.
    pub record: OsText,
    /// How long what is left of the tree has to end by itself when the leader has ended,
    /// or when the core is lost, in milliseconds.
    pub grace_ms: u64,
    /// What becomes of the plugin when its core dies, once the launch is known to have succeeded.
    pub on_core_death: OnCoreDeath,
    /// What the next core is to know of this launch; the shim keeps it, and does not look into it.
    #[serde(default)]
    pub memo: Value,
    /// The number of the signal that asks the tree to end.
    #[serde(default = "terminate")]
    pub stop_signal: i32,
    /// What the plugin says or prints when it is ready, if its shim is to listen for that.
    #[serde(default)]
    pub ready: Option<ReadySign>,
}

fn terminate() -> i32 {
    nix::libc::SIGTERM
}

/// What a plugin's shim takes for its word that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadySign {
    /// `READY=1` on the socket that [`NOTIFY_VARIABLE`] names, from a process of its tree.
    Notify,
    /// A line on the descriptor that [`READY_FD_VARIABLE`] names.
    Line,
    /// A line on one of its outputs that matches this regular expression.
    Log(String),
}

impl LaunchSpec {
    /// The time from the polite signal to the kill.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

    /// Creates the spec of `program` run in `cwd`, with an empty environment, no
    /// arguments, no session and the default log rotation and grace, to be stopped with its core.
    pub fn new(
        plugin: PluginName,
        program: impl Into<OsString>,
        cwd: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
        record: impl Into<PathBuf>,
    ) -> LaunchSpec {
        LaunchSpec {
            version: PROTOCOL_VERSION,
            plugin,
            invocation: super::process::new_invocation(),
            program: OsText(program.into()),
            args: Vec::new(),
            cwd: OsText(cwd.into().into_os_string()),
            env: Vec::new(),
            session: None,
            label: String::new(),
            confinement: Confinement::default(),
            secrets_record: None,
            log: OsText(log.into().into_os_string()),
            rotation: Rotation::default(),
            log_format: Format::default(),
            secrets: Vec::new(),
            record: OsText(record.into().into_os_string()),
            grace_ms: LaunchSpec::DEFAULT_GRACE.as_millis() as u64,
            on_core_death: OnCoreDeath::Stop,
            memo: Value::Null,
            stop_signal: terminate(),
            ready: None,
        }
    }

    /// Returns the version of the messages that this spec was made for.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Sets the arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args = args.into_iter().map(|arg| OsText(arg.into())).collect();
        self
    }

    /// Adds one variable to the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((OsText(name.into()), OsText(value.into())));
        self
    }

    /// Returns the grace as a duration.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl fmt::Debug for LaunchSpec {
    /// Leaves out the values of the environment: some people keep secrets there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("LaunchSpec")
            .field("plugin", &self.plugin)
            .field("invocation", &self.invocation)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .field("log", &self.log)
            .field("record", &self.record)
            .field("grace_ms", &self.grace_ms)
            .finish_non_exhaustive()
    }
}

/// The bytes that let a plugin open its session: endpoint and token. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(pub Vec<u8>);

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({} bytes)", self.0.len())
    }
}

/// A text of the operating system: a path, an argument, a value. In JSON a string, or an
/// array of its bytes if it is not UTF-8.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OsText(pub OsString);

impl OsText {
    /// Returns the text as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl<T: Into<OsString>> From<T> for OsText {
    fn from(text: T) -> Self {
        OsText(text.into())
    }
}

impl AsRef<OsStr> for OsText {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl fmt::Debug for OsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OsTextForm<S> {
    Text(S),
    Bytes(Vec<u8>),
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::os::unix::ffi::OsStrExt as _;
        match self.0.to_str() {
            Some(text) => OsTextForm::Text(text),
            None => OsTextForm::Bytes(self.0.as_bytes().to_vec()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use std::os::unix::ffi::OsStringExt as _;
        Ok(OsText(
            match OsTextForm::<String>::deserialize(deserializer)? {
                OsTextForm::Text(text) => text.into(),
                OsTextForm::Bytes(bytes) => OsString::from_vec(bytes),
            },
        ))
    }
}

/// How things stand with a plugin, as its shim tells a core that has not launched it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The version of the messages that the shim speaks.
    pub version: u32,
    /// The launch.
    pub invocation: String,
    /// The leader's process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
    /// When it was launched, RFC 3339.
    pub started_at: String,
    /// How the leader has ended, if it has.
    pub exit: Option<Exit>,
    /// The tree is being stopped.
    pub stopping: bool,
    /// What the core that launched it has left for this one.
    pub memo: Value,
}

/// What a shim tells the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The plugin runs.
    Started {
        /// Its process id.
        pid: u32,
        /// When it started, in clock ticks since the machine did.
        start_time: u64,
        /// When it was launched, RFC 3339.
        started_at: String,
    },
    /// The plugin has been running before this core came.
    Standing(Standing),
    /// The plugin could not be launched; nothing else follows.
    LaunchFailed {
        /// Why.
        failure: LaunchFailure,
    },
    /// The plugin has said that it is ready, as its spec's `ready` asks for.
    Ready,
    /// The plugin cannot say any more that it is ready.
    NeverReady {
        /// Why.
        reason: String,
    },
    /// What the plugin says of how it is, with `STATUS=`.
    Status {
        /// Its words.
        text: String,
    },
    /// The tree has been told to end, and these processes have not ended yet.
    Waiting {
        /// The first few dozen of them.
        processes: Vec<ProcessName>,
    },
    /// The leader has ended; parts of its tree may still run.
    Exited {
        /// How it ended.
        exit: Exit,
    },
    /// These processes have not ended even though they were killed; the shim goes on trying.
    Stuck {
        /// The processes.
        survivors: Vec<ProcessName>,
    },
    /// No process of the tree is left; nothing else follows.
    TreeGone {
        /// The processes that had to be killed, the first few dozen of them.
        killed: Vec<ProcessName>,
    },
}

/// What the core tells a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Stop the tree: politely, and by force when `grace_ms` is over.
    Stop {
        /// How long the tree has, in milliseconds.
        grace_ms: u64,
    },
    /// Kill the tree at once.
    Kill,
    /// Do this from now on when the core is lost. Until the first one of these it is a stop: the core may have
    /// died before it knew of the launch.
    OnCoreDeath {
        /// What to do.
        then: OnCoreDeath,
    },
    /// Keep this for the next core.
    Memo {
        /// What the next core is to know.
        memo: Value,
    },
    /// Write a line of the core's own into the plugin's log.
    Log {
        /// Its level.
        level: Level,
        /// Its text.
        message: String,
    },
}

/// Why a plugin could not be launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LaunchFailure {
    /// The shim is of another version than the core.
    #[error(
        "the shim speaks version {expected} of the launch protocol, the core sent version {found}; restart the core with the `aigis` that is installed now"
    )]
    Version {
        /// The shim's version.
        expected: u32,
        /// The spec's version.
        found: u32,
    },
    /// The folder to run in is missing or no folder.
    #[error("the working folder `{cwd}` does not exist or is not a folder; check ENTRYPOINT")]
    CwdMissing {
        /// The folder.
        cwd: String,
    },
    /// There is no such program.
    #[error("the program `{program}` was not found in {searched}; check LAUNCH")]
    NotFound {
        /// The program as it was given.
        program: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The program's file may not be executed.
    #[error(
        "`{path}` is not an executable file; check LAUNCH, or make it executable with `chmod +x`"
    )]
    NotExecutable {
        /// The file.
        path: String,
    },
    /// The interpreter that a script names in its first line, or the program's own loader, is missing.
    #[error("`{path}` names an interpreter that does not exist; check the script's first line")]
    NoInterpreter {
        /// The script.
        path: String,
    },
    /// The system refused to run the program.
    #[error("failed to run `{path}`: {message}")]
    Exec {
        /// The program's file.
        path: String,
        /// What the system said.
        message: String,
    },
    /// It could not be given or denied what it is to be.
    #[error("failed to {what}: {message}; the core must run as a user who may do that")]
    Confinement {
        /// What was attempted.
        what: String,
        /// What the system said.
        message: String,
    },
    /// The session grant does not fit.
    #[error("the session grant has {bytes} bytes, more than the {MAX_GRANT_BYTES} that fit")]
    GrantTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The plugin's log could not be opened.
    #[error("{message}")]
    Log {
        /// What the log said.
        message: String,
    },
    /// Another shim holds the plugin's record.
    #[error("the plugin already runs: `{record}` is locked by another shim; stop that one first")]
    AlreadyRunning {
        /// The record.
        record: String,
    },
    /// The record could not be written.
    #[error("failed to write the shim's record `{record}`: {message}")]
    Record {
        /// The record.
        record: String,
        /// What the system said.
        message: String,
    },
    /// The system refused something that a shim needs.
    #[error("failed to {what}: {message}")]
    System {
        /// What was attempted.
        what: String,
        /// What the system said.
        message: String,
    },
}

/// Writes `message` as one frame.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > MAX_MESSAGE_BYTES {
        return Err(too_long(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Reads a frame's content.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(body)?)
}

/// Returns the length that a frame's first four bytes announce.
pub(super) fn announced_length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(too_long(length));
    }
    Ok(length)
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {length} bytes, expected at most {MAX_MESSAGE_BYTES}"),
    )
}

/// Takes the first message out of `received`, if it is there in full.
pub(super) fn take_message<T: DeserializeOwned>(received: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = announced_length(*head)?;
    if received.len() < 4 + length {
        return Ok(None);
    }
    let message = decode(&received[4..4 + length])?;
    received.drain(..4 + length);
    Ok(Some(message))
}
