//! Which plugins a host has: one comes, one goes, one changes its entry.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use aigis_plugin_api::__private::differences;

use super::operations::refuse_on_its_way;
use super::plugin::{Plugin, Running};
use super::{HostError, Inner, Phase, State, compatibility, lock};
use crate::config::{PluginName, Present, Standing};
use crate::logging::Level;
use crate::registry::Part;

impl Inner {
    /// Waits until the start has brought every plugin to its turn and nobody else changes which plugins
    /// there are, and keeps others from doing so.
    pub(super) fn change_of_plugins(&self) -> Result<MutexGuard<'_, ()>, HostError> {
        // Before it waits: a plugin's `new` that asks for it may be what the start waits for.
        self.refuse_now()?;
        {
            let mut phase = lock(&self.phase);
            while *phase == Phase::Open && !self.booted.load(Ordering::Acquire) {
                let woken = self.changed.wait(phase);
                phase = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
        let turn = lock(&self.changing);
        self.refuse_now()?;
        Ok(turn)
    }

    /// Notes that the start is through.
    pub(super) fn booted(&self) {
        self.booted.store(true, Ordering::Release);
        let _phase = lock(&self.phase);
        self.changed.notify_all();
    }

    /// Returns what plugins there are, as a config is compared with them.
    pub(super) fn present_plugins(&self) -> Vec<Present> {
        let plugins = self.plugins();
        let present = plugins.iter().map(|plugin| Present {
            entry: plugin.entry.clone(),
            standing: plugin.standing(),
        });
        present.collect()
    }

    fn change_list(&self, change: impl FnOnce(&mut Vec<Arc<Plugin>>)) {
        let plugins = self.plugins.write();
        change(&mut plugins.unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts a plugin into the list, after the others of its kind.
    pub(super) fn list(&self, new: &Arc<Plugin>) {
        self.list_exchanged(&[], std::slice::from_ref(new));
    }

    /// Takes a plugin off the list.
    pub(super) fn unlist(&self, gone: &Arc<Plugin>) {
        self.list_exchanged(std::slice::from_ref(gone), &[]);
    }

    /// Takes plugins off the list and puts others into it, after the others of their kind.
    pub(super) fn list_exchanged(&self, gone: &[Arc<Plugin>], new: &[Arc<Plugin>]) {
        let is_gone = |plugin: &Arc<Plugin>| gone.iter().any(|one| Arc::ptr_eq(one, plugin));
        self.change_list(|plugins| {
            plugins.retain(|plugin| !is_gone(plugin));
            plugins.extend(new.iter().cloned());
            // Stable: the order within a kind stays.
            plugins.sort_by_key(|plugin| plugin.entry.kind);
        });
        // Whoever waits for one of the old ones has nothing to wait for.
        let _phase = lock(&self.phase);
        self.changed.notify_all();
    }

    /// Puts a plugin where another one stands in the list.
    pub(super) fn list_instead(&self, old: &Arc<Plugin>, new: &Arc<Plugin>) {
        self.change_list(|plugins| {
            for plugin in plugins.iter_mut().filter(|plugin| Arc::ptr_eq(plugin, old)) {
                *plugin = Arc::clone(new);
            }
            plugins.sort_by_key(|plugin| plugin.entry.kind);
        });
    }

    /// Brings the list into this order, within each kind; whoever is not in it comes last.
    pub(super) fn arrange(&self, order: &[PluginName]) {
        let place = |plugin: &Arc<Plugin>| {
            let place = order.iter().position(|name| name == plugin.name());
            (plugin.entry.kind, place.unwrap_or(usize::MAX))
        };
        self.change_list(|plugins| plugins.sort_by_cached_key(place));
    }

    /// Refuses what is asked of a plugin that has gone, or has another entry, since it was found. Its
    /// `running` is held.
    pub(super) fn refuse_gone(&self, plugin: &Arc<Plugin>) -> Result<(), HostError> {
        match self.plugins().iter().any(|one| Arc::ptr_eq(one, plugin)) {
            true => Ok(()),
            false => {
                let name = plugin.name();
                let message =
                    format!("plugin `{name}` was changed or removed meanwhile; try again");
                Err(HostError::Refused(message))
            }
        }
    }

    /// Refuses to take the skills of a library from those who have been compiled for them, apart from
    /// plugins that are `left_out`.
    pub(super) fn refuse_needed(
        &self,
        plugin: &Plugin,
        left_out: impl Fn(&str) -> bool,
    ) -> Result<(), HostError> {
        let name = plugin.name();
        let now = self.registry().offers_of(name, Part::Library);
        if now.is_empty() {
            return Ok(());
        }
        let importers = self.importers(|other| other == name.as_str() || left_out(other));
        let lost = compatibility::broken(&importers, &now, &[], differences);
        if lost.is_empty() {
            return Ok(());
        }
        Err(HostError::Refused(format!(
            "plugin `{name}` serves what others have been compiled for; stop or change them first, or \
             use `--force`, and their calls fail:\n  {}",
            lost.join("\n  ")
        )))
    }

    /// Stops a plugin and forgets it. Its folders stay.
    pub(super) fn drop_plugin(
        &self,
        plugin: &Arc<Plugin>,
        force: bool,
        left_out: impl Fn(&str) -> bool,
    ) -> Result<(), HostError> {
        let mut running = plugin.lock_running();
        self.refuse_gone(plugin)?;
        refuse_on_its_way(plugin, &running)?;
        if !force {
            self.refuse_needed(plugin, left_out)?;
        }
        self.take_away(plugin, &mut running);
        Ok(())
    }

    /// Takes down what runs of a plugin, and the plugin off the list.
    pub(super) fn take_away(&self, plugin: &Arc<Plugin>, running: &mut Running) {
        self.take_down(plugin, running, State::Stopped);
        self.unlist(plugin);
        self.logs
            .core(Level::Info, format!("removed {}", plugin.name()));
    }

    /// Says of each plugin whether the config lists it, where that is known.
    pub(super) fn note_standing(&self, listed: impl Fn(&PluginName) -> bool) {
        for plugin in self.plugins() {
            if listed(plugin.name()) {
                plugin.stands(Standing::Listed);
            } else if plugin.standing() == Standing::Listed {
                plugin.stands(Standing::Unlisted);
            }
        }
    }
}
