//! The processes of a plugin: launched, watched, launched again, stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::isolated::Isolated;
use super::launch::{CommandLine, command, label, seed, spec};
use super::plugin::Plugin;
use super::prepare::Prepared;
use super::processes::{Condition, Role};
use super::secrets::Delivered;
use super::step::Step;
use super::{Inner, State, lock};
use crate::config::{Manifest, PluginKind, RestartOptions};
use crate::loader::{LoadError, NEW_DEADLINE, PROBE_DEADLINE};
use crate::logging::Level;
use crate::supervisor::{Decision, Exit, Grant, LaunchSpec, RestartPolicy, StopReport, Supervised};

/// How long an internal plugin may take from its launch to its session.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How often the process of an isolated library is launched again where its plugin has no `RESTART`.
pub(super) const ISOLATED_RESTARTS: u32 = 10;

/// Longer than anything takes.
const NEVER: Duration = Duration::from_hours(24 * 365);

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
    let manifest = Arc::new(prepared.manifest);
    let secrets = Arc::new(secrets);
    let shared = Arc::new(Mutex::new(Arc::downgrade(&secrets)));
    plugin.begins(inner, of);
    let mut processes = Vec::new();
    for instance in 0..of {
        let launched = launch_first(inner, number, Some(Arc::clone(&secrets)), |id, stops| {
            Watch {
                id,
                inner: Arc::clone(inner),
                plugin: Arc::clone(plugin),
                role: Role::Program(instance),
                of,
                policy: RestartPolicy::new(&manifest.restart, seed(plugin, instance)),
                manifest: Arc::clone(&manifest),
                launch: launch.clone(),
                secrets: Arc::clone(&shared),
                isolated: None,
                stops,
            }
        });
        match launched {
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

/// Launches the process of an isolated library, as its generation `number`. Blocks until it is
/// launched.
pub(super) fn start_isolated(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    isolated: &Arc<Isolated>,
    manifest: &Manifest,
    arguments: Vec<String>,
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
    launch_first(inner, isolated.number(), None, |id, stops| Watch {
        id,
        inner: Arc::clone(inner),
        plugin: Arc::clone(plugin),
        role: Role::Library,
        of: 1,
        policy,
        manifest: Arc::new(manifest.clone()),
        launch,
        secrets: Arc::default(),
        isolated: Some(Arc::clone(isolated)),
        stops,
    })
}

fn launch_first(
    inner: &Inner,
    number: u64,
    secrets: Option<Arc<Delivered>>,
    watch: impl FnOnce(u64, mpsc::Receiver<oneshot::Sender<()>>) -> Watch,
) -> Result<Process, Step> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (stop, stops) = mpsc::channel(1);
    let (first, launched) = oneshot::channel();
    inner
        .runtime
        .spawn(watch(id, stops).run(number, secrets, first));
    match inner.wait_on(launched) {
        Ok(outcome) => outcome.map(|()| Process { id, stop }),
        Err(_) => Err(Step::Closing),
    }
}

/// Watches one process of a plugin, over its restarts.
struct Watch {
    id: u64,
    inner: Arc<Inner>,
    plugin: Arc<Plugin>,
    role: Role,
    /// How many processes run the same program.
    of: u32,
    manifest: Arc<Manifest>,
    launch: CommandLine,
    policy: RestartPolicy,
    /// What all instances have been given, while one of them has it.
    secrets: Arc<Mutex<Weak<Delivered>>>,
    /// The library that it runs.
    isolated: Option<Arc<Isolated>>,
    /// Who asks for a stop is told when everything is gone.
    stops: mpsc::Receiver<oneshot::Sender<()>>,
}

/// One launch.
struct Invocation {
    supervised: Supervised,
    _token: Token,
    session: Option<oneshot::Receiver<()>>,
    started: Instant,
    /// How long it may take to be ready.
    limit: Duration,
    _secrets: Option<Arc<Delivered>>,
}

/// What an invocation may present at the socket; worth nothing once it has ended.
struct Token {
    inner: Arc<Inner>,
    text: String,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.inner.revoke(&self.text);
    }
}

/// What happened to a running invocation.
enum Happened {
    Ended(Exit),
    Stop(Option<oneshot::Sender<()>>),
    NotReady,
}

impl Watch {
    async fn run(
        mut self,
        number: u64,
        secrets: Option<Arc<Delivered>>,
        first: oneshot::Sender<Result<(), Step>>,
    ) {
        let mut invocation = match self.launch(number, secrets, true).await {
            Ok(invocation) => {
                // Whoever waits may have been told to go.
                let _ = first.send(Ok(()));
                invocation
            }
            Err(step) => {
                let _ = first.send(Err(step));
                return;
            }
        };
        loop {
            let exit = match self.watch(&mut invocation).await {
                Happened::Ended(exit) => exit,
                Happened::Stop(done) => {
                    let report = invocation.supervised.stop(self.grace()).await;
                    self.report_stop(&report);
                    drop(invocation);
                    self.end(done);
                    return;
                }
                Happened::NotReady => {
                    let after = invocation.limit;
                    let grace = LaunchSpec::DEFAULT_GRACE;
                    let report = invocation.supervised.stop(grace).await;
                    self.report_stop(&report);
                    drop(invocation);
                    let step = match self.role {
                        Role::Library => Step::Load(LoadError::Stuck("new", after)),
                        Role::Program(_) => Step::NotReady { after },
                    };
                    self.bury_failed(step).await;
                    return;
                }
            };
            let ran_for = invocation.started.elapsed();
            drop(invocation);
            invocation = match self.after_exit(exit, ran_for).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    async fn watch(&mut self, invocation: &mut Invocation) -> Happened {
        let pid = invocation.supervised.pid();
        if let Some(mut session) = invocation.session.take() {
            tokio::select! {
                exit = invocation.supervised.wait() => return Happened::Ended(exit),
                stop = self.stops.recv() => return Happened::Stop(stop),
                up = &mut session => {
                    if up.is_err() {
                        return Happened::Stop(None);
                    }
                }
                () = tokio::time::sleep(invocation.limit) => return Happened::NotReady,
            }
            self.tell(Condition::of(State::Ready, Some(pid)));
        }
        tokio::select! {
            exit = invocation.supervised.wait() => Happened::Ended(exit),
            stop = self.stops.recv() => Happened::Stop(stop),
        }
    }

    /// Says how the process is.
    fn tell(&self, now: Condition) {
        match &self.isolated {
            Some(isolated) => isolated.is(&self.inner, &self.plugin, now),
            None => self.plugin.process_is(&self.inner, self.role, now),
        }
    }

    /// Returns how long the process may take to end when it is told to.
    fn grace(&self) -> Duration {
        match self.role {
            Role::Library => super::plugin::CLEANUP,
            Role::Program(_) => LaunchSpec::DEFAULT_GRACE,
        }
    }

    /// Writes into the plugin's log, as the process's shim does.
    fn log(&self, level: Level, message: &str) {
        let label = label(&self.plugin, self.role, self.of);
        let gap = if label.is_empty() { "" } else { " " };
        let name = self.plugin.name().as_str();
        let message = format!("{label}{gap}{message}");
        self.inner.logs.plugin(name, level, message);
    }

    /// Decides what follows the end of an invocation; returns the next one, if there is one.
    async fn after_exit(&mut self, exit: Exit, ran_for: Duration) -> Option<Invocation> {
        if let Some(isolated) = &self.isolated
            && !isolated.has_ended(&exit)
        {
            // Whoever wanted it has been told, or does not want it any more.
            self.answer_stops().await;
            return None;
        }
        if self.inner.is_closing() {
            self.bury(State::Stopped, None).await;
            return None;
        }
        let decision = match self.role {
            // No library ends its process because it has done its work.
            Role::Library => self.policy.on_failure(ran_for),
            Role::Program(_) => self.policy.on_exit(&exit, ran_for),
        };
        match decision {
            Decision::Finished => {
                self.bury(State::Finished, None).await;
                None
            }
            Decision::Failed => {
                self.bury(State::Failed, Some(format!("Process {exit}")))
                    .await;
                None
            }
            Decision::CrashLoop => {
                let restarts = self.policy.used();
                let error = format!("Process {exit}; all {restarts} restarts are used up");
                self.bury(State::CrashLoop, Some(error)).await;
                None
            }
            Decision::Restart { after, left } => {
                let left = left.map_or_else(String::new, |left| format!(" ({left} more left)"));
                let message = format!(
                    "Attempting to restart plugin in {} ms{left}...",
                    after.as_millis()
                );
                self.log(Level::Warn, &message);
                self.tell(Condition::failed(State::Backoff, format!("Process {exit}")));
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    stop = self.stops.recv() => {
                        self.end(stop);
                        return None;
                    }
                }
                self.plugin.count_restart(self.role);
                self.tell(Condition::of(State::Starting, None));
                match self.relaunch().await {
                    Ok(next) => next,
                    Err(step) => {
                        self.bury_failed(step).await;
                        None
                    }
                }
            }
        }
    }

    /// Launches again: the requirements and the secrets are seen to as at the first time. None if
    /// it was stopped instead.
    async fn relaunch(&mut self) -> Result<Option<Invocation>, Step> {
        let (inner, plugin, manifest) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.plugin),
            Arc::clone(&self.manifest),
        );
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&cancel);
        let mut met = tokio::task::spawn_blocking(move || {
            inner.meet_requirements(plugin.name(), &manifest, &cancelled)
        });
        tokio::select! {
            met = &mut met => met.unwrap_or(Err(Step::Closing))?,
            stop = self.stops.recv() => {
                cancel.store(true, Ordering::Relaxed);
                // Whether they are met is of no interest any more, only that nothing runs.
                let _ = met.await;
                self.end(stop);
                return Ok(None);
            }
        }
        let number = self.plugin.next_generation();
        self.launch(number, None, false).await.map(Some)
    }

    /// Launches the plugin; its secrets are delivered unless they are there already.
    async fn launch(
        &mut self,
        number: u64,
        secrets: Option<Arc<Delivered>>,
        is_first: bool,
    ) -> Result<Invocation, Step> {
        let (inner, plugin, manifest) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.plugin),
            Arc::clone(&self.manifest),
        );
        let (line, shared) = (self.launch.clone(), Arc::clone(&self.secrets));
        let (role, of) = (self.role, self.of);
        let made = tokio::task::spawn_blocking(move || {
            let secrets = match (secrets, role) {
                // Those of a library are there for as long as it is served.
                (None, Role::Library) => None,
                (Some(delivered), _) => Some(delivered),
                (None, Role::Program(_)) => {
                    // Held while they are delivered, so that instances which start together share them.
                    let mut shared = lock(&shared);
                    Some(match shared.upgrade() {
                        Some(delivered) => delivered,
                        None => {
                            let own = inner.deliver(plugin.name(), &manifest)?.keep();
                            let own = Arc::new(own);
                            *shared = Arc::downgrade(&own);
                            own
                        }
                    })
                }
            };
            let (spec, grant) = spec(&inner, &plugin, number, &manifest, &line, role, of)?;
            Ok((secrets, spec, grant))
        });
        let (secrets, mut spec, grant) = made.await.unwrap_or(Err(Step::Closing))?;
        let (sender, receiver) = oneshot::channel();
        let text = grant.token.clone();
        if let Some(isolated) = &self.isolated {
            isolated.is_launched(self.inner.grant(&self.plugin, number)?);
        }
        let isolated = self.isolated.as_ref().map(Arc::clone);
        self.inner
            .admit_launched(&text, &self.plugin, number, isolated, sender);
        let token = Token {
            inner: Arc::clone(&self.inner),
            text,
        };
        spec.session = Some(Grant(grant.to_json().into_bytes()));
        // An external program may know nothing of sessions.
        let waits = self.plugin.entry.kind != PluginKind::External;
        let session = waits.then_some(receiver);
        let supervised = Supervised::launch(&self.inner.program, spec)
            .await
            .map_err(Step::Launch)?;
        if self.isolated.is_none() || !is_first {
            self.plugin.runs_generation(number);
        }
        // Without a session to wait for it is ready as it is, and whoever launched it finds it so.
        if session.is_none() {
            let pid = supervised.pid();
            self.tell(Condition::of(State::Ready, Some(pid)));
        }
        Ok(Invocation {
            supervised,
            _token: token,
            session,
            started: Instant::now(),
            limit: match self.role {
                // Whoever wants it has its own idea of that.
                Role::Library if is_first => NEVER,
                Role::Library => NEW_DEADLINE + PROBE_DEADLINE,
                Role::Program(_) => READY_DEADLINE,
            },
            _secrets: secrets,
        })
    }

    fn report_stop(&self, report: &StopReport) {
        if !report.survivors.is_empty() {
            let names: Vec<String> = report.survivors.iter().map(ToString::to_string).collect();
            let message = format!(
                "{}: these processes could not be ended: {}",
                self.plugin.name(),
                names.join(", ")
            );
            self.inner.logs.core(Level::Error, message);
        }
    }

    /// Ends the watch on request: whoever asked decides the plugin's next state.
    fn end(&mut self, done: Option<oneshot::Sender<()>>) {
        self.stops.close();
        if let Some(done) = done {
            // The one who asked may have gone.
            let _ = done.send(());
        }
    }

    async fn bury_failed(&mut self, step: Step) {
        let error = step.of(self.plugin.name());
        self.inner.report_failure(&self.plugin, &error);
        let message = super::full_message(&error.step);
        self.bury(State::Failed, Some(message)).await;
    }

    /// Answers whoever asked for a stop meanwhile and waits for the answer.
    async fn answer_stops(&mut self) {
        self.stops.close();
        while let Some(done) = self.stops.recv().await {
            // The one who asked may have gone.
            let _ = done.send(());
        }
    }

    /// Ends the process for good. With its last one the plugin ends: its skills are withdrawn, its
    /// `cleanup` runs.
    async fn bury(&mut self, state: State, error: Option<String>) {
        // Whoever asked for a stop holds what a burial needs.
        self.answer_stops().await;
        let (inner, plugin) = (Arc::clone(&self.inner), Arc::clone(&self.plugin));
        let (id, role) = (self.id, self.role);
        let isolated = self.isolated.take();
        let now = Condition {
            state,
            pid: None,
            error,
        };
        let buried = tokio::task::spawn_blocking(move || match isolated {
            Some(isolated) => inner.bury_library(&plugin, &isolated, now),
            None => inner.bury(&plugin, id, role, now),
        });
        // It only logs and waits; should it panic, there is nothing more to bury.
        let _ = buried.await;
    }
}
