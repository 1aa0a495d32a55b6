//! What is to be started, and how.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{self, Stdio};
use std::time::Duration;

use super::spawn::{self, Traits};
use super::{Child, reaper};

/// How long a daemon may take to end by itself, unless it is told otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// What a child does not inherit unless it is set.
const OWN_VARIABLES: [&str; 4] = [
    crate::session::SESSION_FD,
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// A program to start; [`spawn`](Self::spawn) takes it, so that nothing is started twice.
///
/// The program is looked for in PATH unless its name has a `/`. It has the streams, the folder and the environment of this
/// process unless something else is said, and nothing more of it: no descriptor that was not passed, no ignored signal.
///
/// ```
/// use std::time::Duration;
/// use aigis_plugin_api::child::{Command, Exit};
///
/// let child = Command::new("sh").args(["-c", "exit 3"]).name("three").spawn()?;
/// assert_eq!(child.join(Duration::from_secs(60)), Ok(Exit::Code(3)));
/// assert_eq!(child.to_string(), "child three stopped[code 3]");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    command: process::Command,
    name: String,
    daemon: bool,
    grace: Duration,
    traits: Traits,
    /// What went wrong before there was anybody to tell.
    failed: Option<io::Error>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// Returns a command for a program, named after the program's file.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("/bin/true");
    /// # drop(command);
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let file = Path::new(program).file_name().unwrap_or(program);
        let mut command = process::Command::new(program);
        // These speak to this process alone: what has started it, and a descriptor that the child has not.
        for own in OWN_VARIABLES {
            command.env_remove(own);
        }
        Self {
            name: file.to_string_lossy().into_owned(),
            command,
            daemon: false,
            grace: GRACE,
            traits: Traits::default(),
            failed: None,
        }
    }

    /// Adds an argument.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("sleep").arg("5");
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("sh").args(["-c", "date"]);
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("date").env("TZ", "UTC");
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Leaves a variable out of its environment.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("date").env_remove("LANG");
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Leaves everything out of its environment but what is set from here on.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("/bin/date").env_clear();
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Has it work in another folder.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("ls").current_dir("/");
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Says what it reads; with [`Stdio::piped`], from [`Child::stdin`].
    ///
    /// ```
    /// use std::process::Stdio;
    ///
    /// let command = aigis_plugin_api::child::Command::new("cat").stdin(Stdio::null());
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Says where it prints to; with [`Stdio::piped`], to [`Child::stdout`].
    ///
    /// ```
    /// use std::process::Stdio;
    ///
    /// let command = aigis_plugin_api::child::Command::new("date").stdout(Stdio::null());
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Says where its errors go to; with [`Stdio::piped`], to [`Child::stderr`].
    ///
    /// ```
    /// use std::process::Stdio;
    ///
    /// let command = aigis_plugin_api::child::Command::new("date").stderr(Stdio::null());
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Names the child, for whoever reads of it.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("python3").name("feeder");
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says whether it lives only as long as its [`Child`]: a daemon is ended when that is dropped, and killed if this
    /// process ends first, whatever ends it. What a daemon has started itself is its own to end.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("sleep").arg("1000").daemon(true).spawn()?;
    /// drop(child); // SIGTERM, and SIGKILL if that has no effect for five seconds
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Says how long it may take to end by itself before it is killed; five seconds unless said otherwise.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let command = aigis_plugin_api::child::Command::new("psql").daemon(true).grace(Duration::from_secs(30));
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Says whether it leads a process group of its own, so that Ctrl-C in the terminal is not for it.
    ///
    /// ```
    /// let command = aigis_plugin_api::child::Command::new("make").own_group(true);
    /// # drop(command);
    /// ```
    #[must_use]
    pub fn own_group(mut self, own: bool) -> Self {
        self.traits.own_group = own;
        self
    }

    /// Gives it a descriptor; `variable` of its environment says under which number. Here it is closed with
    /// [`spawn`](Self::spawn).
    ///
    /// ```
    /// use std::io::{Read, pipe};
    /// use aigis_plugin_api::child::Command;
    ///
    /// let (mut reads, writes) = pipe()?;
    /// Command::new("sh").args(["-c", "echo hello > /dev/fd/$ANSWER"]).pass("ANSWER", writes).spawn()?;
    /// let mut answer = String::new();
    /// reads.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn pass(mut self, variable: impl AsRef<OsStr>, fd: impl Into<OwnedFd>) -> Self {
        match spawn::beyond_streams(fd.into()) {
            Ok(fd) => {
                let number = OsString::from(fd.as_raw_fd().to_string());
                self.command.env(variable, number);
                self.traits.passed.push(fd);
            }
            Err(error) => self.failed = Some(error),
        }
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// The system's: there is no such program or folder, or no more processes or descriptors are to be had. In a library
    /// that a core is closing nothing is started any more.
    ///
    /// ```
    /// use aigis_plugin_api::child::Command;
    ///
    /// let error = Command::new("/no/such/program").spawn().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// assert!(error.to_string().contains("/no/such/program"));
    /// ```
    pub fn spawn(mut self) -> io::Result<Child> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let named = |error: io::Error| {
            let message = format!("`{program}` cannot be started: {error}");
            io::Error::new(error.kind(), message)
        };
        if let Some(error) = self.failed {
            return Err(named(error));
        }
        self.traits.dies_with_thread = self.daemon;
        reaper::start(
            self.command,
            self.traits,
            self.name,
            self.daemon,
            self.grace,
        )
        .map_err(named)
    }
}
