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
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::linux;
use super::shim::SHIM_ARGUMENT;
use crate::config::PluginName;
use crate::descriptors;

/// The wait before a child that is about to end is looked at again, at first and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

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
        // The shim's own needs are few, and what it runs has its limits from it.
        descriptors::keep_to_former(&mut program);
        let (reply, started) = oneshot::channel();
        let no_thread = || io::Error::other("the thread that starts processes is not there");
        requests()
            .send(Request::Start { program, reply })
            .map_err(|_| no_thread())?;
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
        if requests().send(request).is_ok() {
            // It can only fail together with the thread, which never ends.
            let _ = collected.await;
        }
    }
}

impl Drop for ShimProcess {
    fn drop(&mut self) {
        if !self.collecting && self.is_child {
            // It ends by itself, because its connection is closed.
            let _ = requests().send(Request::Collect {
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

fn requests() -> &'static Sender<Request> {
    static REQUESTS: OnceLock<Sender<Request>> = OnceLock::new();
    REQUESTS.get_or_init(|| {
        let (sender, requests) = channel();
        // Without the thread the receiver is dropped and every request fails.
        let _ = thread::Builder::new()
            .name("aigis-starter".into())
            .spawn(move || serve(&requests));
        sender
    })
}

fn serve(requests: &Receiver<Request>) {
    type Waiting = (Arc<OwnedFd>, bool, Option<oneshot::Sender<()>>);
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut pause = LOOK_AGAIN.0;
    loop {
        let request = if waiting.is_empty() {
            requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            requests.recv_timeout(pause)
        };
        match request {
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
            }) => {
                waiting.push((descriptor, is_child, reply));
                pause = LOOK_AGAIN.0;
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LOOK_AGAIN.1),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for (descriptor, is_child, reply) in std::mem::take(&mut waiting) {
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
}

fn start(program: &mut Command) -> io::Result<ShimProcess> {
    let mut child = program.spawn()?;
    match linux::exit_descriptor(child.id()) {
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
