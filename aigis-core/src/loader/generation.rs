//! One loaded version of one plugin's library.

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Description, Failure, FailureKind, Grant};
use aigis_plugin_api::abi::{Buffer, Descriptor, HostApi, SYMBOL, Status};
use aigis_plugin_api::codec;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::host_api::{self, HostContext};
use super::{Entry, LoadError, Services, linux};
use crate::config::PluginName;
use crate::logging::Level;

/// How long a plugin's `new` may take.
const NEW_DEADLINE: Duration = Duration::from_secs(60);

/// How often a shutdown is looked for meanwhile.
const CLOSING_CHECK: Duration = Duration::from_millis(100);

/// A loaded and open library. Whoever holds it can call its skills; when the last holder lets go,
/// its `cleanup` runs.
pub(crate) struct Generation {
    plugin: PluginName,
    number: u64,
    descriptor: &'static Descriptor,
    services: Weak<dyn Services>,
    /// What must be there for as long as the generation, such as its secrets.
    held: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Told how the end goes on.
    ending: Option<Sender<Ending>>,
}

/// How far the end of a generation is; how its `cleanup` went is in the plugin's log.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The last call has left; `cleanup` runs.
    Cleanup,
    /// `cleanup` has run.
    Over,
}

/// A generation that has just been opened.
pub(crate) struct Opened {
    pub(crate) generation: Arc<Generation>,
    pub(crate) description: Description,
    /// How many threads its constructors have left running.
    pub(crate) threads: usize,
    /// Hears of the generation's end.
    pub(crate) ending: Receiver<Ending>,
}

impl Generation {
    pub(crate) fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Runs skill `index` with encoded arguments.
    pub(crate) fn call(&self, index: u32, arguments: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut out = Buffer::default();
        let status = (self.descriptor.call)(index, arguments.into(), &mut out);
        // Copied and freed here, while the library is certain to be there.
        read(status, out)
    }

    /// Keeps `what` until the generation's `cleanup` has run. Once.
    pub(crate) fn hold(&self, what: impl Any + Send + Sync) {
        let held = self.held.set(Box::new(what));
        debug_assert!(held.is_ok(), "a generation holds one thing");
    }

    pub(super) fn entry(&self, index: u32) -> Entry {
        Entry((self.descriptor.direct)(index))
    }
}

fn read(status: Status, out: Buffer) -> Result<Vec<u8>, Failure> {
    match status {
        Status::Ok => Ok(out.into_vec()),
        Status::Failed | Status::Absent => Err(Failure::decode(out.as_slice())),
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let Some(ending) = self.ending.take() else {
            return;
        };
        let descriptor = self.descriptor;
        let (plugin, number) = (self.plugin.clone(), self.number);
        let services = Weak::clone(&self.services);
        let held = self.held.take();
        // Whoever happened to let go last, a caller among them, must not wait for a `cleanup`.
        let spawned = thread::Builder::new()
            .name(format!("close-{plugin}-{number}"))
            .spawn(move || {
                // Nobody listens any more when the host has given up waiting.
                let _ = ending.send(Ending::Cleanup);
                let mut error = Buffer::default();
                let status = (descriptor.close)(&mut error);
                let outcome = read(status, error).map(|_| ());
                if let Some(services) = services.upgrade() {
                    report(&*services, &plugin, number, &outcome);
                }
                drop(held);
                let _ = ending.send(Ending::Over);
            });
        if let (Err(error), Some(services)) = (spawned, self.services.upgrade()) {
            let message = format!("cleanup skipped, no thread can be started for it: {error}");
            services.log(&self.plugin, Level::Error, &message);
        }
    }
}

fn report(
    services: &dyn Services,
    plugin: &PluginName,
    number: u64,
    outcome: &Result<(), Failure>,
) {
    match outcome {
        Ok(()) => {
            let message = format!("generation {number} has ended");
            services.log(plugin, Level::Info, &message);
        }
        Err(failure) => {
            let message = format!(
                "PROBLEM CLEANING UP {plugin}, CLEANUP SKIPPED! CHECK YOUR RESOURCES. {failure}"
            );
            services.log(plugin, Level::Error, &message);
        }
    }
}

/// Opens a library that has passed the probe, under a file name that was never used before: for a
/// name it knows, the system's loader returns the code that it has already.
pub(crate) fn open(
    library: &Path,
    copies: &Path,
    grant: &Grant,
    plugin: &PluginName,
    services: &Arc<dyn Services>,
) -> Result<Opened, LoadError> {
    let number = grant.generation;
    let copy = copy(library, copies, plugin, number)?;
    let unfit = |message: String| LoadError::Unfit(message);
    // SAFETY: the probe has opened this very file, run its constructors and come back.
    let opened = unsafe { Library::open(Some(&copy), RTLD_NOW | RTLD_LOCAL) };
    let opened = opened.map_err(|error| unfit(error.to_string()))?;
    // SAFETY: the probe has found the symbol in this file and checked, before anything else, that
    // it is a descriptor of this ABI version with this layout.
    let descriptor = unsafe { opened.get::<*const Descriptor>(SYMBOL.as_bytes()) }
        .map_err(|error| unfit(error.to_string()))?
        .into_raw()
        .cast::<Descriptor>();
    // The library is never closed again, so what points into it is valid for good.
    std::mem::forget(opened);
    // SAFETY: as above; the pointer is not null, a symbol was found.
    let descriptor: &'static Descriptor = unsafe { &*descriptor };

    let mut description = Buffer::default();
    let status = (descriptor.describe)(&mut description);
    let description = read(status, description).map_err(LoadError::Open)?;
    let description: Description = codec::from_slice(&description)
        .map_err(|error| unfit(format!("the library's description cannot be read: {error}")))?;

    let grant = codec::to_vec(grant)
        .map_err(|error| LoadError::Open(Failure::new(FailureKind::Internal, error.to_string())))?;
    let context: &'static HostContext = Box::leak(Box::new(HostContext::new(
        plugin.clone(),
        Arc::downgrade(services),
    )));
    let api: &'static HostApi = Box::leak(Box::new(host_api::of(context)));
    let threads = construct(descriptor, api, grant, &**services)?;

    let (ending, hears) = mpsc::channel();
    let generation = Arc::new(Generation {
        plugin: plugin.clone(),
        number,
        descriptor,
        services: Arc::downgrade(services),
        held: OnceLock::new(),
        ending: Some(ending),
    });
    context.belongs_to(&generation);
    Ok(Opened {
        generation,
        description,
        threads,
        ending: hears,
    })
}

thread_local! {
    /// Whether this thread runs a plugin's constructors.
    static CONSTRUCTING: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this call comes from a plugin's `new`.
pub(crate) fn is_constructing() -> bool {
    CONSTRUCTING.get()
}

/// Runs the constructors, on a thread of their own: one that never returns must not take the core
/// with it. Returns how many threads they have left running.
fn construct(
    descriptor: &'static Descriptor,
    api: &'static HostApi,
    grant: Vec<u8>,
    services: &dyn Services,
) -> Result<usize, LoadError> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (sender, outcome) = mpsc::channel();
    let spawned = thread::Builder::new()
        // Unlike any other: by it the threads are known that the constructors start.
        .name(format!(
            "aigis-new-{}",
            NEXT.fetch_add(1, Ordering::Relaxed)
        ))
        .spawn(move || {
            CONSTRUCTING.set(true);
            let mut error = Buffer::default();
            let status = (descriptor.open)(api, grant.as_slice().into(), &mut error);
            let started = linux::threads_started_here();
            // Nobody listens any more when it took too long.
            let _ = sender.send(read(status, error).map(|_| started));
        });
    spawned.map_err(LoadError::Thread)?;
    let begun = Instant::now();
    loop {
        match outcome.recv_timeout(CLOSING_CHECK) {
            Ok(outcome) => return outcome.map_err(LoadError::Open),
            Err(RecvTimeoutError::Disconnected) => return Err(LoadError::Stuck(begun.elapsed())),
            Err(RecvTimeoutError::Timeout) => {
                if begun.elapsed() > NEW_DEADLINE || services.is_closing() {
                    return Err(LoadError::Stuck(begun.elapsed()));
                }
            }
        }
    }
}

fn copy(
    library: &Path,
    copies: &Path,
    plugin: &PluginName,
    number: u64,
) -> Result<PathBuf, LoadError> {
    let failed = |source| LoadError::Copy {
        path: library.to_owned(),
        source,
    };
    let file = tempfile::Builder::new()
        .prefix(&format!("{plugin}-{number}-"))
        .suffix(".so")
        .tempfile_in(copies)
        .map_err(failed)?;
    fs::copy(library, file.path()).map_err(failed)?;
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    Ok(path)
}
