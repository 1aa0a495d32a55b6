//! The process of a plugin: launched, watched, launched again, stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aigis_plugin_api::session::SessionGrant;
use tokio::sync::{mpsc, oneshot};

use super::plugin::Plugin;
use super::prepare::Prepared;
use super::secrets::Delivered;
use super::step::Step;
use super::{Inner, State};
use crate::config::{Launch, Manifest, PluginKind};
use crate::logging::Level;
use crate::supervisor::{
    Decision, Exit, Grant, LaunchSpec, MAX_GRANT_BYTES, RestartPolicy, StopReport, Supervised,
};

/// How long an internal plugin may take from its launch to its session.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A launched plugin; a task of its own watches it.
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

    /// Stops the process and its whole tree, and waits until it is gone. Blocks.
    pub(crate) fn stop(self, inner: &Inner) {
        let (done, gone) = oneshot::channel();
        inner.wait_on(async {
            if self.stop.send(done).await.is_ok() {
                // The task ends either way; then everything is gone.
                let _ = gone.await;
            }
        });
    }
}

/// Launches a plugin, as its generation `number`, and hands it to a task that watches it. Blocks until
/// it is launched.
pub(crate) fn start(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    prepared: Prepared,
    number: u64,
    secrets: Delivered,
) -> Result<Process, Step> {
    let Some(launch) = command(plugin, &prepared) else {
        return Err(Step::Prepare(std::io::Error::other(
            "there is nothing to launch: the build made no program",
        )));
    };
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (stop, stops) = mpsc::channel(1);
    let (first, launched) = oneshot::channel();
    let watch = Watch {
        id,
        inner: Arc::clone(inner),
        plugin: Arc::clone(plugin),
        policy: RestartPolicy::new(prepared.manifest.restart.unwrap_or(0), seed(plugin)),
        manifest: Arc::new(prepared.manifest),
        launch,
        stops,
    };
    inner.runtime.spawn(watch.run(number, secrets, first));
    match inner.wait_on(launched) {
        Ok(outcome) => outcome.map(|()| Process { id, stop }),
        Err(_) => Err(Step::Closing),
    }
}

/// What is run: a program and its arguments.
#[derive(Clone)]
struct CommandLine {
    program: PathBuf,
    arguments: Vec<String>,
}

fn command(plugin: &Plugin, prepared: &Prepared) -> Option<CommandLine> {
    if plugin.entry.kind == PluginKind::Internal {
        return Some(CommandLine {
            program: prepared.artifacts.as_ref()?.binary.clone()?,
            arguments: Vec::new(),
        });
    }
    match &prepared.manifest.launch {
        Launch::Command(words) => {
            let (program, arguments) = words.split_first()?;
            Some(CommandLine {
                program: PathBuf::from(program),
                arguments: arguments.to_vec(),
            })
        }
        Launch::Binary(_) | Launch::None => None,
    }
}

/// Makes restarts of different plugins spread differently.
fn seed(plugin: &Plugin) -> u64 {
    let bytes = blake3::hash(plugin.name().as_str().as_bytes());
    let mut seed = [0; 8];
    seed.copy_from_slice(&bytes.as_bytes()[..8]);
    u64::from_le_bytes(seed)
}

/// Watches one plugin's process, over its restarts.
struct Watch {
    id: u64,
    inner: Arc<Inner>,
    plugin: Arc<Plugin>,
    manifest: Arc<Manifest>,
    launch: CommandLine,
    policy: RestartPolicy,
    /// Who asks for a stop is told when everything is gone.
    stops: mpsc::Receiver<oneshot::Sender<()>>,
}

/// One launch.
struct Invocation {
    supervised: Supervised,
    _token: Token,
    session: Option<oneshot::Receiver<()>>,
    started: Instant,
    _secrets: Delivered,
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
        secrets: Delivered,
        first: oneshot::Sender<Result<(), Step>>,
    ) {
        let mut invocation = match self.launch(number, Some(secrets)).await {
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
                    let grace = LaunchSpec::DEFAULT_GRACE;
                    let report = invocation.supervised.stop(grace).await;
                    self.report_stop(&report);
                    drop(invocation);
                    self.end(done);
                    return;
                }
                Happened::NotReady => {
                    let grace = LaunchSpec::DEFAULT_GRACE;
                    let report = invocation.supervised.stop(grace).await;
                    self.report_stop(&report);
                    drop(invocation);
                    let step = Step::NotReady {
                        after: READY_DEADLINE,
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
                () = tokio::time::sleep(READY_DEADLINE) => return Happened::NotReady,
            }
            self.plugin.enter(&self.inner, State::Ready, Some(pid));
        }
        tokio::select! {
            exit = invocation.supervised.wait() => Happened::Ended(exit),
            stop = self.stops.recv() => Happened::Stop(stop),
        }
    }

    /// Decides what follows the end of an invocation; returns the next one, if there is one.
    async fn after_exit(&mut self, exit: Exit, ran_for: Duration) -> Option<Invocation> {
        let name = self.plugin.name().as_str().to_owned();
        if self.inner.is_closing() {
            self.bury(State::Stopped, None).await;
            return None;
        }
        match self.policy.on_exit(&exit, ran_for) {
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
                let restarts = self.policy.restarts;
                let error = format!("Process {exit}; all {restarts} restarts are used up");
                self.bury(State::CrashLoop, Some(error)).await;
                None
            }
            Decision::Restart { after, left } => {
                let message = format!(
                    "Attempting to restart plugin in {} ms ({left} more left)...",
                    after.as_millis()
                );
                self.inner.logs.plugin(&name, Level::Warn, message);
                self.plugin
                    .fail(&self.inner, State::Backoff, format!("Process {exit}"));
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    stop = self.stops.recv() => {
                        self.end(stop);
                        return None;
                    }
                }
                self.plugin.count_restart();
                self.plugin.enter(&self.inner, State::Starting, None);
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
        self.launch(number, None).await.map(Some)
    }

    /// Launches the plugin; its secrets are delivered unless they are there already.
    async fn launch(
        &mut self,
        number: u64,
        secrets: Option<Delivered>,
    ) -> Result<Invocation, Step> {
        let (inner, plugin, manifest) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.plugin),
            Arc::clone(&self.manifest),
        );
        let line = self.launch.clone();
        let made = tokio::task::spawn_blocking(move || {
            let secrets = match secrets {
                Some(delivered) => delivered,
                None => inner.deliver(plugin.name(), &manifest)?,
            };
            let (spec, grant) = spec(&inner, &plugin, number, &manifest, &line)?;
            Ok((secrets, spec, grant))
        });
        let (secrets, mut spec, grant) = made.await.unwrap_or(Err(Step::Closing))?;
        let (sender, receiver) = oneshot::channel();
        let text = grant.token.clone();
        self.inner
            .admit_launched(&text, &self.plugin, number, sender);
        let token = Token {
            inner: Arc::clone(&self.inner),
            text,
        };
        spec.session = Some(Grant(grant.to_json().into_bytes()));
        // An external program may know nothing of sessions.
        let waits = self.plugin.entry.kind == PluginKind::Internal;
        let session = waits.then_some(receiver);
        let supervised = Supervised::launch(&self.inner.program, spec)
            .await
            .map_err(Step::Launch)?;
        self.plugin.runs_generation(number);
        // Without a session to wait for it is ready as it is, and whoever launched it finds it so.
        if session.is_none() {
            let pid = supervised.pid();
            self.plugin.enter(&self.inner, State::Ready, Some(pid));
        }
        Ok(Invocation {
            supervised,
            _token: token,
            session,
            started: Instant::now(),
            _secrets: secrets.keep(),
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

    /// Ends the plugin for good: its skills are withdrawn, its `cleanup` runs.
    async fn bury(&mut self, state: State, error: Option<String>) {
        self.stops.close();
        // Whoever asked for a stop meanwhile holds what a burial needs, and waits for the answer.
        while let Some(done) = self.stops.recv().await {
            // The one who asked may have gone.
            let _ = done.send(());
        }
        let (inner, plugin) = (Arc::clone(&self.inner), Arc::clone(&self.plugin));
        let id = self.id;
        let buried = tokio::task::spawn_blocking(move || inner.bury(&plugin, id, state, error));
        // It only logs and waits; should it panic, there is nothing more to bury.
        let _ = buried.await;
    }
}

/// Makes the spec of one launch, and what it may present at the socket.
fn spec(
    inner: &Inner,
    plugin: &Plugin,
    number: u64,
    manifest: &Manifest,
    line: &CommandLine,
) -> Result<(LaunchSpec, SessionGrant), Step> {
    let name = plugin.name();
    let grant = inner.grant(plugin, number)?;
    let record = inner.home.run().join("shims").join(format!("{name}.json"));
    let mut spec = LaunchSpec::new(
        name.clone(),
        &line.program,
        &manifest.entrypoint,
        inner.home.plugin_log(name.as_str()),
        record,
    )
    .args(&line.arguments);
    // A core that was itself launched by a core keeps its own session to itself.
    let own = ["AIGIS_SESSION_FD", "AIGIS_INVOCATION", "AIGIS_SETTINGS"];
    for (variable, value) in std::env::vars_os() {
        if !own.iter().any(|name| variable == *name) {
            spec = spec.env(variable, value);
        }
    }
    spec = spec
        .env("AIGIS_PLUGIN", name.as_str())
        .env("AIGIS_HOME", inner.home.root())
        .env("AIGIS_DATA", &grant.data);
    if let Some(path) = inner.settings_file(plugin)? {
        spec = spec.env("AIGIS_SETTINGS", path);
    }
    let mut grant = SessionGrant {
        version: 1,
        endpoint: inner.home.socket(),
        token: new_token(),
        plugin: grant,
    };
    if plugin.entry.kind == PluginKind::External && grant.to_json().len() > MAX_GRANT_BYTES {
        // It has them in a file as well, however long they are.
        grant.plugin.settings = None;
    }
    Ok((spec, grant))
}

/// Makes a token that nobody can guess.
fn new_token() -> String {
    let mut bytes = [0_u8; 32];
    // Without randomness the token would be a constant, so this may not fail quietly.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(
        filled,
        Ok(bytes.len()),
        "the system gives 32 random bytes at once"
    );
    blake3::hash(&bytes).to_hex().to_string()
}
