//! Stops of several plugins: side by side, and those that wait for others before these.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::operations::refuse_on_its_way;
use super::order;
use super::plugin::{Plugin, Running};
use super::process;
use super::{HostError, Inner, PluginStatus, State};
use crate::logging::Level;

/// How long a shutdown waits for operations on plugins that do not notice it.
const BUSY: Duration = Duration::from_secs(10);

impl Inner {
    /// Stops plugins and waits until their processes are gone and each `cleanup` has run. Blocks.
    pub(crate) fn stop_set(
        &self,
        names: &[&str],
        force: bool,
    ) -> Result<Vec<PluginStatus>, HostError> {
        let set = self.in_order(names)?;
        self.refuse_now()?;
        // All at once, in the order in which everybody locks them: nothing is stopped if one is refused.
        let mut held: Vec<_> = set
            .iter()
            .map(|plugin| (Arc::clone(plugin), plugin.lock_running()))
            .collect();
        for (plugin, running) in &held {
            self.refuse_gone(plugin)?;
            refuse_on_its_way(plugin, running)?;
            if !force {
                self.refuse_needed(plugin, |other| names.contains(&other))?;
            }
        }
        for wave in order::waves(&set) {
            let mut now: Vec<_> = held
                .iter_mut()
                .filter(|(plugin, running)| {
                    !running.is_empty() && wave.iter().any(|one| one.name() == plugin.name())
                })
                .collect();
            let processes = now.iter_mut().map(|(plugin, running)| {
                plugin.enter(self, State::Stopping, None);
                running.take_processes()
            });
            process::stop(processes.flatten().collect(), self);
            for (plugin, running) in now {
                self.take_down(plugin, running, State::Stopped);
                self.logs
                    .core(Level::Info, format!("stopped {}", plugin.name()));
            }
        }
        drop(held);
        let status = |name: &&str| self.find(name).map(|plugin| plugin.status());
        names.iter().map(status).collect()
    }

    /// Stops plugins and starts them again, those that others wait for first. Blocks.
    pub(crate) fn restart(
        self: &Arc<Self>,
        names: &[&str],
    ) -> Result<Vec<PluginStatus>, HostError> {
        let set = self.in_order(names)?;
        // What their manifests said when they were started; should that have changed, they wait a little longer.
        let order: Vec<_> = order::waves(&set).into_iter().flatten().collect();
        // They are back in a moment, and with them what others have been compiled for.
        self.stop_set(names, true)?;
        let mut outcome = Ok(());
        for plugin in order.iter().rev() {
            let started = self.start_plugin(plugin.name().as_str()).map(drop);
            // One that fails keeps none of the others from being started again.
            outcome = outcome.and(started);
        }
        outcome?;
        let status = |name: &&str| self.find(name).map(|plugin| plugin.status());
        names.iter().map(status).collect()
    }

    /// Stops all processes in a shutdown, wave by wave. Returns the plugins in the order in which that was done.
    pub(super) fn stop_all_processes(&self) -> Vec<Arc<Plugin>> {
        let waves = order::waves(&self.plugins());
        for wave in &waves {
            let deadline = Instant::now() + BUSY;
            let mut held: Vec<(&Plugin, MutexGuard<'_, Running>)> = Vec::new();
            let mut busy = Vec::new();
            for plugin in wave {
                // A reload that waits for a silent server holds its plugin for longer; should that have
                // a process, its shim ends it when this process has ended.
                let left = deadline.saturating_duration_since(Instant::now());
                match plugin.lock_running_within(left) {
                    Some(running) => held.push((plugin, running)),
                    None => busy.push(plugin.name().as_str()),
                }
            }
            for name in busy {
                let message = format!("{name} is busy; its shutdown is left to its shim");
                self.logs.core(Level::Error, message);
            }
            let mut processes = Vec::new();
            for (plugin, running) in held.iter_mut().filter(|(_, one)| one.has_processes()) {
                plugin.enter(self, State::Stopping, None);
                processes.extend(running.take_processes());
            }
            process::stop(processes, self);
        }
        waves.into_iter().flatten().collect()
    }
}
