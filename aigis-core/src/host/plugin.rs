//! One plugin of a host, from its config entry to its end.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::adoption::Left;
use super::isolated::Isolated;
use super::launch::command;
use super::library::Library;
use super::memo::Memo;
use super::offering::Offering;
use super::prepare::Prepared;
use super::process::{self, Process};
use super::processes::{Condition, Processes, Role};
use super::readiness;
use super::secrets::Delivered;
use super::secrets_place::Place;
use super::step::{Step, StepError};
use super::swap::Incoming;
use super::{Crash, Inner, Isolation, LastExit, PluginStatus, State, lock};
use crate::config::{GitReference, Manifest, PluginEntry, PluginKind, PluginName, Standing};
use crate::loader::{GenerationState, Life};
use crate::logging::Level;
use crate::registry::Part;
use crate::supervisor::Remarks;

/// How long the last call of a retired generation is waited for.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// How long after that a process is waited for whose last calls were given up then.
const ENDING: Duration = Duration::from_secs(1);

/// How long a `cleanup` may take.
pub(super) const CLEANUP: Duration = Duration::from_secs(30);

/// One plugin.
pub(crate) struct Plugin {
    /// What its config says. With another entry it is another `Plugin`, which shares all the rest: what
    /// runs by the old entry goes by that as long as it runs.
    pub(crate) entry: PluginEntry,
    live: Arc<Mutex<Live>>,
    /// What runs of it. Held for the whole of a load, reload, start or stop, so that there is
    /// only one of these at a time.
    running: Arc<Mutex<Running>>,
    /// What its processes serve.
    pub(super) offering: Arc<Offering>,
    /// What another core has left of it, until its turn comes.
    left: Arc<Mutex<Left>>,
}

/// What changes of a plugin's status.
struct Live {
    state: State,
    standing: Standing,
    pid: Option<u32>,
    restarts: u32,
    generation: u64,
    /// The latest number that was given to a load or launch, whether or not it came to anything.
    last_number: u64,
    error: Option<String>,
    /// How the core has died in it before.
    crash: Option<Crash>,
    /// The library that serves.
    library: Option<Library>,
    /// Why that is isolated.
    isolation: Option<Isolation>,
    /// The loaded versions of its library, the oldest first.
    lives: Vec<Arc<Life>>,
    /// Those that are isolated and may not have ended.
    apart: Vec<Weak<Isolated>>,
    /// What was launched for it.
    processes: Processes,
    /// When it was last ready, RFC 3339.
    ready_since: Option<String>,
    last_exit: Option<LastExit>,
    /// What its manifest says about its place among others, once that is known.
    order: Order,
}

/// What a plugin's manifest says about its place among others.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// The plugins that it starts after.
    pub(super) after: Vec<PluginName>,
    /// Those of them that its start waits for now.
    waits_for: Vec<PluginName>,
    /// How long a process of it may take to be ready.
    ready_within: Duration,
}

/// What runs of a plugin.
#[derive(Default)]
pub(crate) struct Running {
    pub(super) library: Option<Library>,
    processes: Vec<Process>,
}

/// How many versions that are gone from memory are remembered.
const REMEMBERED: usize = 8;

/// A version of a plugin that is ready for its turn.
pub(crate) struct Candidate {
    prepared: Prepared,
    pub(super) number: u64,
    /// Taken back if it does not come to its turn.
    secrets: Delivered,
    /// Its library, loaded but not open.
    pub(super) library: Option<Library>,
}

impl Plugin {
    pub(crate) fn new(entry: PluginEntry, crash: Option<Crash>) -> Self {
        let processes = Processes::new(entry.kind != PluginKind::Core);
        Self {
            offering: Arc::new(Offering::new(&entry.name)),
            entry,
            live: Arc::new(Mutex::new(Live {
                state: State::Fetching,
                standing: Standing::Listed,
                pid: None,
                restarts: 0,
                generation: 0,
                last_number: 0,
                error: None,
                crash,
                library: None,
                isolation: None,
                lives: Vec::new(),
                apart: Vec::new(),
                processes,
                order: Order::default(),
                ready_since: None,
                last_exit: None,
            })),
            running: Arc::default(),
            left: Arc::default(),
        }
    }

    /// Makes the same plugin with another entry of the same name. What runs of it is shared, unless it is
    /// of another kind now.
    pub(super) fn with_entry(&self, entry: PluginEntry) -> Self {
        if entry.kind == self.entry.kind {
            return Self {
                entry,
                live: Arc::clone(&self.live),
                running: Arc::clone(&self.running),
                offering: Arc::clone(&self.offering),
                left: Arc::clone(&self.left),
            };
        }
        let next = Self::new(entry, lock(&self.live).crash.clone());
        // Generations are counted on, as they are in the names of what is loaded.
        lock(&next.live).last_number = lock(&self.live).last_number;
        next
    }

    pub(super) fn standing(&self) -> Standing {
        lock(&self.live).standing
    }

    /// Says whether the config lists it.
    pub(super) fn stands(&self, standing: Standing) {
        lock(&self.live).standing = standing;
    }

    pub(crate) fn name(&self) -> &PluginName {
        &self.entry.name
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.live).state
    }

    pub(crate) fn status(&self) -> PluginStatus {
        let live = lock(&self.live);
        let processes = live.processes.status();
        let started = match processes.iter().filter_map(|it| it.started.clone()).min() {
            // What is in the core alone.
            None if live.state == State::Ready => live.ready_since.clone(),
            first => first,
        };
        PluginStatus {
            name: self.name().to_string(),
            kind: self.entry.kind,
            state: live.state,
            pid: live.pid,
            restarts: live.restarts,
            generation: live.generation,
            source: source_text(&self.entry),
            error: live.error.clone(),
            generations: live.lives.iter().map(|life| life.status()).collect(),
            crash: live.crash.clone(),
            slow_calls: live
                .lives
                .iter()
                .flat_map(|life| life.slow_calls())
                .collect(),
            overdue_calls: Vec::new(),
            serving: live
                .library
                .iter()
                .filter_map(Library::isolated)
                .flat_map(|isolated| isolated.instances.status())
                .chain(self.offering.instances.status())
                .collect(),
            isolated: live.isolation,
            processes,
            in_config: live.standing == Standing::Listed,
            waits_for: live
                .order
                .waits_for
                .iter()
                .map(PluginName::to_string)
                .collect(),
            cpu_ms: None,
            cpu_percent: None,
            memory_bytes: None,
            tree: None,
            started,
            last_exit: live.last_exit.clone(),
        }
    }

    /// Tells whether the processes that serve one half of it can be called; what the core has loaded can
    /// always.
    pub(super) fn is_served(&self, part: Part) -> bool {
        match part {
            Part::Process => self.offering.instances.is_served(),
            Part::Library => match self.serving() {
                Some(Library::Isolated(isolated)) => isolated.instances.is_served(),
                _ => true,
            },
        }
    }

    /// Notes that a version of its library runs in a process of its own.
    pub(super) fn runs_apart(&self, isolated: &Arc<Isolated>) {
        let mut live = lock(&self.live);
        live.apart.retain(|one| one.strong_count() > 0);
        live.apart.push(Arc::downgrade(isolated));
    }

    /// Says why its library is isolated, if it is.
    pub(super) fn is_isolated(&self, isolation: Option<Isolation>) {
        lock(&self.live).isolation = isolation;
    }

    /// Expects so many processes of its program.
    pub(super) fn begins(&self, inner: &Inner, of: u32) {
        {
            let mut live = lock(&self.live);
            live.processes.forget(|role| role != Role::Library);
            (0..of).for_each(|instance| live.processes.begin(Role::Program(instance)));
        }
        self.enter(inner, State::Starting, None);
    }

    /// Expects the process of an isolated library, or none.
    pub(super) fn has_library_process(&self, isolated: bool) {
        let mut live = lock(&self.live);
        live.processes.forget(|role| role == Role::Library);
        if isolated {
            live.processes.begin(Role::Library);
        }
    }

    /// Forgets its processes: none is left.
    pub(super) fn forget_processes(&self) {
        lock(&self.live).processes.forget(|_| true);
    }

    /// Says how one of its processes is, and with that the plugin. What a plugin comes to that is being
    /// stopped says whoever stops it.
    pub(super) fn process_is(&self, inner: &Inner, role: Role, now: Condition) {
        let state = {
            let mut live = lock(&self.live);
            if !live.processes.note(role, now) {
                return;
            }
            if live.state == State::Stopping {
                return;
            }
            let Some(together) = live.processes.together() else {
                return;
            };
            live.state = together.state;
            live.pid = together.pid;
            live.error = together.error;
            together.state
        };
        inner.state_changed(self.name(), state);
    }

    /// Says what one of its processes, and the shim of it, tell of it.
    pub(super) fn process_says(&self, role: Role, remarks: &Remarks) {
        lock(&self.live).processes.remark(role, remarks);
    }

    /// Notes what the manifest that it is started with says about its place among others.
    pub(super) fn has_order(&self, manifest: &Manifest) {
        lock(&self.live).order = Order {
            after: manifest.after.clone(),
            waits_for: Vec::new(),
            ready_within: readiness::of(manifest).timeout,
        };
    }

    /// Returns the plugins that it starts after, as far as that is known.
    pub(super) fn after(&self) -> Vec<PluginName> {
        lock(&self.live).order.after.clone()
    }

    /// Says which plugins its start waits for now.
    pub(super) fn waits_for(&self, plugins: Vec<PluginName>) {
        lock(&self.live).order.waits_for = plugins;
    }

    /// Returns how long a process of it may take to be ready.
    pub(super) fn ready_within(&self) -> Duration {
        lock(&self.live).order.ready_within
    }

    /// Says what is known of how the core has died in the version that is loaded.
    pub(super) fn has_crashed(&self, crash: Option<Crash>) {
        lock(&self.live).crash = crash;
    }

    /// Remembers a version of its library that has been loaded.
    pub(super) fn follow(&self, life: &Arc<Life>) {
        let mut live = lock(&self.live);
        live.lives.push(Arc::clone(life));
        let gone = |life: &Arc<Life>| life.status().state == GenerationState::Unmapped;
        let mut most = live.lives.iter().filter(|life| gone(life)).count();
        live.lives.retain(|life| {
            let forget = most > REMEMBERED && gone(life);
            most -= usize::from(forget);
            !forget
        });
    }

    /// Returns the library that serves, whatever is being done with the plugin.
    pub(super) fn serving(&self) -> Option<Library> {
        lock(&self.live).library.clone()
    }

    /// Takes `library` for the one that serves.
    pub(super) fn serves(&self, library: Option<&Library>) {
        let before = std::mem::replace(&mut lock(&self.live).library, library.cloned());
        drop(before);
    }

    /// Tells whether what serves would hand its state over to a next version.
    pub(crate) fn hands_over(&self) -> bool {
        let serving = self.serving();
        serving.is_some_and(|library| library.description().save)
    }

    /// Tells whether this thread is inside of what serves.
    pub(crate) fn is_around_here(&self) -> bool {
        let serving = self.serving();
        serving.is_some_and(|library| library.within().is_here())
    }

    /// Has the versions of its library that are isolated end, whatever is still underway in them.
    fn hurry(&self) {
        let limit = Instant::now() + DRAIN;
        for isolated in lock(&self.live).apart.iter().filter_map(Weak::upgrade) {
            isolated.instances.hurry(limit);
        }
    }

    fn lives(&self) -> Vec<Arc<Life>> {
        lock(&self.live).lives.clone()
    }

    /// Comes to a state; `pid` is what runs in it.
    pub(crate) fn enter(&self, inner: &Inner, state: State, pid: Option<u32>) {
        {
            let mut live = lock(&self.live);
            live.state = state;
            live.pid = pid;
            if state == State::Ready {
                live.error = None;
                live.ready_since = Some(Timestamp::now().to_string());
            }
        }
        inner.state_changed(self.name(), state);
    }

    /// Comes to a state of failure.
    pub(crate) fn fail(&self, inner: &Inner, state: State, error: String) {
        {
            let mut live = lock(&self.live);
            live.state = state;
            live.pid = None;
            live.error = Some(error);
        }
        inner.state_changed(self.name(), state);
    }

    /// Stays in its state, with a note of what went wrong.
    pub(crate) fn keep(&self, inner: &Inner, error: String) {
        let state = {
            let mut live = lock(&self.live);
            live.error = Some(error);
            live.state
        };
        inner.state_changed(self.name(), state);
    }

    /// Returns how often a process of it was launched again, and how often any of them.
    pub(super) fn restarts(&self, role: Role) -> (u32, u32) {
        let live = lock(&self.live);
        (live.processes.restarts(role), live.restarts)
    }

    /// Returns how a process of it has ended last.
    pub(super) fn last_exit(&self, role: Role) -> Option<LastExit> {
        lock(&self.live).processes.last_exit(role)
    }

    /// Goes on counting where another core has stopped, for one of its processes.
    pub(super) fn take_over(&self, memo: &Memo) {
        let mut live = lock(&self.live);
        let last_exit = memo.last_exit.as_ref();
        live.processes
            .take_over(memo.role(), memo.restarts, last_exit);
        let at = |exit: &LastExit| exit.at.parse::<Timestamp>().ok();
        if live.last_exit.as_ref().and_then(at) < last_exit.and_then(at) {
            live.last_exit = last_exit.cloned();
        }
        live.restarts = live.restarts.max(memo.restarts_in_all);
        live.last_number = live.last_number.max(memo.number);
        live.generation = live.generation.max(memo.number);
    }

    /// Returns what another core has left of it.
    pub(super) fn left(&self) -> MutexGuard<'_, Left> {
        lock(&self.left)
    }

    /// Notes how one of its processes has ended.
    pub(super) fn has_exited(&self, role: Role, exit: LastExit) {
        let mut live = lock(&self.live);
        live.processes.has_exited(role, &exit);
        live.last_exit = Some(exit);
    }

    pub(super) fn count_restart(&self, role: Role) {
        let mut live = lock(&self.live);
        live.restarts += 1;
        live.processes.count_restart(role);
    }

    /// Gives a number to a load or launch that is about to be tried.
    pub(crate) fn next_generation(&self) -> u64 {
        let mut live = lock(&self.live);
        live.last_number += 1;
        live.last_number
    }

    /// Goes on counting behind the core that runs.
    pub(super) fn goes_on_from(&self, generation: u64) {
        let mut live = lock(&self.live);
        live.last_number = live.last_number.max(generation);
    }

    /// Takes the load or launch of this number for what runs.
    pub(crate) fn runs_generation(&self, number: u64) {
        lock(&self.live).generation = number;
    }
}

fn source_text(entry: &PluginEntry) -> String {
    let location = &entry.source.location;
    match &entry.source.reference {
        GitReference::Unspecified => location.clone(),
        GitReference::Branch(name) => format!("{location} (branch {name})"),
        GitReference::Tag(name) => format!("{location} (tag {name})"),
        GitReference::Rev(name) => format!("{location} (rev {name})"),
    }
}

impl Inner {
    /// Loads or launches what has been prepared, in the place of what ran before.
    pub(crate) fn activate(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        running: &mut Running,
        prepared: Prepared,
        force: bool,
    ) -> Result<(), StepError> {
        let candidate = self.load(plugin, prepared)?;
        self.activate_loaded(plugin, running, candidate, force)
    }

    /// Puts what has been loaded in the place of what ran before.
    pub(crate) fn activate_loaded(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        running: &mut Running,
        mut candidate: Candidate,
        force: bool,
    ) -> Result<(), StepError> {
        self.swap(
            &mut [Incoming {
                plugin,
                running: &mut *running,
                next: candidate.library.take(),
                number: candidate.number,
            }],
            force,
        )?;
        self.settle(plugin, running, candidate)
    }

    /// Does everything for a version that comes before its turn: secrets, probe, load.
    pub(crate) fn load(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        prepared: Prepared,
    ) -> Result<Candidate, StepError> {
        let name = plugin.name();
        let failed = |step: Step| step.of(name);
        // What went wrong before does not concern this version.
        lock(&plugin.live).error = None;
        plugin.has_order(&prepared.manifest);
        // One for both halves of a hybrid.
        let number = plugin.next_generation();
        let secrets = self.deliver(name, &prepared.manifest).map_err(failed)?;
        self.message_limits.set(name, prepared.manifest.max_message);
        let file = prepared.artifacts.as_ref().and_then(|a| a.library.clone());
        let is_core = plugin.entry.kind == PluginKind::Core;
        if file.is_none() && is_core {
            let error = std::io::Error::other("the build has made no library");
            return Err(failed(Step::Prepare(error)));
        }
        let library = match file {
            Some(file) => {
                let paths = secrets.place().map(Place::paths);
                let library = self.open_library(plugin, &prepared.manifest, &file, number, paths);
                Some(library.map_err(failed)?)
            }
            None => {
                if prepared.manifest.isolate {
                    let message = "there is nothing to isolate: it has no library";
                    self.logs.plugin(name.as_str(), Level::Warn, message);
                }
                None
            }
        };
        if is_core && !plugin.state().is_settled() {
            plugin.enter(self, State::Starting, None);
        }
        Ok(Candidate {
            prepared,
            number,
            secrets,
            library,
        })
    }

    /// Does what is left when a version's library, if it has one, serves: its process is launched.
    pub(crate) fn settle(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        running: &mut Running,
        candidate: Candidate,
    ) -> Result<(), StepError> {
        let kept = plugin.left().take_unchanged();
        if let Some(kept) = kept
            && kept.runs(command(plugin, &candidate.prepared).as_ref())
        {
            // Its processes run what they would be launched with, and have their secrets.
            self.complete(plugin, running, kept);
            return Ok(());
        }
        // Whom the old ones were for is gone, or goes with them.
        let secrets = candidate.secrets.keep();
        if plugin.entry.kind == PluginKind::Core {
            match &running.library {
                Some(Library::Loaded(library)) => library.hold(secrets),
                Some(Library::Isolated(isolated)) => {
                    isolated.hold(secrets);
                    // It is as its process is.
                    return Ok(());
                }
                None => {}
            }
            plugin.enter(self, State::Ready, Some(std::process::id()));
            return Ok(());
        }
        // The skills of a hybrid are switched over first: should its library fail, what ran before
        // runs on. Its old process has ended before the new one starts.
        if running.has_processes() {
            plugin.enter(self, State::Stopping, None);
            running.stop_processes(self);
        }
        match process::start(self, plugin, candidate.prepared, candidate.number, secrets) {
            Ok(processes) => {
                running.processes = processes;
                Ok(())
            }
            Err(step) => {
                self.unload(plugin, running);
                Err(step.of(plugin.name()))
            }
        }
    }

    /// Takes a plugin's skills away and waits for its `cleanup`, and for those of its versions that
    /// were replaced.
    pub(crate) fn unload(&self, plugin: &Plugin, running: &mut Running) {
        self.withdraw_offering(plugin);
        self.withdraw(plugin, running);
        plugin.hurry();
        // How each went is in the plugin's log; here it only matters that it is over.
        for life in plugin.lives() {
            let late = if !life.reaches(GenerationState::Retired, DRAIN + ENDING) {
                format!(
                    "a call is still running in the plugin after {DRAIN:?}; its cleanup runs when \
                     it returns"
                )
            } else if !life.is_cleaned_up(CLEANUP) {
                format!("its cleanup has not returned within {CLEANUP:?}")
            } else {
                continue;
            };
            self.logs.plugin(plugin.name().as_str(), Level::Warn, late);
        }
    }

    /// Waits until what a plugin has left in memory is gone or known to stay, at most `limit`.
    pub(crate) fn wait_unmapped(&self, plugin: &Plugin, limit: Duration) {
        let deadline = Instant::now() + limit;
        for life in plugin.lives() {
            let left = deadline.saturating_duration_since(Instant::now());
            life.reaches(GenerationState::Unmapped, left);
        }
    }

    /// Starts a plugin that does not run.
    pub(crate) fn bring_up(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        running: &mut Running,
        prepared: Result<Prepared, StepError>,
    ) -> Result<(), StepError> {
        let outcome = if self.is_closing() {
            Err(Step::Closing.of(plugin.name()))
        } else {
            prepared.and_then(|prepared| self.activate(plugin, running, prepared, true))
        };
        match &outcome {
            Ok(()) => {}
            // Nothing is wrong with it.
            Err(error) if matches!(error.step, Step::Closing) => {
                plugin.enter(self, State::Stopped, None);
            }
            Err(error) => {
                self.report_failure(plugin, error);
                plugin.fail(self, State::Failed, super::full_message(&error.step));
            }
        }
        outcome
    }

    pub(crate) fn report_failure(&self, plugin: &Plugin, error: &StepError) {
        let message = super::full_message(error);
        let level = match error.step {
            Step::Closing => Level::Info,
            _ => Level::Error,
        };
        self.logs.plugin(plugin.name().as_str(), level, &message);
        self.logs.core(level, &message);
    }

    /// Stops what runs of a plugin. `state` is what it comes to.
    pub(crate) fn take_down(&self, plugin: &Plugin, running: &mut Running, state: State) {
        plugin.left().forget();
        // In a shutdown, its process has been stopped already.
        let was_running = !running.is_empty() || plugin.state() == State::Stopping;
        if was_running {
            plugin.enter(self, State::Stopping, None);
        }
        running.stop_processes(self);
        self.unload(plugin, running);
        plugin.forget_processes();
        if was_running {
            self.logs
                .plugin(plugin.name().as_str(), Level::Shutdown, "Plugin shut down.");
        }
        plugin.enter(self, state, None);
    }
}

impl Plugin {
    /// Waits for other operations on this plugin, at most `limit`, then keeps them out.
    pub(crate) fn lock_running_within(&self, limit: Duration) -> Option<MutexGuard<'_, Running>> {
        let begun = Instant::now();
        loop {
            match self.running.try_lock() {
                Ok(running) => return Some(running),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if begun.elapsed() > limit => return None,
                // Only a shutdown waits so, and there is no lock that waits for a time.
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Waits for other operations on this plugin, then keeps them out.
    pub(crate) fn lock_running(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }
}

impl Running {
    pub(crate) fn is_empty(&self) -> bool {
        self.library.is_none() && self.processes.is_empty()
    }

    /// Lets go of a process that has ended by itself, if it is there: the one of launch `id`.
    pub(crate) fn forget_process(&mut self, id: u64) -> bool {
        let before = self.processes.len();
        self.processes.retain(|process| process.id() != id);
        self.processes.len() < before
    }

    /// Takes in a process that is launched or taken over.
    pub(super) fn take_in(&mut self, process: Process) {
        self.processes.push(process);
    }

    pub(crate) fn has_processes(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Waits until its processes have been let go of.
    pub(super) fn wait_let_go(&mut self, inner: &Inner) {
        process::wait_let_go(std::mem::take(&mut self.processes), inner);
    }

    pub(crate) fn stop_processes(&mut self, inner: &Inner) {
        process::stop(self.take_processes(), inner);
    }

    /// Hands over what is to be stopped, with the duty to do that.
    pub(super) fn take_processes(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.processes)
    }
}
