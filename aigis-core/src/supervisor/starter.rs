//! Starts and collects the core's own children, the shims.
//!
//! One thread does both, for as long as the process lives: what is tied to the thread that
//! forks (the signal at a parent's death) must not fire when some pool lets a thread go, and
//! no executor's thread waits for a fork.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::linux;
use super::shim::SHIM_ARGUMENT;
use crate::config::PluginName;
use crate::descriptors;

/// A shim: this process's child, which is collected once it has ended whatever happens, or that of a core
/// that is gone.
#[derive(Debug)]
pub(super) struct ShimProcess {
    pub(super) pid: u32,
    descriptor: Arc<OwnedFd>,
    is_child: bool,
    collecting: bool,
}

impl ShimProcess {
    /// Starts the program at `path` as a shim, and returns the connection to it.
    pub(super) async fn start(
        path: &Path,
        plugin: &PluginName,
    ) -> io::Result<(UnixStream, ShimProcess)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let mut program = Command::new(path);
        // The name is there for people who look at the list of processes.
        program
            .args([SHIM_ARGUMENT, plugin.as_str()])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (reply, started) = oneshot::channel();
        let no_thread = || io::Error::other("the thread that starts processes is not there");
        if !ask(Request::Start { program, reply }) {
            return Err(no_thread());
        }
        let shim = started.await.map_err(|_| no_thread())??;
        Ok((ours, shim))
    }

    /// Takes the shim that another core has started.
    pub(super) fn adopted(pid: u32) -> io::Result<ShimProcess> {
        Ok(ShimProcess {
            pid,
            descriptor: Arc::new(linux::exit_descriptor(pid)?),
            is_child: false,
            collecting: false,
        })
    }

    /// Returns what stands for the shim, whoever has its pid later.
    pub(super) fn descriptor(&self) -> Arc<OwnedFd> {
        self.descriptor.clone()
    }

    /// Kills the shim if it still runs, and waits until it is collected.
    pub(super) async fn finish(mut self) {
        linux::kill_by(&self.descriptor);
        self.collecting = true;
        let (reply, collected) = oneshot::channel();
        let request = Request::Collect {
            descriptor: self.descriptor.clone(),
            is_child: self.is_child,
            reply: Some(reply),
        };
        if ask(request) {
            // It can only fail together with the thread, which never ends.
            let _ = collected.await;
        }
    }
}

impl Drop for ShimProcess {
    fn drop(&mut self) {
        if !self.collecting && self.is_child {
            // It ends by itself, because its connection is closed.
            ask(Request::Collect {
                descriptor: self.descriptor.clone(),
                is_child: true,
                reply: None,
            });
        }
    }
}

enum Request {
    Start {
        program: Command,
        reply: oneshot::Sender<io::Result<ShimProcess>>,
    },
    Collect {
        descriptor: Arc<OwnedFd>,
        is_child: bool,
        reply: Option<oneshot::Sender<()>>,
    },
}

/// How the thread is spoken to.
struct Requests {
    sender: Sender<Request>,
    /// Readable as long as the thread has not looked for requests.
    wake: Arc<OwnedFd>,
}

/// Leaves a request to the thread; false if there is none.
fn ask(request: Request) -> bool {
    static REQUESTS: OnceLock<Option<Requests>> = OnceLock::new();
    let requests = REQUESTS.get_or_init(|| {
        let (sender, requests) = channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).ok()?);
        let woken = Arc::clone(&wake);
        thread::Builder::new()
            .name("aigis-starter".into())
            .spawn(move || serve(&requests, &woken))
            .ok()?;
        Some(Requests { sender, wake })
    });
    let Some(Requests { sender, wake }) = requests else {
        return false;
    };
    let is_sent = sender.send(request).is_ok();
    // It only fails if it is readable anyhow.
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
    is_sent
}

/// A shim that is about to end, whether it is this process's child, and who waits for that.
type Waiting = (Arc<OwnedFd>, bool, Option<oneshot::Sender<()>>);

fn serve(requests: &Receiver<Request>, wake: &OwnedFd) {
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        let mut events: Vec<PollFd<'_>> = vec![PollFd::new(wake, PollFlags::IN)];
        let ends = waiting.iter().map(|(descriptor, ..)| descriptor);
        events.extend(ends.map(|it| PollFd::new(it, PollFlags::IN)));
        // It can only be interrupted: looking is right then, too.
        let _ = poll(&mut events, None);
        drop(events);
        // First, so that nothing that is asked for from here on goes unnoticed.
        let _ = rustix::io::read(wake, &mut [0; 8]);
        loop {
            match requests.try_recv() {
                Ok(Request::Start { mut program, reply }) => {
                    let started = start(&mut program);
                    // The child's end of the connection is closed with this; its end is only
                    // seen when nobody else holds one.
                    drop(program);
                    // Nobody waits any more: what is dropped here is collected later.
                    let _ = reply.send(started);
                }
                Ok(Request::Collect {
                    descriptor,
                    is_child,
                    reply,
                }) => waiting.push((descriptor, is_child, reply)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        collect(&mut waiting);
    }
}

/// Collects those that have ended.
fn collect(waiting: &mut Vec<Waiting>) {
    for (descriptor, is_child, reply) in std::mem::take(waiting) {
        let is_over = match is_child {
            true => linux::reap_by(descriptor.as_fd()),
            // Whoever is its parent now collects it.
            false => linux::has_ended(descriptor.as_fd()),
        };
        if !is_over {
            waiting.push((descriptor, is_child, reply));
            continue;
        }
        // First, so that whoever waits finds nothing left.
        drop(descriptor);
        if let Some(reply) = reply {
            // If nobody waits any more, nobody has to.
            let _ = reply.send(());
        }
    }
}

fn start(program: &mut Command) -> io::Result<ShimProcess> {
    let mut child = program.spawn()?;
    // The shim's own needs are few, and what it runs has its limits from it.
    let limited = descriptors::lower_to_former(child.id());
    match limited.and_then(|()| linux::exit_descriptor(child.id())) {
        Ok(descriptor) => Ok(ShimProcess {
            pid: child.id(),
            descriptor: Arc::new(descriptor),
            is_child: true,
            collecting: false,
        }),
        Err(error) => {
            // It has not been told what to launch yet.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}
