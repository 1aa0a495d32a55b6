//! The client's side of a session.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Call, Expectation, Hello, Kind, MAGIC, PROTOCOL, Welcome};
use super::socket;
use crate::abi::OnOutcome;
use crate::backend::{self, Backend, Request};
use crate::error::{CallError, Failure, FailureKind, SkillFailure, timed_out};
use crate::signature::SignatureId;

/// How long a call over a session waits when nobody said otherwise.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection of this process to a core. Clones share it; it ends with the last one.
///
/// ```no_run
/// let session = aigis_plugin_api::connect(".")?;
/// let limit: usize = session.call("greeter.MAX_NAME_LENGTH", ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Session {
    shared: Arc<Handle>,
}

/// Ends the connection when the last clone of the session goes; the reader thread holds `inner`.
struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    socket: UnixStream,
    core_pid: u32,
    writer: Mutex<Writer>,
    calls: Mutex<Calls>,
    next: AtomicU64,
}

/// The writing half, and what has been announced through it: names and the ids of signatures.
struct Writer {
    stream: UnixStream,
    announced: HashSet<(String, SignatureId)>,
}

#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, Waiting>,
    /// Why the session has ended, once it has.
    ended: Option<String>,
}

struct Waiting {
    skill: String,
    done: OnOutcome,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("core_pid", &self.shared.inner.core_pid)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while one of these was held cannot leave it half changed: each holder does one thing.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Session {
    pub(crate) fn open(
        path: &Path,
        token: Option<String>,
        client: String,
    ) -> Result<Self, Failure> {
        let absent = |error: io::Error| {
            Failure::new(
                FailureKind::NotConnected,
                format!("cannot reach `{}`: {error}", path.display()),
            )
        };
        let socket = socket::connect(path).map_err(absent)?;
        let mut reader = socket.try_clone().map_err(absent)?;
        let mut writer = socket.try_clone().map_err(absent)?;
        let hello = Hello {
            magic: MAGIC.to_owned(),
            protocol: PROTOCOL,
            token,
            client,
            pid: std::process::id(),
        };
        let hello = frame::encode_frame(Kind::Hello, 0, 0, &hello)?;
        frame::write_frame(&mut writer, &hello).map_err(absent)?;
        let (header, body) = frame::read_frame(&mut reader)
            .map_err(absent)?
            .ok_or_else(|| absent(io::ErrorKind::UnexpectedEof.into()))?;
        let welcome: Welcome = match header.kind {
            Kind::Welcome => frame::decode_body(&body)?,
            Kind::Error => return Err(Failure::decode(&body)),
            other => {
                return Err(Failure::new(
                    FailureKind::NotConnected,
                    format!("the core answered the hello with a frame of kind {other:?}"),
                ));
            }
        };
        let inner = Arc::new(Inner {
            socket,
            core_pid: welcome.core_pid,
            writer: Mutex::new(Writer {
                stream: writer,
                announced: HashSet::new(),
            }),
            calls: Mutex::default(),
            next: AtomicU64::new(1),
        });
        let of_reader = Arc::clone(&inner);
        thread::Builder::new()
            .name("aigis-session".to_owned())
            .spawn(move || of_reader.read(reader))
            .map_err(|error| {
                Failure::new(
                    FailureKind::Internal,
                    format!("the thread that reads a session cannot be started: {error}"),
                )
            })?;
        Ok(Self {
            shared: Arc::new(Handle { inner }),
        })
    }

    /// Calls a skill by name and waits, at most 60 s. Arguments are a tuple by position, or a
    /// struct or map by name.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.call("greeter.greet", ("zaltu",))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<T, CallError<SkillFailure>> {
        self.call_within(name, arguments, DEFAULT_TIMEOUT)
    }

    /// Calls a skill by name and waits, at most `timeout`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.call_within("greeter.greet", ("zaltu",), Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Every [`CallError`]; the author's own error is a [`SkillFailure`].
    pub fn call_within<T: DeserializeOwned>(
        &self,
        name: &str,
        arguments: impl Serialize,
        timeout: Duration,
    ) -> Result<T, CallError<SkillFailure>> {
        backend::call_by_name(&*self.shared.inner, name, arguments, Some(timeout))
            .map_err(CallError::dynamic)
    }

    /// Runs `body` with this session as the host that imports and [`crate::call`] ask.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// let text: String = session.scope(|| aigis_plugin_api::call("greeter.greet", ("zaltu",)))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        backend::scope(self.backend(), body)
    }

    /// Returns the process id of the core.
    ///
    /// ```no_run
    /// # let session = aigis_plugin_api::connect(".")?;
    /// println!("the core is process {}", session.core_pid());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn core_pid(&self) -> u32 {
        self.shared.inner.core_pid
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.shared) as Arc<dyn Backend>
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(goodbye) = frame::frame(Kind::Goodbye, 0, 0, &[]) {
            let _ = frame::write_frame(&mut lock(&self.inner.writer).stream, &goodbye);
        }
        // Wakes the reader, which then ends what still waits.
        let _ = self.inner.socket.shutdown(Shutdown::Both);
    }
}

impl Backend for Handle {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        self.inner.call(request)
    }

    fn start(&self, request: &Request<'_>, done: OnOutcome) -> u64 {
        self.inner.start(request, done)
    }

    fn cancel(&self, call: u64) {
        self.inner.cancel(call);
    }
}

impl Backend for Inner {
    fn call(&self, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
        let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if backend::must_not_block() {
            return Err(backend::would_block(request.name));
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let call = self.start(
            request,
            Box::new(move |outcome| {
                // The caller has given up: nobody is left to tell.
                let _ = sender.send(outcome);
            }),
        );
        match receiver.recv_timeout(timeout) {
            Ok(outcome) => outcome,
            Err(_) => {
                self.forget(call);
                Err(timed_out(request.name, timeout))
            }
        }
    }

    fn start(&self, request: &Request<'_>, done: OnOutcome) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut calls = lock(&self.calls);
            if let Some(reason) = &calls.ended {
                let failure = gone(request.name, reason);
                drop(calls);
                done(Err(failure));
                return number;
            }
            let skill = request.name.to_owned();
            calls.waiting.insert(number, Waiting { skill, done });
        }
        if let Err(failure) = self.send(number, request)
            && let Some(waiting) = lock(&self.calls).waiting.remove(&number)
        {
            (waiting.done)(Err(failure.of_skill(request.name)));
        }
        number
    }

    fn cancel(&self, call: u64) {
        if let Some(waiting) = self.forget(call) {
            let failure = Failure::new(
                FailureKind::Cancelled,
                format!("the call of {} was cancelled", waiting.skill),
            );
            (waiting.done)(Err(failure.of_skill(&waiting.skill)));
        }
    }
}

fn gone(skill: &str, reason: &str) -> Failure {
    Failure::new(
        FailureKind::CoreGone,
        format!("the core is gone ({reason}); whether {skill} ran is unknown"),
    )
    .of_skill(skill)
}

impl Inner {
    fn send(&self, number: u64, request: &Request<'_>) -> Result<(), Failure> {
        let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let call = Call {
            name: request.name,
            expects: request.expected.map(|expected| expected.id),
            arguments: request.arguments,
        };
        let call = frame::encode_frame(Kind::Call, number, timeout_ms, &call)?;
        // An expectation is written before any call that names it, so both are settled under the
        // writer's lock: another thread's first call must not overtake it.
        let mut writer = lock(&self.writer);
        let written = self
            .announce(&mut writer, request)
            .and_then(|()| frame::write_frame(&mut writer.stream, &call));
        written.map_err(|error| gone(request.name, &error.to_string()))
    }

    /// Tells the core what an import expects, once a session.
    fn announce(&self, writer: &mut Writer, request: &Request<'_>) -> io::Result<()> {
        let Some(expected) = request.expected else {
            return Ok(());
        };
        let key = (request.name.to_owned(), expected.id);
        if writer.announced.contains(&key) {
            return Ok(());
        }
        let expectation = Expectation {
            name: request.name.to_owned(),
            signature: expected.signature.clone(),
        };
        let bytes =
            frame::encode_frame(Kind::Expect, 0, 0, &expectation).map_err(io::Error::other)?;
        frame::write_frame(&mut writer.stream, &bytes)?;
        writer.announced.insert(key);
        Ok(())
    }

    /// Stops waiting for a call, and tells the core.
    fn forget(&self, call: u64) -> Option<Waiting> {
        let waiting = lock(&self.calls).waiting.remove(&call)?;
        if let Ok(cancel) = frame::frame(Kind::Cancel, call, 0, &[]) {
            // When the core is gone there is nothing to cancel.
            let _ = frame::write_frame(&mut lock(&self.writer).stream, &cancel);
        }
        Some(waiting)
    }

    /// Hands every answer to whoever waits for it, until the session ends.
    fn read(&self, mut stream: UnixStream) {
        backend::forbid_blocking();
        let reason = loop {
            match frame::read_frame(&mut stream) {
                Ok(Some((header, body))) => {
                    let outcome = match header.kind {
                        Kind::Reply => Ok(body),
                        Kind::Error if header.call != 0 => Err(Failure::decode(&body)),
                        Kind::Error => break Failure::decode(&body).message,
                        Kind::Goodbye => break "it said goodbye".to_owned(),
                        other => break format!("it sent a frame of kind {other:?}"),
                    };
                    let waiting = lock(&self.calls).waiting.remove(&header.call);
                    // A call that was given up is not waited for any more.
                    if let Some(waiting) = waiting {
                        let outcome = outcome.map_err(|f: Failure| f.of_skill(&waiting.skill));
                        crate::library::contain_callback(|| (waiting.done)(outcome));
                    }
                }
                Ok(None) => break "it closed the connection".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        let waiting = {
            let mut calls = lock(&self.calls);
            calls.ended = Some(reason.clone());
            std::mem::take(&mut calls.waiting)
        };
        for waiting in waiting.into_values() {
            let failure = gone(&waiting.skill, &reason);
            crate::library::contain_callback(|| (waiting.done)(Err(failure)));
        }
    }
}
