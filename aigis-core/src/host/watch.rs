//! The watch over one process of a plugin, from one launch to the next.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::health;
use super::isolated::Isolated;
use super::launch::{label, spec, with_secrets};
use super::memo::Memo;
use super::plugin::Plugin;
use super::process::{Program, Start};
use super::processes::{Condition, Role, Runs};
use super::readiness::{self, Awaited, Unready};
use super::secrets::Delivered;
use super::secrets_place::{Place, SecretsPaths};
use super::step::Step;
use super::{Inner, LastExit, Launched, State, TokenHash, lock};
use crate::config::{OnCoreDeath, ReadyWhen};
use crate::loader::{LoadError, NEW_DEADLINE, PROBE_DEADLINE};
use crate::logging::Level;
use crate::supervisor::{
    Decision, EndedRecord, Exit, Grant, LaunchSpec, Remarks, RestartPolicy, StopReport, Supervised,
};

/// Longer than anything takes.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// Watches one process of a plugin, over its restarts.
pub(super) struct Watch {
    pub(super) id: u64,
    pub(super) inner: Arc<Inner>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) role: Role,
    pub(super) program: Program,
    pub(super) policy: RestartPolicy,
    /// Where the secrets of a library are, which keeps them itself.
    pub(super) library_secrets: Option<SecretsPaths>,
    /// The library that it runs.
    pub(super) isolated: Option<Arc<Isolated>>,
    /// Who asks for a stop is told when everything is gone.
    pub(super) stops: mpsc::Receiver<oneshot::Sender<()>>,
    /// What the next core is to know of the launch.
    pub(super) memo: Option<Memo>,
    /// The launch that has ended, until another one follows or none does: whichever core is there then
    /// decides about it.
    pub(super) last: Option<Last>,
}

/// A launch that has ended. Its record goes with this.
pub(super) enum Last {
    Followed { _supervised: Supervised },
    Found { _record: Box<EndedRecord> },
}

/// One launch.
struct Invocation {
    supervised: Supervised,
    _token: Token,
    /// What makes it ready; none once it is.
    awaited: Option<Awaited>,
    /// How long it may take to be ready.
    limit: Duration,
    /// When it was ready; what did not come so far has not been well for any time.
    ready_at: Option<Instant>,
    _secrets: Option<Arc<Delivered>>,
}

/// What an invocation may present at the socket; worth nothing once it has ended.
struct Token {
    inner: Arc<Inner>,
    hash: TokenHash,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.inner.revoke(self.hash);
    }
}

/// What happened to a running invocation.
enum Happened {
    Ended(Exit),
    Stop(Option<oneshot::Sender<()>>),
    Failed(Failed),
    /// Another core takes over.
    LetGo,
}

/// Why an invocation that has not ended is ended.
struct Failed {
    step: Step,
    /// For how long it was well.
    well_for: Duration,
}

/// Writes into a plugin's log of one of its processes, as the shim of that does.
fn log(inner: &Inner, plugin: &Plugin, role: Role, of: u32, level: Level, message: &str) {
    let label = label(plugin, role, of);
    let gap = if label.is_empty() { "" } else { " " };
    let message = format!("{label}{gap}{message}");
    inner.logs.plugin(plugin.name().as_str(), level, message);
}

/// Passes on what a plugin and its shim say of it, for as long as nothing else ends the wait.
async fn pass_on(supervised: &Supervised, plugin: &Plugin, role: Role) -> Infallible {
    let mut seen = Remarks::default();
    loop {
        seen = supervised.more_remarks(&seen).await;
        plugin.process_says(role, &seen);
    }
}

/// Returns the instant that was so long ago.
fn before(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(time).unwrap_or(now)
}

/// Has the process end with its core from the moment on at which that begins to close: a shutdown that cannot stop it in
/// time leaves that to its shim.
async fn tie(inner: &Inner, supervised: &Supervised) -> Infallible {
    let mut closing = inner.closing.subscribe();
    let _ = closing.wait_for(|is_closing| *is_closing).await;
    supervised.on_core_death(OnCoreDeath::Stop);
    pending().await
}

/// Waits until another core takes over; a library's process ends with its own core.
async fn let_go(inner: &Inner, role: Role) {
    let mut letting_go = inner.letting_go.subscribe();
    let is_told = letting_go.wait_for(|lets_go| *lets_go).await.is_ok();
    if role == Role::Library || !is_told {
        pending().await
    }
}

impl Watch {
    pub(super) async fn run(mut self, how: Start, first: oneshot::Sender<Result<(), Step>>) {
        let begun = match how {
            Start::Launch(number, secrets) => match self.launch(number, secrets, true).await {
                Ok(invocation) => Some(invocation),
                Err(step) => {
                    // Whoever waits may have been told to go.
                    let _ = first.send(Err(step));
                    return;
                }
            },
            Start::TakenOver(supervised, memo, secrets) => {
                match self.take_over(*supervised, *memo, secrets) {
                    Ok(invocation) => Some(invocation),
                    Err(step) => {
                        let _ = first.send(Err(step));
                        return;
                    }
                }
            }
            Start::Ended(record, memo) => {
                self.resume(&memo);
                let ended = record.ended().clone();
                self.last = Some(Last::Found { _record: record });
                let _ = first.send(Ok(()));
                let ran_for = Duration::from_millis(ended.ran_ms);
                let exit = LastExit {
                    exit: ended.exit,
                    at: ended.at,
                };
                match self.after_exit(exit, ran_for).await {
                    Some(next) => return self.go_on(next).await,
                    None => return,
                }
            }
        };
        let _ = first.send(Ok(()));
        if let Some(invocation) = begun {
            self.go_on(invocation).await;
        }
    }

    async fn go_on(mut self, mut invocation: Invocation) {
        loop {
            let exit = match self.watch(&mut invocation).await {
                Happened::Ended(exit) => exit,
                Happened::Stop(done) => {
                    let exit = self.stop(&invocation, self.grace()).await;
                    // A library that is replaced ends, too, and is not the plugin's any more.
                    let is_own = self.isolated.is_none() || self.plugin.state() == State::Stopping;
                    if let Some(exit) = exit.filter(|_| is_own) {
                        self.plugin.has_exited(self.role, exited(exit));
                    }
                    drop(invocation);
                    self.end(done);
                    return;
                }
                Happened::LetGo => {
                    let Invocation { supervised, .. } = invocation;
                    supervised.release().await;
                    return;
                }
                Happened::Failed(Failed { step, well_for }) => {
                    if self.role == Role::Library {
                        self.stop(&invocation, LaunchSpec::DEFAULT_GRACE).await;
                        drop(invocation);
                        self.bury_failed(step).await;
                        return;
                    }
                    let message = self.tell_failure(step, &invocation.supervised);
                    self.stop(&invocation, self.grace()).await;
                    drop(invocation);
                    invocation = match self.after_failure(message, well_for).await {
                        Some(next) => next,
                        None => return,
                    };
                    continue;
                }
            };
            let ready_at = invocation.ready_at;
            let well_for = ready_at.map_or(Duration::ZERO, |at| at.elapsed());
            let Invocation {
                supervised,
                _token: token,
                _secrets: secrets,
                ..
            } = invocation;
            // It is worth nothing any more.
            drop(token);
            // They go if nobody else has them, before the next launch asks for them.
            drop(secrets);
            self.last = Some(Last::Followed {
                _supervised: supervised,
            });
            invocation = match self.after_exit(exited(exit), well_for).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// Watches an invocation until something has to be done about it.
    async fn watch(&mut self, invocation: &mut Invocation) -> Happened {
        if let Some(awaited) = invocation.awaited.take() {
            let supervised = &invocation.supervised;
            let mut last = None;
            let unready = tokio::select! {
                biased;
                exit = supervised.wait() => return Happened::Ended(exit),
                stop = self.stops.recv() => return Happened::Stop(stop),
                ready = awaited.ready(supervised, &mut last) => ready.err(),
                () = let_go(&self.inner, self.role) => return Happened::LetGo,
                never = tie(&self.inner, supervised) => match never {},
                never = pass_on(supervised, &self.plugin, self.role) => match never {},
                () = tokio::time::sleep(invocation.limit) => {
                    Some(Unready::Never(readiness::missing(&self.program.readiness.when, last)))
                }
            };
            match unready {
                None => {}
                Some(Unready::Closing) => return Happened::Stop(None),
                Some(Unready::Never(why)) => {
                    let after = invocation.limit;
                    let step = match self.role {
                        Role::Library => Step::Load(LoadError::Stuck("new", after)),
                        Role::Program(_) => Step::NotReady { after, why },
                    };
                    let well_for = Duration::ZERO;
                    return Happened::Failed(Failed { step, well_for });
                }
            }
            invocation.ready_at.get_or_insert_with(Instant::now);
            self.is_ready(&invocation.supervised);
        }
        let supervised = &invocation.supervised;
        let ready_at = invocation.ready_at;
        let health = match self.role {
            Role::Library => None,
            Role::Program(_) => self.program.manifest.health.as_ref(),
        };
        let (inner, plugin, role, of) = (&self.inner, &self.plugin, self.role, self.program.of);
        let warn = |message: &str| log(inner, plugin, role, of, Level::Warn, message);
        let unhealthy = health::fails(&self.inner, health, warn);
        tokio::select! {
            // An end is an end, whatever else comes at the same time.
            biased;
            exit = supervised.wait() => Happened::Ended(exit),
            stop = self.stops.recv() => Happened::Stop(stop),
            unhealthy = unhealthy => {
                // A run that is only waited for to fail again has not been well meanwhile.
                let well_for = ready_at.map_or(Duration::ZERO, |at| unhealthy.since.saturating_duration_since(at));
                let step = Step::Unhealthy { why: unhealthy.why };
                Happened::Failed(Failed { step, well_for })
            }
            () = let_go(&self.inner, self.role) => Happened::LetGo,
            never = tie(&self.inner, supervised) => match never {},
            never = pass_on(supervised, &self.plugin, self.role) => match never {},
        }
    }

    /// Ends an invocation, and says meanwhile what holds that up. Returns how it has ended, if it has.
    async fn stop(&self, invocation: &Invocation, grace: Duration) -> Option<Exit> {
        let supervised = &invocation.supervised;
        let report = tokio::select! {
            report = supervised.stop(grace) => report,
            never = pass_on(supervised, &self.plugin, self.role) => match never {},
        };
        self.report_stop(&report);
        report.exit
    }

    /// Says that an invocation has failed although it has not ended; returns what is wrong with it.
    fn tell_failure(&self, step: Step, supervised: &Supervised) -> String {
        let message = match step {
            Step::Unhealthy { .. } => {
                let message = step.to_string();
                self.log(Level::Error, &message);
                let name = self.plugin.name();
                self.inner
                    .logs
                    .core(Level::Error, format!("{name} is {message}"));
                message
            }
            step => {
                let error = step.of(self.plugin.name());
                self.inner.report_failure(&self.plugin, &error);
                super::full_message(&error.step)
            }
        };
        let mut now = running(State::Backoff, supervised);
        now.error = Some(message.clone());
        self.tell(now);
        message
    }

    /// Says that the process serves, here and to the next core.
    fn is_ready(&mut self, supervised: &Supervised) {
        self.tell(running(State::Ready, supervised));
        if let Some(memo) = &mut self.memo
            && !std::mem::replace(&mut memo.ready, true)
        {
            supervised.remember(memo.to_value());
        }
    }

    /// Goes on counting where another core has stopped.
    fn resume(&mut self, memo: &Memo) {
        self.policy.set_used(memo.used);
        self.plugin.take_over(memo);
    }

    /// Watches what another core has launched.
    fn take_over(
        &mut self,
        supervised: Supervised,
        memo: Memo,
        secrets: Option<Arc<Delivered>>,
    ) -> Result<Invocation, Step> {
        let Some(hash) = memo.token() else {
            let error = std::io::Error::other("the record of its shim names no token");
            return Err(Step::Prepare(error));
        };
        self.resume(&memo);
        let (sender, receiver) = oneshot::channel();
        let launched = Launched {
            plugin: Arc::clone(&self.plugin),
            number: memo.number,
            isolated: None,
            adopted: true,
            up: Some(sender),
        };
        self.inner.admit_launched(hash, launched);
        supervised.on_core_death(self.on_core_death());
        let message = format!("taken over by core {}", std::process::id());
        supervised.log(Level::Boot, message);
        let readiness = &self.program.readiness;
        // A session is to come back; what has said once that it is ready still is.
        let awaited = match (&readiness.when, memo.ready) {
            (ReadyWhen::Session, _) => Some(Awaited::Session(receiver)),
            (_, true) => None,
            (_, false) => Awaited::new(&self.inner, readiness, receiver),
        };
        let limit = readiness.timeout;
        let well_since = memo.ready || awaited.is_none();
        let ready_at = well_since.then(|| before(supervised.age()));
        self.memo = Some(memo);
        if awaited.is_some() {
            self.tell(running(State::Starting, &supervised));
        } else {
            self.is_ready(&supervised);
        }
        Ok(Invocation {
            supervised,
            _token: Token {
                inner: Arc::clone(&self.inner),
                hash,
            },
            awaited,
            limit,
            ready_at,
            _secrets: secrets,
        })
    }

    fn on_core_death(&self) -> OnCoreDeath {
        match self.role {
            Role::Program(_) if !self.inner.is_closing() => self.program.manifest.on_core_death,
            // Its state is that of the core that it was opened by.
            _ => OnCoreDeath::Stop,
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
            Role::Program(_) => {
                let timeout = self.program.manifest.stop.timeout;
                timeout.unwrap_or(LaunchSpec::DEFAULT_GRACE)
            }
        }
    }

    /// Writes into the plugin's log, as the process's shim does.
    fn log(&self, level: Level, message: &str) {
        let (inner, plugin) = (&self.inner, &self.plugin);
        log(inner, plugin, self.role, self.program.of, level, message);
    }

    /// Decides what follows the end of an invocation; returns the next one, if there is one.
    async fn after_exit(&mut self, last: LastExit, well_for: Duration) -> Option<Invocation> {
        let exit = last.exit;
        if let Some(isolated) = &self.isolated
            && !isolated.has_ended(&exit)
        {
            // Whoever wanted it has been told, or does not want it any more.
            self.answer_stops().await;
            return None;
        }
        if *self.inner.letting_go.borrow() && self.role != Role::Library {
            self.leave_record();
            return None;
        }
        self.plugin.has_exited(self.role, last);
        if self.inner.is_closing() {
            self.bury(State::Stopped, None).await;
            return None;
        }
        let decision = match self.role {
            // No library ends its process because it has done its work.
            Role::Library => self.policy.on_failure(well_for),
            Role::Program(_) => self.policy.on_exit(&exit, well_for),
        };
        self.follow(decision, format!("Process {exit}")).await
    }

    /// Decides what follows an invocation that was ended because it had failed; returns the next one, if there is one.
    async fn after_failure(&mut self, message: String, well_for: Duration) -> Option<Invocation> {
        if *self.inner.letting_go.borrow() && self.role != Role::Library {
            self.leave_record();
            return None;
        }
        if self.inner.is_closing() {
            self.bury(State::Stopped, None).await;
            return None;
        }
        let decision = self.policy.on_failure(well_for);
        self.follow(decision, message).await
    }

    /// Does what was decided after an end; `message` says how that was.
    async fn follow(&mut self, decision: Decision, message: String) -> Option<Invocation> {
        match decision {
            Decision::Finished => {
                self.bury(State::Finished, None).await;
                None
            }
            Decision::Failed => {
                self.bury(State::Failed, Some(message)).await;
                None
            }
            Decision::CrashLoop => {
                let restarts = self.policy.used();
                let error = format!("{message}; all {restarts} restarts are used up");
                self.bury(State::CrashLoop, Some(error)).await;
                None
            }
            Decision::Restart { after, left } => {
                let left = left.map_or_else(String::new, |left| format!(" ({left} more left)"));
                let attempt = format!(
                    "Attempting to restart plugin in {} ms{left}...",
                    after.as_millis()
                );
                self.log(Level::Warn, &attempt);
                self.tell(Condition::failed(State::Backoff, message));
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    () = let_go(&self.inner, self.role) => {
                        self.leave_record();
                        return None;
                    }
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

    /// Leaves what has ended to the next core, which finds its record.
    fn leave_record(&mut self) {
        std::mem::forget(self.last.take());
    }

    /// Launches again: the requirements and the secrets are seen to as at the first time. None if
    /// it was stopped instead.
    async fn relaunch(&mut self) -> Result<Option<Invocation>, Step> {
        let (inner, plugin, manifest) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.plugin),
            Arc::clone(&self.program.manifest),
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
            () = let_go(&self.inner, self.role) => {
                cancel.store(true, Ordering::Relaxed);
                let _ = met.await;
                self.leave_record();
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
            Arc::clone(&self.program.manifest),
        );
        let (line, shared) = (
            self.program.launch.clone(),
            Arc::clone(&self.program.secrets),
        );
        let (role, of) = (self.role, self.program.of);
        let library_secrets = self.library_secrets.clone();
        // Those of a hybrid may have gone with its program.
        let library_secrets = library_secrets.filter(|paths| paths.record.exists());
        let made = tokio::task::spawn_blocking(move || {
            let secrets = match (secrets, role) {
                // Those of a library are there for as long as it is served.
                (None, Role::Library) => None,
                (Some(delivered), _) => Some(delivered),
                (None, Role::Program(_)) => {
                    // Held while they are delivered, so that instances which start together share them.
                    let mut shared = lock(&shared);
                    let known = shared.upgrade();
                    Some(match known.filter(|delivered| delivered.is_there()) {
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
            let (mut spec, grant) = spec(&inner, &plugin, number, &manifest, &line, role, of)?;
            let place = secrets.as_deref().and_then(Delivered::place);
            if let Some(paths) = place.map(Place::paths).or(library_secrets.as_ref()) {
                spec = with_secrets(spec, paths);
            }
            Ok((secrets, spec, grant))
        });
        let (secrets, mut spec, grant) = made.await.unwrap_or(Err(Step::Closing))?;
        let (sender, receiver) = oneshot::channel();
        let hash = TokenHash::of(&grant.token);
        if let Some(isolated) = &self.isolated {
            isolated.is_launched(self.inner.grant(&self.plugin, number)?);
        }
        let isolated = self.isolated.as_ref().map(Arc::clone);
        let launched = Launched {
            plugin: Arc::clone(&self.plugin),
            number,
            isolated,
            adopted: false,
            up: Some(sender),
        };
        self.inner.admit_launched(hash, launched);
        let token = Token {
            inner: Arc::clone(&self.inner),
            hash,
        };
        spec.session = Some(Grant(grant.to_json().into_bytes()));
        let memo = self.memo_of(number, hash, secrets.as_deref());
        spec.memo = memo.to_value();
        spec.on_core_death = self.on_core_death();
        self.memo = Some(memo);
        let readiness = &self.program.readiness;
        let limit = match self.role {
            // Whoever wants it has its own idea of that.
            Role::Library if is_first => NEVER,
            Role::Library => NEW_DEADLINE + PROBE_DEADLINE,
            Role::Program(_) => readiness.timeout,
        };
        let awaited = match self.role {
            Role::Library => Some(Awaited::Session(receiver)),
            Role::Program(_) => Awaited::new(&self.inner, readiness, receiver),
        };
        let supervised = Supervised::launch(&self.inner.program, spec)
            .await
            .map_err(Step::Launch)?;
        // Its record has taken the place of the one before.
        self.last = None;
        if self.isolated.is_none() || !is_first {
            self.plugin.runs_generation(number);
        }
        // Without anything to wait for it is ready as it is, and whoever launched it finds it so.
        let ready_at = awaited.is_none().then(Instant::now);
        if awaited.is_none() {
            self.is_ready(&supervised);
        }
        Ok(Invocation {
            supervised,
            _token: token,
            awaited,
            limit,
            ready_at,
            _secrets: secrets,
        })
    }

    fn memo_of(&self, number: u64, token: TokenHash, secrets: Option<&Delivered>) -> Memo {
        let (restarts, restarts_in_all) = self.plugin.restarts(self.role);
        let last_exit = self.plugin.last_exit(self.role);
        Memo {
            entry: self.plugin.entry.fingerprint(),
            kind: self.plugin.entry.kind,
            instance: self.role.instance(),
            of: self.program.of,
            number,
            token: token.to_hex(),
            program: self.program.launch.program.clone().into(),
            arguments: self.program.launch.arguments.clone(),
            has_library: self.program.has_library,
            ready: false,
            used: self.policy.used(),
            restarts,
            restarts_in_all,
            last_exit,
            secrets_record: secrets
                .and_then(Delivered::place)
                .map(|place| place.paths().record.as_path().into()),
        }
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
        // What follows is decided.
        self.last = None;
        // Whoever asked for a stop holds what a burial needs.
        self.answer_stops().await;
        let (inner, plugin) = (Arc::clone(&self.inner), Arc::clone(&self.plugin));
        let (id, role) = (self.id, self.role);
        let isolated = self.isolated.take();
        let now = Condition {
            state,
            pid: None,
            error,
            runs: None,
        };
        let buried = tokio::task::spawn_blocking(move || match isolated {
            Some(isolated) => inner.bury_library(&plugin, &isolated, now),
            None => inner.bury(&plugin, id, role, now),
        });
        // It only logs and waits; should it panic, there is nothing more to bury.
        let _ = buried.await;
    }
}

fn exited(exit: Exit) -> LastExit {
    let at = Timestamp::now().to_string();
    LastExit { exit, at }
}

fn running(state: State, supervised: &Supervised) -> Condition {
    let runs = Runs {
        shim: supervised.shim_pid(),
        started: supervised.started_at().to_owned(),
    };
    Condition::running(state, supervised.pid(), runs)
}
