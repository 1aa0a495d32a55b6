//! What runs becomes what a config says, plugin by plugin.
//!
//! What a step fails with leaves its plugin as it was; the others go on. The order: everything new is
//! prepared, what is no longer listed goes, last first, what takes over names of those does so in one
//! instant, then changes and additions follow in the order of the config.

mod coming;
mod exchange;
mod groups;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use super::plugin::Plugin;
use super::{HostError, Inner};
use crate::config::{Config, Difference, PluginKind, PluginName};
use crate::logging::Level;
use crate::registry::Part;

pub(super) use coming::Coming;
use groups::Group;
pub use report::{ApplyAction, ApplyReport, ApplyStep, Outcome};

/// How a config is applied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applying {
    /// Only says what would be done.
    pub(crate) dry_run: bool,
    /// What others have been compiled for may go.
    pub(crate) force: bool,
}

impl Inner {
    /// Reads a config, the one that the host was started with unless another one is named, and applies it.
    pub(crate) fn apply_file(
        self: &Arc<Self>,
        path: Option<&str>,
        how: Applying,
    ) -> Result<ApplyReport, HostError> {
        let path = match path {
            Some(path) => PathBuf::from(path),
            None => self.config_file()?,
        };
        let config = Config::load(&path).map_err(HostError::Config)?;
        self.apply(&config, how)
    }

    /// Returns the config that the host was started with.
    pub(super) fn config_file(&self) -> Result<PathBuf, HostError> {
        match &self.configs[..] {
            [path] => Ok(path.clone()),
            [] => Err(HostError::Refused(
                "the core was started without a config; name one with `-c FILE`".to_owned(),
            )),
            _ => Err(HostError::Refused(
                "the core was started with several configs; name the one that counts with `-c FILE`"
                    .to_owned(),
            )),
        }
    }

    /// Makes what runs what a config says.
    pub(crate) fn apply(
        self: &Arc<Self>,
        config: &Config,
        how: Applying,
    ) -> Result<ApplyReport, HostError> {
        let _turn = self.change_of_plugins()?;
        let present = self.present_plugins();
        let difference = Difference::between(&present, &config.plugins);
        let mut report = ApplyReport::of(&difference, &present, how.dry_run);
        report.config = config.path.display().to_string();
        if how.dry_run {
            return Ok(report);
        }
        self.refuse_from_inside(&difference)?;
        let message = format!(
            "applying {}: {} to remove, {} to change, {} to add",
            report.config,
            difference.removed.len(),
            difference.changed.len(),
            difference.added.len()
        );
        self.logs.core(Level::Info, message);
        let mut application = Application {
            inner: self,
            force: how.force,
            removed: difference.removed.clone(),
            report,
        };
        application.run(&difference);
        let report = application.report;
        // Who says the same may say it with other words.
        for entry in difference.unchanged {
            if let Ok(plugin) = self.find(entry.name.as_str())
                && plugin.entry != entry
            {
                self.list_instead(&plugin, &Arc::new(plugin.with_entry(entry)));
            }
        }
        self.arrange(&difference.order);
        self.note_standing(|name| config.get(name.as_str()).is_some());
        let failed = report.failed();
        let message = match failed.is_empty() {
            true => format!("applied {}", report.config),
            false => format!("applied {}, but for {}", report.config, failed.join(", ")),
        };
        let level = match failed.is_empty() {
            true => Level::Info,
            false => Level::Error,
        };
        self.logs.core(level, message);
        Ok(report)
    }

    /// Refuses to change a plugin for a call that comes out of it: it would wait for itself.
    fn refuse_from_inside(&self, difference: &Difference) -> Result<(), HostError> {
        let changed = difference.changed.iter().map(|changed| &changed.entry.name);
        for name in difference.removed.iter().chain(changed) {
            if self.find(name.as_str())?.is_around_here() {
                let message = format!(
                    "a skill of `{name}` cannot ask for what changes or removes `{name}` itself"
                );
                return Err(HostError::Refused(message));
            }
        }
        Ok(())
    }
}

/// An apply on its way.
struct Application<'a> {
    inner: &'a Arc<Inner>,
    force: bool,
    /// Who goes in the course of it.
    removed: Vec<PluginName>,
    report: ApplyReport,
}

impl Application<'_> {
    fn run(&mut self, difference: &Difference) {
        let mut comings = Vec::new();
        for changed in &difference.changed {
            if let Ok(old) = self.inner.find(changed.entry.name.as_str()) {
                let entry = changed.entry.clone();
                comings.push(Coming::changed(&old, entry, changed.fetches()));
            }
        }
        for entry in &difference.added {
            comings.push(Coming::added(self.inner, entry.clone()));
        }
        let mut changes = Vec::new();
        let mut ready = Vec::new();
        // An addition that has failed and may have a library: nobody knows what that would have offered.
        let mut unknown = None;
        for (mut coming, prepared) in coming::prepare_all(self.inner, comings) {
            let name = coming.plugin.name().clone();
            let is_new = coming.old().is_none();
            // What it offers is known once it is loaded.
            let loads = is_new || coming.is_of_another_kind();
            let loaded = prepared.and_then(|()| match loads {
                true => coming.load(self.inner),
                false => Ok(()),
            });
            match loaded {
                Ok(()) if is_new => ready.push(coming),
                Ok(()) => changes.push(coming),
                Err(error) => {
                    if is_new && coming.plugin.entry.kind != PluginKind::External {
                        unknown = Some(name.clone());
                    }
                    self.failed(&name, error);
                }
            }
        }
        let going = self.going(difference, unknown.as_ref());
        let (groups, ready) = groups::of(self.inner, &going, ready);
        let leaving = |plugin: &Arc<Plugin>| {
            let mut olds = groups.iter().flat_map(|group| &group.olds);
            olds.any(|old| Arc::ptr_eq(old, plugin))
        };
        let removals: Vec<Arc<Plugin>> =
            going.iter().filter(|one| !leaving(one)).cloned().collect();
        let mut later = Vec::new();
        for plugin in removals.iter().rev() {
            match self.remove(plugin) {
                Ok(()) => self.report.ended(plugin.name(), None),
                // Those who need it may change or go as well.
                Err(_) => later.push(plugin),
            }
        }
        for group in groups {
            self.replace(group);
        }
        let mut launched = Vec::new();
        for coming in changes {
            let name = coming.plugin.name().clone();
            let came = match coming.old().cloned() {
                Some(old) if coming.is_of_another_kind() => {
                    match exchange::exchange(self.inner, &[old], vec![coming], self.force) {
                        Ok(()) => self.report.ended(&name, None),
                        Err(error) => self.failed(&name, error),
                    }
                    continue;
                }
                _ => coming.take_place(self.inner, self.force),
            };
            match came {
                Ok(coming) => launched.push(coming),
                Err(error) => self.failed(&name, error),
            }
        }
        for coming in ready {
            let name = coming.plugin.name().clone();
            match coming.come(self.inner) {
                Ok(coming) => launched.push(coming),
                Err(error) => self.failed(&name, error),
            }
        }
        for coming in launched {
            let name = coming.plugin.name().clone();
            match coming.settle(self.inner) {
                Ok(()) => self.report.ended(&name, None),
                Err(error) => self.failed(&name, error),
            }
        }
        for plugin in later {
            match self.remove(plugin) {
                Ok(()) => self.report.ended(plugin.name(), None),
                Err(error) => self.failed(&plugin.name().clone(), error),
            }
        }
    }

    /// Finds who goes now. While nobody knows what an addition that has failed would have offered, it may
    /// have been meant for the place of one that serves: that one stays.
    fn going(&mut self, difference: &Difference, unknown: Option<&PluginName>) -> Vec<Arc<Plugin>> {
        let mut going = Vec::new();
        for name in &difference.removed {
            let Ok(plugin) = self.inner.find(name.as_str()) else {
                continue;
            };
            let serves = !self
                .inner
                .registry()
                .offers_of(name, Part::Library)
                .is_empty();
            match unknown {
                Some(unknown) if serves => {
                    let message = format!(
                        "it serves on, since `{unknown}`, which may have been meant for its place, has \
                         failed"
                    );
                    self.failed(name, HostError::Refused(message));
                }
                _ => going.push(plugin),
            }
        }
        going
    }

    fn remove(&self, plugin: &Arc<Plugin>) -> Result<(), HostError> {
        let also_goes = |name: &str| self.removed.iter().any(|gone| gone.as_str() == name);
        self.inner.drop_plugin(plugin, self.force, also_goes)
    }

    fn replace(&mut self, group: Group) {
        let olds: Vec<PluginName> = group.olds.iter().map(|old| old.name().clone()).collect();
        let news: Vec<PluginName> = group
            .news
            .iter()
            .map(|new| new.plugin.name().clone())
            .collect();
        for new in &news {
            if let Some(step) = self.report.step(new) {
                step.replaces = olds.iter().map(ToString::to_string).collect();
            }
        }
        match exchange::exchange(self.inner, &group.olds, group.news, self.force) {
            Ok(()) => {
                for name in news.iter().chain(&olds) {
                    self.report.ended(name, None);
                }
            }
            Err(error) => {
                let message = error.to_string();
                for name in news.iter().chain(&olds) {
                    self.failed(name, HostError::Refused(message.clone()));
                }
            }
        }
    }

    fn failed(&mut self, name: &PluginName, error: HostError) {
        let message = error.to_string();
        let told = format!("{name}: not applied: {message}");
        self.inner.logs.core(Level::Error, told);
        self.report.ended(name, Some(message));
    }
}
