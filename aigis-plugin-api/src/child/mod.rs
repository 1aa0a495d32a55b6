//! Child processes whose end is noticed: none stays behind as a zombie, whether or not anybody waits for it.
//!
//! ```
//! use std::time::Duration;
//! use aigis_plugin_api::child::{Command, Exit};
//!
//! let feeder = Command::new("sleep").arg("1000").name("feeder").daemon(true).spawn()?;
//! feeder.on_exit(|exit| println!("the feeder has ended: {exit}"));
//! assert!(feeder.is_alive());
//!
//! feeder.terminate()?;
//! assert_eq!(feeder.join(Duration::from_secs(60)), Ok(Exit::Signal(15)));
//! assert_eq!(feeder.to_string(), "child feeder stopped[SIGTERM]");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! One thread looks after all children of a program, or of a loaded library, and is there as long as they are. When a core
//! retires a library, the children that are left are ended with it: asked to, and killed when their
//! [`grace`](Command::grace) is over; what is to outlive a reload is launched as a plugin of its own. In an async function a child
//! is awaited by its [`exited`](Child::exited). Linux 5.4 is needed, on a
//! 64-bit machine.

mod command;
mod exit;
mod reaper;
mod spawn;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::sleep::TimedOut;
pub use command::Command;
pub use exit::Exit;
#[doc(hidden)]
pub use reaper::at_rest;
pub(crate) use reaper::close;

type Callback = Box<dyn FnOnce(Exit) + Send>;

/// A process that this one has started.
///
/// Dropped, a [daemon](Command::daemon) is ended and any other goes on; either is collected when it ends.
pub struct Child {
    /// Its standard input, with [`Stdio::piped`](std::process::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// Its standard output, with [`Stdio::piped`](std::process::Stdio::piped).
    pub stdout: Option<ChildStdout>,
    /// Its standard error, with [`Stdio::piped`](std::process::Stdio::piped).
    pub stderr: Option<ChildStderr>,
    life: Arc<Life>,
    name: String,
    pid: u32,
    daemon: bool,
}

/// What is known of a process, for everybody who waits for its end.
struct Life {
    state: Mutex<State>,
    ended: Condvar,
    /// By which the reaper knows it.
    token: Token,
}

#[derive(Default)]
struct Token(AtomicU64);

impl Token {
    fn store(&self, token: u64) {
        self.0.store(token, Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct State {
    /// While it has not been collected: so long its number is nobody else's, and no signal can miss.
    pidfd: Option<OwnedFd>,
    exit: Option<Exit>,
    wakers: Vec<(u64, Waker)>,
    /// The next number of a future.
    next: u64,
    callbacks: Vec<Callback>,
}

impl Life {
    fn new(pidfd: Option<OwnedFd>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                pidfd,
                exit: None,
                wakers: Vec::new(),
                next: 0,
                callbacks: Vec::new(),
            }),
            ended: Condvar::new(),
            token: Token::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, signal: i32) -> io::Result<bool> {
        match &self.lock().pidfd {
            Some(pidfd) => spawn::send(pidfd, signal),
            None => Ok(false),
        }
    }

    /// Tells everybody that it has ended.
    fn finish(&self, exit: Exit) {
        let (wakers, callbacks) = {
            let mut state = self.lock();
            state.exit = Some(exit);
            self.ended.notify_all();
            let wakers = std::mem::take(&mut state.wakers);
            (wakers, std::mem::take(&mut state.callbacks))
        };
        for (_, waker) in wakers {
            contain(|| waker.wake());
        }
        for callback in callbacks {
            contain(|| callback(exit));
        }
    }
}

/// Runs what others have left here; its panic is in the log, as every panic is, and ends nothing else.
fn contain(body: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(body));
}

impl Child {
    /// Returns the number that the system has given it. It may be another's once the child has ended; none of the
    /// functions here can meet that one.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("true").spawn()?;
    /// assert_ne!(child.pid(), std::process::id());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns its name: the one that it was given, or that of its program.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("true").spawn()?;
    /// assert_eq!(child.name(), "true");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how it has ended; `None` while it is alive.
    ///
    /// ```
    /// use aigis_plugin_api::child::{Command, Exit};
    ///
    /// let child = Command::new("true").spawn()?;
    /// child.wait();
    /// assert_eq!(child.exit(), Some(Exit::Code(0)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn exit(&self) -> Option<Exit> {
        self.life.lock().exit
    }

    /// Tells whether it has not ended yet.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("true").spawn()?;
    /// child.wait();
    /// assert!(!child.is_alive());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_alive(&self) -> bool {
        self.exit().is_none()
    }

    /// Waits until it has ended. Blocks.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("false").spawn()?;
    /// assert_eq!(child.wait().as_i32(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&self) -> Exit {
        let mut state = self.life.lock();
        loop {
            if let Some(exit) = state.exit {
                return exit;
            }
            let woken = self.life.ended.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it has ended, at most for a time. Blocks.
    ///
    /// # Errors
    /// It was still alive when the time was over; nothing has happened to it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aigis_plugin_api::child::Command;
    ///
    /// let child = Command::new("sleep").arg("1000").daemon(true).spawn()?;
    /// assert!(child.join(Duration::from_millis(10)).is_err());
    /// assert!(child.is_alive());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn join(&self, timeout: Duration) -> Result<Exit, TimedOut> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return Ok(self.wait());
        };
        let mut state = self.life.lock();
        loop {
            if let Some(exit) = state.exit {
                return Ok(exit);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TimedOut { after: timeout });
            }
            let woken = self.life.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns a future of its end, which holds no thread and keeps nothing from the child.
    ///
    /// ```
    /// use aigis_plugin_api::{Context, TimedOut};
    /// use aigis_plugin_api::child::{Child, Exit};
    /// use std::time::Duration;
    ///
    /// async fn end(child: &Child, ctx: &Context) -> Result<Exit, TimedOut> {
    ///     ctx.timeout(Duration::from_secs(5), child.exited()).await
    /// }
    /// ```
    pub fn exited(&self) -> Exited {
        let mut state = self.life.lock();
        state.next += 1;
        Exited {
            life: Arc::clone(&self.life),
            number: state.next,
        }
    }

    /// Has `callback` run when it ends; at once, on this thread, if it has ended already.
    ///
    /// Otherwise it runs on the thread that waits for all children: it is to be quick, and must not wait for one itself.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use aigis_plugin_api::child::{Command, Exit};
    ///
    /// let (tells, told) = mpsc::channel();
    /// let child = Command::new("true").spawn()?;
    /// child.on_exit(move |exit| tells.send(exit).unwrap());
    /// assert_eq!(told.recv(), Ok(Exit::Code(0)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_exit(&self, callback: impl FnOnce(Exit) + Send + 'static) {
        let mut state = self.life.lock();
        match state.exit {
            None => state.callbacks.push(Box::new(callback)),
            Some(exit) => {
                drop(state);
                contain(|| callback(exit));
            }
        }
    }

    /// Asks it to end, with SIGTERM; tells whether it was still there.
    ///
    /// # Errors
    /// The system does not allow it: the child has become another user's.
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("sleep").arg("1000").spawn()?;
    /// assert!(child.terminate()?);
    /// assert_eq!(child.wait().as_i32(), -15);
    /// assert!(!child.terminate()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn terminate(&self) -> io::Result<bool> {
        self.signal(Signal::TERM.as_raw())
    }

    /// Ends it, with SIGKILL; tells whether it was still there.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("sleep").arg("1000").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait().as_i32(), -9);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill(&self) -> io::Result<bool> {
        self.signal(Signal::KILL.as_raw())
    }

    /// Sends it a signal, by number; tells whether it was still there. No other process ever gets it.
    ///
    /// # Errors
    /// There is no such signal; or as [`terminate`](Self::terminate).
    ///
    /// ```
    /// let child = aigis_plugin_api::child::Command::new("sleep").arg("1000").spawn()?;
    /// child.signal(2)?;
    /// assert_eq!(child.wait().to_string(), "signal 2 (SIGINT)");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        self.life.send(signal)
    }
}

/// Shows its name and how it is.
///
/// ```
/// let child = aigis_plugin_api::child::Command::new("sleep").arg("1000").name("feeder").spawn()?;
/// assert_eq!(child.to_string(), format!("child feeder running[pid {}]", child.pid()));
/// child.kill()?;
/// child.wait();
/// assert_eq!(child.to_string(), "child feeder stopped[SIGKILL]");
/// # Ok::<(), std::io::Error>(())
/// ```
impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "child {} ", self.name)?;
        let Some(exit) = self.exit() else {
            return write!(f, "running[pid {}]", self.pid);
        };
        match exit {
            Exit::Signal(signal) if let Some(name) = exit::signal_name(signal) => {
                write!(f, "stopped[{name}]")
            }
            exit => write!(f, "stopped[{exit}]"),
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("pid", &self.pid)
            .field("exit", &self.exit())
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.daemon && self.is_alive() {
            reaper::end(self.life.token.load());
        }
    }
}

/// The end of a child, to be awaited; made by [`Child::exited`].
///
/// ```
/// use aigis_plugin_api::child::{Child, Exit};
///
/// async fn both(one: &Child, other: &Child) -> [Exit; 2] {
///     let (one, other) = (one.exited(), other.exited());
///     [one.await, other.await]
/// }
/// ```
#[must_use = "a future does nothing unless it is awaited"]
pub struct Exited {
    life: Arc<Life>,
    number: u64,
}

impl fmt::Debug for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exited")
            .field("exit", &self.life.lock().exit)
            .finish_non_exhaustive()
    }
}

impl Future for Exited {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Exit> {
        let waker = context.waker().clone();
        let mut state = self.life.lock();
        if let Some(exit) = state.exit {
            return Poll::Ready(exit);
        }
        let number = self.number;
        let known = state.wakers.iter_mut().find(|(of, _)| *of == number);
        let before = match known {
            Some((_, known)) => Some(std::mem::replace(known, waker)),
            None => {
                state.wakers.push((number, waker));
                None
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        let mut state = self.life.lock();
        let own = state.wakers.iter().position(|(of, _)| *of == self.number);
        let waker = own.map(|own| state.wakers.swap_remove(own));
        drop(state);
        drop(waker);
    }
}
