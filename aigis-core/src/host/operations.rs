//! What a host does when it is asked: reload, stop, start, shut down.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::isolated::Isolated;
use super::library::{self, Library};
use super::plugin::{Candidate, Plugin, Running};
use super::processes::{Condition, Role};
use super::step::StepError;
use super::swap::Incoming;
use super::{HostError, Inner, Phase, PluginStatus, State, full_message, lock};
use crate::loader;
use crate::loader::guard::seats;
use crate::logging::Level;
use crate::registry;

/// How long a shutdown waits for an operation on a plugin that does not notice it.
const BUSY: Duration = Duration::from_secs(10);

/// How long a reload or a start waits for the plugin to be ready, once it has been launched.
const SETTLE: Duration = Duration::from_secs(65);

/// How much longer than until a process must be ready it is waited for what becomes of that.
const SETTLING: Duration = Duration::from_secs(10);

/// How long a shutdown waits for builds and requirements commands, which it has killed.
const PREPARATIONS_END: Duration = Duration::from_secs(10);

/// How a reload is done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reload {
    /// A local source is copied anew.
    pub(crate) fresh: bool,
    /// What others have been compiled for may go.
    pub(crate) force: bool,
}

impl Reload {
    /// Reads the optional arguments of a skill.
    pub(crate) fn new(fresh: Option<bool>, force: Option<bool>) -> Self {
        Self {
            fresh: fresh.unwrap_or(false),
            force: force.unwrap_or(false),
        }
    }
}

/// How long a shutdown waits for libraries to leave memory.
const UNMAPPING: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) fn find(&self, name: &str) -> Result<Arc<Plugin>, HostError> {
        let plugins = self.plugins();
        let found = plugins.iter().find(|p| p.name().as_str() == name);
        found.cloned().ok_or_else(|| {
            let known = plugins.iter().map(|plugin| plugin.name().as_str());
            HostError::UnknownPlugin {
                name: name.to_owned(),
                nearest: registry::nearest(name, known),
            }
        })
    }

    /// Refuses what cannot be done now, whichever plugin it is for.
    pub(super) fn refuse_now(&self) -> Result<(), HostError> {
        if self.is_closing() {
            return Err(HostError::Refused("the core is shutting down".to_owned()));
        }
        if loader::is_constructing() {
            // It could wait for the very plugin that waits for it.
            let message = "a plugin's `new` cannot reload, stop or start plugins; a skill can";
            return Err(HostError::Refused(message.to_owned()));
        }
        Ok(())
    }

    /// Reloads plugins, together if they are several. What fails leaves all of them as they were.
    pub(crate) fn reload(
        self: &Arc<Self>,
        names: &[&str],
        how: Reload,
    ) -> Result<Vec<PluginStatus>, HostError> {
        let set = self.in_order(names)?;
        self.refuse_now()?;
        let all = names.join(", ");
        if set.iter().any(|plugin| plugin.hands_over())
            && set.iter().any(|one| one.is_around_here())
        {
            // It would wait for the very call that asks for it.
            let inner = Arc::clone(self);
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let queued = std::thread::Builder::new()
                .name("aigis-reload".to_owned())
                .spawn(move || {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    // How it goes is in the log; there is nobody left to tell.
                    let _ = inner.reload(&names, how);
                });
            queued.map_err(|error| {
                HostError::Refused(format!("no thread can be started for the reload: {error}"))
            })?;
            let message = format!("reloading {all} when the call that asks for it has returned");
            self.logs.core(Level::Info, message);
            return Ok(set.iter().map(|plugin| plugin.status()).collect());
        }
        self.logs.core(Level::Info, format!("reloading {all}"));
        let mut running: Vec<_> = set.iter().map(|plugin| plugin.lock_running()).collect();
        for (plugin, running) in set.iter().zip(&running) {
            self.refuse_gone(plugin)?;
            refuse_on_its_way(plugin, running)?;
        }
        let mut held: Vec<&mut Running> = running.iter_mut().map(|guard| &mut **guard).collect();
        match self.reload_held(&set, &mut held, how) {
            Ok(()) => {
                drop(running);
                self.logs.core(Level::Info, format!("reloaded {all}"));
                for plugin in &set {
                    self.wait_until_settled(plugin);
                }
                let order = names.iter().filter_map(|name| self.find(name).ok());
                Ok(order.map(|plugin| plugin.status()).collect())
            }
            Err(error) => {
                for (plugin, running) in set.iter().zip(&running) {
                    if *plugin.name() != error.plugin {
                        continue;
                    }
                    self.report_failure(plugin, &error);
                    let message = full_message(&error.step);
                    if running.is_empty() {
                        plugin.fail(self, State::Failed, message);
                    } else {
                        plugin.keep(self, message);
                    }
                }
                Err(HostError::Step(error))
            }
        }
    }

    fn reload_held(
        self: &Arc<Self>,
        set: &[Arc<Plugin>],
        running: &mut [&mut Running],
        how: Reload,
    ) -> Result<(), StepError> {
        // What runs goes on until its next version is ready to take its place.
        let mut prepared = Vec::new();
        for plugin in set {
            prepared.push(self.prepare(plugin, how.fresh)?);
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        for (plugin, prepared) in set.iter().zip(prepared) {
            match self.load(plugin, prepared) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => {
                    let unused = candidates.iter_mut().filter_map(|one| one.library.take());
                    library::retire(unused.collect());
                    return Err(error);
                }
            }
        }
        let mut incoming: Vec<Incoming<'_>> = set
            .iter()
            .zip(running.iter_mut())
            .zip(&mut candidates)
            .map(|((plugin, running), candidate)| Incoming {
                plugin,
                running,
                next: candidate.library.take(),
                number: candidate.number,
            })
            .collect();
        self.swap(&mut incoming, how.force)?;
        for ((plugin, running), candidate) in set.iter().zip(running).zip(candidates) {
            self.settle(plugin, running, candidate)?;
        }
        Ok(())
    }

    /// Waits until a plugin that was launched is up, or has failed.
    pub(super) fn wait_until_settled(&self, plugin: &Plugin) {
        let limit = SETTLE.max(plugin.ready_within().saturating_add(SETTLING));
        self.wait_settled(Some(limit), |p| p.name() == plugin.name());
    }

    /// Finds plugins by name, each once, in the order of the config: that in which they are locked.
    pub(super) fn in_order(&self, names: &[&str]) -> Result<Vec<Arc<Plugin>>, HostError> {
        for name in names {
            self.find(name)?;
        }
        let mut set = self.plugins();
        set.retain(|plugin| names.contains(&plugin.name().as_str()));
        if set.is_empty() {
            return Err(HostError::Refused("no plugin was named".to_owned()));
        }
        Ok(set)
    }

    /// Stops a plugin; without `force` only if nobody has been compiled for what its library offers.
    pub(crate) fn stop(&self, name: &str, force: bool) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let mut running = plugin.lock_running();
        self.refuse_gone(&plugin)?;
        refuse_on_its_way(&plugin, &running)?;
        if !force {
            self.refuse_needed(&plugin, |_| false)?;
        }
        if !running.is_empty() {
            self.take_down(&plugin, &mut running, State::Stopped);
            self.logs.core(Level::Info, format!("stopped {name}"));
        }
        Ok(plugin.status())
    }

    pub(crate) fn start_plugin(self: &Arc<Self>, name: &str) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let running = plugin.lock_running();
        self.refuse_gone(&plugin)?;
        if !running.is_empty() || !plugin.state().is_settled() {
            let message = format!("plugin `{name}` is {} already", plugin.state());
            return Err(HostError::Refused(message));
        }
        plugin.enter(self, State::Fetching, None);
        let prepared = self.prepare(&plugin, false);
        // On its way it is left alone, and whoever it waits for must be free to come to an end.
        drop(running);
        let prepared = self.wait_for_turn(&plugin, prepared);
        let mut running = plugin.lock_running();
        self.bring_up(&plugin, &mut running, prepared)
            .map_err(HostError::Step)?;
        drop(running);
        self.wait_until_settled(&plugin);
        Ok(plugin.status())
    }

    pub(crate) fn shutdown_in_background(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        // When even that cannot be done, whoever asked sees the core go on.
        let _ = std::thread::Builder::new()
            .name("aigis-shutdown".to_owned())
            .spawn(move || inner.shutdown());
    }

    pub(crate) fn shutdown(&self) {
        {
            let mut phase = lock(&self.phase);
            match *phase {
                Phase::Open => *phase = Phase::Closing,
                Phase::Closing | Phase::Closed => {
                    while *phase != Phase::Closed {
                        let woken = self.changed.wait(phase);
                        phase = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                    return;
                }
            }
            self.changed.notify_all();
        }
        self.closing.send_replace(true);
        self.logs.core(Level::Shutdown, "shutting down");
        self.cancel.store(true, Ordering::Relaxed);
        // A hand-over that waits for calls gives up.
        seats::wake_waiters();
        // Processes first; then what they may have been using.
        let order = self.stop_all_processes();
        // They have been told to end; what they leave running would outlive this process.
        let left = self.preparations.close(PREPARATIONS_END);
        if left > 0 {
            let message = format!("{left} programs that prepare plugins could not be ended");
            self.logs.core(Level::Error, message);
        }
        for plugin in &order {
            let Some(mut running) = plugin.lock_running_within(BUSY) else {
                continue;
            };
            if plugin.state() != State::Stopped {
                let before = plugin.state();
                let state = if before.is_settled() && before != State::Ready {
                    before
                } else {
                    State::Stopped
                };
                self.take_down(plugin, &mut running, state);
            }
        }
        let unmapping = Instant::now() + UNMAPPING;
        for plugin in self.plugins() {
            self.wait_unmapped(&plugin, unmapping.saturating_duration_since(Instant::now()));
        }
        if let Some(server) = self.server.get() {
            server.shutdown(Duration::from_secs(2));
        }
        lock(&self.metrics_endpoint).take();
        self.logs.core(Level::Shutdown, "shut down");
        lock(&self.lock).take();
        *lock(&self.phase) = Phase::Closed;
        self.changed.notify_all();
    }

    /// Lets go of a process, launch `id`, that has ended for good; with the last one ends the plugin.
    pub(super) fn bury(&self, plugin: &Plugin, id: u64, role: Role, now: Condition) {
        let mut running = plugin.lock_running();
        // A stop or a reload that came first has taken the process and decides what follows.
        if !running.forget_process(id) {
            return;
        }
        if running.has_processes() {
            return plugin.process_is(self, role, now);
        }
        self.unload(plugin, &mut running);
        self.tell_end(plugin);
        plugin.process_is(self, role, now);
    }

    /// Takes away what an isolated library offers whose process has ended for good.
    pub(super) fn bury_library(&self, plugin: &Plugin, isolated: &Arc<Isolated>, now: Condition) {
        let mut running = plugin.lock_running();
        // A stop or a reload that came first decides what follows.
        let is_own = |library: &Library| library.is(isolated);
        if !running.library.as_ref().is_some_and(is_own) {
            return;
        }
        self.withdraw(plugin, &mut running);
        if !running.has_processes() {
            self.unload(plugin, &mut running);
            self.tell_end(plugin);
        }
        plugin.process_is(self, Role::Library, now);
    }

    fn tell_end(&self, plugin: &Plugin) {
        let name = plugin.name().as_str();
        self.logs.plugin(name, Level::Shutdown, "Plugin shut down.");
        let message = format!("{name} has terminated.");
        self.logs.core(Level::Warn, message);
    }
}

/// Refuses what cannot be done to a plugin that is being fetched or built: it would come up all the
/// same.
pub(super) fn refuse_on_its_way(plugin: &Plugin, running: &Running) -> Result<(), HostError> {
    let state = plugin.state();
    if running.is_empty() && !state.is_settled() {
        let message = format!(
            "plugin `{}` is {state}; wait until it is up or has failed",
            plugin.name()
        );
        return Err(HostError::Refused(message));
    }
    Ok(())
}
