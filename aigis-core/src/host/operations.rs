//! What a host does when it is asked: reload, stop, start, shut down.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::plugin::{Plugin, Running};
use super::{HostError, Inner, Phase, PluginStatus, State, full_message, lock};
use crate::loader;
use crate::logging::Level;
use crate::registry;

/// How long a shutdown waits for an operation on a plugin that does not notice it.
const BUSY: Duration = Duration::from_secs(10);

/// How long a reload or a start waits for the plugin to be ready, once it has been launched.
const SETTLE: Duration = Duration::from_secs(65);

/// How long a shutdown waits for builds and requirements commands, which it has killed.
const PREPARATIONS_END: Duration = Duration::from_secs(10);

impl Inner {
    fn find(&self, name: &str) -> Result<&Arc<Plugin>, HostError> {
        let found = self.plugins.iter().find(|p| p.name().as_str() == name);
        found.ok_or_else(|| {
            let known = self.plugins.iter().map(|plugin| plugin.name().as_str());
            HostError::UnknownPlugin {
                name: name.to_owned(),
                nearest: registry::nearest(name, known),
            }
        })
    }

    /// Refuses what cannot be done now, whichever plugin it is for.
    fn refuse_now(&self) -> Result<(), HostError> {
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

    pub(crate) fn reload(
        self: &Arc<Self>,
        name: &str,
        fresh: bool,
    ) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        self.logs.core(Level::Info, format!("reloading {name}"));
        let mut running = plugin.lock_running();
        refuse_on_its_way(plugin, &running)?;
        // What runs goes on until its next version is ready to take its place.
        let outcome = self
            .prepare(plugin, fresh)
            .and_then(|prepared| self.activate(plugin, &mut running, prepared));
        match outcome {
            Ok(()) => {
                drop(running);
                self.logs.core(Level::Info, format!("reloaded {name}"));
                self.wait_settled(Some(SETTLE), |p| p.name() == plugin.name());
                Ok(plugin.status())
            }
            Err(error) => {
                self.report_failure(plugin, &error);
                let message = full_message(&error.step);
                if running.is_empty() {
                    plugin.fail(self, State::Failed, message);
                } else {
                    plugin.keep(self, message);
                }
                Err(HostError::Step(error))
            }
        }
    }

    pub(crate) fn stop(&self, name: &str) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let mut running = plugin.lock_running();
        refuse_on_its_way(plugin, &running)?;
        if !running.is_empty() {
            self.take_down(plugin, &mut running, State::Stopped);
            self.logs.core(Level::Info, format!("stopped {name}"));
        }
        Ok(plugin.status())
    }

    pub(crate) fn start_plugin(self: &Arc<Self>, name: &str) -> Result<PluginStatus, HostError> {
        let plugin = self.find(name)?;
        self.refuse_now()?;
        let mut running = plugin.lock_running();
        if !running.is_empty() || !plugin.state().is_settled() {
            let message = format!("plugin `{name}` is {} already", plugin.state());
            return Err(HostError::Refused(message));
        }
        plugin.enter(self, State::Fetching, None);
        let prepared = self.prepare(plugin, false);
        self.bring_up(plugin, &mut running, prepared)
            .map_err(HostError::Step)?;
        drop(running);
        self.wait_settled(Some(SETTLE), |p| p.name() == plugin.name());
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
        self.logs.core(Level::Shutdown, "shutting down");
        self.cancel.store(true, Ordering::Relaxed);
        self.board.close();
        // Processes first, in reverse order; then what they may have been using.
        for plugin in self.plugins.iter().rev() {
            // A reload that waits for a silent server holds its plugin for longer; should that have
            // a process, its shim ends it when this process has ended.
            let Some(mut running) = plugin.lock_running_within(BUSY) else {
                let message = format!(
                    "{} is busy; its shutdown is left to its shim",
                    plugin.name()
                );
                self.logs.core(Level::Error, message);
                continue;
            };
            if running.has_process() {
                plugin.enter(self, State::Stopping, None);
                running.stop_process(self);
            }
        }
        // They have been told to end; what they leave running would outlive this process.
        let left = self.preparations.close(PREPARATIONS_END);
        if left > 0 {
            let message = format!("{left} programs that prepare plugins could not be ended");
            self.logs.core(Level::Error, message);
        }
        for plugin in self.plugins.iter().rev() {
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
        if let Some(server) = self.server.get() {
            self.wait_on(server.shutdown(Duration::from_secs(2)));
        }
        self.logs.core(Level::Shutdown, "shut down");
        lock(&self.lock).take();
        *lock(&self.phase) = Phase::Closed;
        self.changed.notify_all();
    }

    /// Ends a plugin whose process, launch `id`, has ended for good.
    pub(crate) fn bury(&self, plugin: &Plugin, id: u64, state: State, error: Option<String>) {
        let mut running = plugin.lock_running();
        // A stop or a reload that came first has taken the process and decides what follows.
        if !running.forget_process(id) {
            return;
        }
        self.unload(plugin, &mut running);
        let name = plugin.name().as_str();
        self.logs.plugin(name, Level::Shutdown, "Plugin shut down.");
        self.logs
            .core(Level::Warn, format!("{name} has terminated."));
        match error {
            Some(error) => plugin.fail(self, state, error),
            None => plugin.enter(self, state, None),
        }
    }
}

/// Refuses what cannot be done to a plugin that is being fetched or built: it would come up all the
/// same.
fn refuse_on_its_way(plugin: &Plugin, running: &Running) -> Result<(), HostError> {
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
