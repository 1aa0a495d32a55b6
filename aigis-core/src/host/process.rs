//! The processes of a plugin: launched, watched, launched again, stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{mpsc, oneshot};

use super::Inner;
use super::isolated::Isolated;
use super::launch::{CommandLine, command, seed};
use super::memo::Memo;
use super::plugin::Plugin;
use super::prepare::Prepared;
use super::processes::Role;
use super::readiness;
use super::secrets::Delivered;
use super::secrets_place::SecretsPaths;
use super::step::Step;
use super::watch::Watch;
use crate::config::{Manifest, Readiness, ReadyWhen, RestartOptions};
use crate::supervisor::{EndedRecord, RestartPolicy, Supervised};

/// How often the process of an isolated library is launched again where its plugin has no `RESTART`.
pub(super) const ISOLATED_RESTARTS: u32 = 10;

/// A launched process; a task of its own watches it.
pub(crate) struct Process {
    /// Tells this launch from every other.
    id: u64,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl Process {
    /// Returns what tells this launch from every other.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// Stops processes and their whole trees, all at once, and waits until they are gone. Blocks.
pub(crate) fn stop(processes: Vec<Process>, inner: &Inner) {
    inner.wait_on(async {
        let mut ending = Vec::new();
        for process in &processes {
            let (done, gone) = oneshot::channel();
            if process.stop.send(done).await.is_ok() {
                ending.push(gone);
            }
        }
        for gone in ending {
            // The task ends either way; then everything is gone.
            let _ = gone.await;
        }
    });
}

/// Waits until the watches of processes are over, which have been told to let go. Blocks.
pub(super) fn wait_let_go(processes: Vec<Process>, inner: &Inner) {
    inner.wait_on(async {
        for process in &processes {
            process.stop.closed().await;
        }
    });
}

/// What the processes of one program have in common.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) manifest: Arc<Manifest>,
    pub(super) launch: CommandLine,
    /// How many processes run it.
    pub(super) of: u32,
    /// What all of them have been given, while one of them has it.
    pub(super) secrets: Arc<Mutex<Weak<Delivered>>>,
    /// When one of them is ready.
    pub(super) readiness: Readiness,
    /// The plugin has a library as well.
    pub(super) has_library: bool,
}

/// How the watch of a process begins.
pub(super) enum Start {
    /// It is launched, as the generation of this number.
    Launch(u64, Option<Arc<Delivered>>),
    /// It runs already; with its share in its secrets, if they are there.
    TakenOver(Box<Supervised>, Box<Memo>, Option<Arc<Delivered>>),
    /// It has ended while nobody watched.
    Ended(Box<EndedRecord>, Box<Memo>),
}

/// Launches the processes of a plugin's program, as its generation `number`, and hands each to a task
/// that watches it. Blocks until they are launched; if one cannot be, none is left.
pub(crate) fn start(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    prepared: Prepared,
    number: u64,
    secrets: Delivered,
) -> Result<Vec<Process>, Step> {
    let Some(launch) = command(plugin, &prepared) else {
        return Err(Step::Prepare(std::io::Error::other(
            "there is nothing to launch: the build made no program",
        )));
    };
    let of = prepared.manifest.instances.unwrap_or(1);
    let secrets = Arc::new(secrets);
    let artifacts = prepared.artifacts.as_ref();
    let program = Program {
        has_library: artifacts.is_some_and(|made| made.library.is_some()),
        readiness: readiness::of(&prepared.manifest),
        manifest: Arc::new(prepared.manifest),
        launch,
        of,
        secrets: Arc::new(Mutex::new(Arc::downgrade(&secrets))),
    };
    plugin.begins(inner, of);
    let mut processes = Vec::new();
    for instance in 0..of {
        let how = Start::Launch(number, Some(Arc::clone(&secrets)));
        match begin(inner, plugin, &program, instance, how) {
            Ok(process) => processes.push(process),
            Err(step) => {
                stop(processes, inner);
                plugin.forget_processes();
                return Err(step);
            }
        }
    }
    Ok(processes)
}

/// Hands one process of a program to a task that watches it. Blocks until it is launched.
pub(super) fn begin(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    program: &Program,
    instance: u32,
    how: Start,
) -> Result<Process, Step> {
    watched(inner, how, |id, stops| Watch {
        id,
        inner: Arc::clone(inner),
        plugin: Arc::clone(plugin),
        role: Role::Program(instance),
        policy: RestartPolicy::new(&program.manifest.restart, seed(plugin, instance)),
        program: program.clone(),
        library_secrets: None,
        isolated: None,
        stops,
        memo: None,
        last: None,
    })
}

/// Launches the process of an isolated library, as its generation `number`. Blocks until it is
/// launched.
pub(super) fn start_isolated(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    isolated: &Arc<Isolated>,
    manifest: &Manifest,
    arguments: Vec<String>,
    secrets: Option<&SecretsPaths>,
) -> Result<Process, Step> {
    let launch = CommandLine {
        program: inner.program.clone(),
        arguments,
    };
    let standard = RestartOptions::times(ISOLATED_RESTARTS);
    let restart = if manifest.restart_given {
        &manifest.restart
    } else {
        &standard
    };
    let policy = RestartPolicy::new(restart, seed(plugin, 0));
    let program = Program {
        readiness: Readiness::new(ReadyWhen::Session),
        manifest: Arc::new(manifest.clone()),
        launch,
        of: 1,
        secrets: Arc::default(),
        has_library: true,
    };
    let how = Start::Launch(isolated.number(), None);
    watched(inner, how, |id, stops| Watch {
        id,
        inner: Arc::clone(inner),
        plugin: Arc::clone(plugin),
        role: Role::Library,
        policy,
        program,
        library_secrets: secrets.cloned(),
        isolated: Some(Arc::clone(isolated)),
        stops,
        memo: None,
        last: None,
    })
}

fn watched(
    inner: &Inner,
    how: Start,
    watch: impl FnOnce(u64, mpsc::Receiver<oneshot::Sender<()>>) -> Watch,
) -> Result<Process, Step> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (stop, stops) = mpsc::channel(1);
    let (first, launched) = oneshot::channel();
    inner.runtime.spawn(watch(id, stops).run(how, first));
    match inner.wait_on(launched) {
        Ok(outcome) => outcome.map(|()| Process { id, stop }),
        Err(_) => Err(Step::Closing),
    }
}
