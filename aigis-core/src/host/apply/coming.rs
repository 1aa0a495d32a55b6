//! One plugin that comes: a new one, or one that runs with another entry.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::super::library::Library;
use super::super::operations::refuse_on_its_way;
use super::super::plugin::{Candidate, Plugin, Running};
use super::super::prepare::Prepared;
use super::super::step::{Step, StepError};
use super::super::swap::Incoming;
use super::super::{HostError, Inner, State, full_message, lock};
use crate::config::PluginEntry;
use crate::logging::Level;
use crate::source::Before;

/// How many plugins are prepared at the same time; builds take turns anyway.
const AHEAD: usize = 8;

/// A plugin that comes, as far as it is.
pub(in super::super) struct Coming {
    /// The plugin, with the entry that it is to have.
    pub(in super::super) plugin: Arc<Plugin>,
    /// The same with its old entry, if it is there already.
    old: Option<Arc<Plugin>>,
    /// Whether the entry names another source, or there is none yet.
    fetches: bool,
    /// What stood where its source is now.
    pub(super) before: Option<Before>,
    prepared: Option<Prepared>,
    pub(super) candidate: Option<Candidate>,
    /// Whether anything of it ran when its turn came.
    was_running: bool,
}

impl Coming {
    /// Makes a plugin that is not there yet.
    pub(in super::super) fn added(inner: &Inner, entry: PluginEntry) -> Self {
        let crash = inner.deaths.of(&entry.name);
        Self::new(Plugin::new(entry, crash), None, true)
    }

    /// Gives a plugin that is there another entry.
    pub(super) fn changed(old: &Arc<Plugin>, entry: PluginEntry, fetches: bool) -> Self {
        Self::new(old.with_entry(entry), Some(Arc::clone(old)), fetches)
    }

    fn new(plugin: Plugin, old: Option<Arc<Plugin>>, fetches: bool) -> Self {
        Self {
            plugin: Arc::new(plugin),
            old,
            fetches,
            before: None,
            prepared: None,
            candidate: None,
            was_running: false,
        }
    }

    /// Tells whether it is there already, and is to run in another way altogether.
    pub(super) fn is_of_another_kind(&self) -> bool {
        let kind = self.plugin.entry.kind;
        self.old.as_ref().is_some_and(|old| old.entry.kind != kind)
    }

    pub(super) fn old(&self) -> Option<&Arc<Plugin>> {
        self.old.as_ref()
    }

    /// Fetches, checks and builds it. What fails leaves its folder as it was.
    pub(in super::super) fn prepare(&mut self, inner: &Inner) -> Result<(), HostError> {
        let prepared = self.try_prepare(inner);
        match prepared {
            Ok(prepared) => self.prepared = Some(prepared),
            Err(error) => {
                inner.report_failure(&self.plugin, &error);
                self.put_back(inner);
                self.note(inner, &error);
                return Err(HostError::Step(error));
            }
        }
        Ok(())
    }

    /// Fetches it, before its kind is known.
    pub(in super::super) fn fetch(&mut self, inner: &Inner) -> Result<(), HostError> {
        match inner.fetch_anew(&self.plugin) {
            Ok(before) => {
                self.before = Some(before);
                self.fetches = false;
                Ok(())
            }
            Err(error) => {
                inner.report_failure(&self.plugin, &error);
                Err(HostError::Step(error))
            }
        }
    }

    /// Gives a plugin that is not there yet another entry.
    pub(in super::super) fn is_to_be(&mut self, inner: &Inner, entry: PluginEntry) {
        let crash = inner.deaths.of(&entry.name);
        self.plugin = Arc::new(Plugin::new(entry, crash));
    }

    fn try_prepare(&mut self, inner: &Inner) -> Result<Prepared, StepError> {
        let place = inner.home.plugin(self.plugin.name());
        if self.fetches {
            self.before = Some(inner.fetch_anew(&self.plugin)?);
        } else if !Path::is_dir(&place) {
            return inner.prepare(&self.plugin, false);
        }
        inner.prepare_fetched(&self.plugin)
    }

    /// Delivers its secrets, and loads its library if it has one; nothing leads to that yet.
    pub(in super::super) fn load(&mut self, inner: &Arc<Inner>) -> Result<(), HostError> {
        let loaded = match self.prepared.take() {
            Some(prepared) => inner.load(&self.plugin, prepared),
            None => Err(Step::Closing.of(self.plugin.name())),
        };
        match loaded {
            Ok(candidate) => {
                self.candidate = Some(candidate);
                Ok(())
            }
            Err(error) => {
                inner.report_failure(&self.plugin, &error);
                self.put_back(inner);
                self.note(inner, &error);
                Err(HostError::Step(error))
            }
        }
    }

    /// Returns the names of the skills that its library offers.
    pub(super) fn names(&self) -> std::collections::HashSet<String> {
        let library = self.candidate.as_ref().and_then(|one| one.library.as_ref());
        let servings = library.map_or(&[][..], Library::servings);
        servings
            .iter()
            .map(|serving| serving.offer().name.clone())
            .collect()
    }

    /// Says in the status of what runs that it was to change.
    fn note(&self, inner: &Inner, error: &StepError) {
        if let Some(old) = &self.old {
            old.keep(inner, full_message(&error.step));
        }
    }

    /// Puts back what stood where its source is.
    pub(in super::super) fn put_back(&mut self, inner: &Inner) {
        if let Some(Err(error)) = self.before.take().map(Before::put_back) {
            let message = format!(
                "its old source cannot be put back: {}",
                full_message(&error)
            );
            let name = self.plugin.name().as_str();
            inner.logs.plugin(name, Level::Error, message);
        }
    }

    /// Brings a plugin up that is not there yet.
    pub(in super::super) fn come(mut self, inner: &Arc<Inner>) -> Result<Self, HostError> {
        let plugin = Arc::clone(&self.plugin);
        let mut running = plugin.lock_running();
        // From here on a shutdown sees it, or is seen below.
        inner.list(&plugin);
        let came = self.bring(inner, &mut running, true, || {});
        if let Err(error) = came {
            inner.report_failure(&plugin, &error);
            inner.take_away(&plugin, &mut running);
            drop(running);
            self.put_back(inner);
            return Err(HostError::Step(error));
        }
        Ok(self)
    }

    /// Puts a plugin with its new entry in its own place.
    pub(super) fn take_place(mut self, inner: &Arc<Inner>, force: bool) -> Result<Self, HostError> {
        let Some(old) = self.old.clone() else {
            return self.come(inner);
        };
        let plugin = Arc::clone(&self.plugin);
        let mut running = plugin.lock_running();
        let refused = inner
            .refuse_gone(&old)
            .and_then(|()| refuse_on_its_way(&old, &running));
        if let Err(error) = refused {
            drop(running);
            self.put_back(inner);
            return Err(error);
        }
        self.was_running = !running.is_empty();
        if !self.was_running && old.state() == State::Stopped {
            // Whoever has stopped it starts it again, then with its new entry.
            inner.list_instead(&old, &plugin);
            return Ok(self);
        }
        self.load(inner)?;
        // Once its library serves, the new entry counts.
        let came = self.bring(inner, &mut running, force, || {
            inner.list_instead(&old, &plugin);
        });
        let Err(error) = came else {
            drop(running);
            return Ok(self);
        };
        inner.report_failure(&plugin, &error);
        if inner.refuse_gone(&old).is_ok() {
            // Nothing has been changed.
            self.put_back(inner);
            self.note(inner, &error);
        } else {
            self.go_back(inner, &old, &mut running, full_message(&error.step));
        }
        Err(HostError::Step(error))
    }

    /// Swaps the library, calls `swapped`, and launches its processes.
    fn bring(
        &mut self,
        inner: &Arc<Inner>,
        running: &mut Running,
        force: bool,
        swapped: impl FnOnce(),
    ) -> Result<(), StepError> {
        let plugin = &self.plugin;
        let closing = || Step::Closing.of(plugin.name());
        let mut candidate = self.candidate.take().ok_or_else(closing)?;
        if inner.is_closing() {
            is_unused(&mut candidate);
            return Err(closing());
        }
        inner.swap(
            &mut [Incoming {
                plugin,
                running: &mut *running,
                next: candidate.library.take(),
                number: candidate.number,
            }],
            force,
        )?;
        swapped();
        inner.settle(plugin, running, candidate)
    }

    /// Waits until it is up; if it does not come up, all is as it was.
    pub(in super::super) fn settle(mut self, inner: &Arc<Inner>) -> Result<(), HostError> {
        let plugin = Arc::clone(&self.plugin);
        inner.wait_until_settled(&plugin);
        if !plugin.state().is_failure() {
            if let Some(before) = self.before.take() {
                before.let_go();
            }
            return Ok(());
        }
        let why = why_failed(&plugin);
        let mut running = plugin.lock_running();
        // What somebody else has done with it meanwhile stays.
        inner.refuse_gone(&plugin)?;
        match self.old.clone() {
            None => {
                inner.take_away(&plugin, &mut running);
                drop(running);
                self.put_back(inner);
            }
            Some(old) => self.go_back(inner, &old, &mut running, why.clone()),
        }
        Err(HostError::NotUp(why))
    }

    /// Brings its old entry back, and what ran by it.
    fn go_back(
        &mut self,
        inner: &Arc<Inner>,
        old: &Arc<Plugin>,
        running: &mut Running,
        why: String,
    ) {
        let plugin = Arc::clone(&self.plugin);
        inner.list_instead(&plugin, old);
        if !self.was_running {
            inner.take_down(&plugin, running, State::Failed);
            self.put_back(inner);
            old.fail(inner, State::Failed, why);
            return;
        }
        self.put_back(inner);
        bring_back(inner, old, running);
        old.keep(inner, why);
    }
}

/// Starts again what had to go for what has not come up.
pub(super) fn bring_back(inner: &Arc<Inner>, old: &Arc<Plugin>, running: &mut Running) {
    let message = format!("bringing {} back as it was", old.name());
    inner.logs.core(Level::Info, message);
    old.enter(inner, State::Starting, None);
    let prepared = inner.prepare_fetched(old);
    // A failure is in the logs and the status.
    let _ = inner.bring_up(old, running, prepared);
}

pub(super) fn why_failed(plugin: &Plugin) -> String {
    let status = plugin.status();
    let why = status
        .error
        .unwrap_or_else(|| format!("it is {}", status.state));
    format!("it has not come up: {why}")
}

pub(super) fn is_unused(candidate: &mut Candidate) {
    super::super::library::retire(candidate.library.take().into_iter().collect());
}

/// Prepares plugins, several at a time; returns each with how that went.
pub(super) fn prepare_all(
    inner: &Inner,
    comings: Vec<Coming>,
) -> Vec<(Coming, Result<(), HostError>)> {
    type Place = Mutex<(Coming, Result<(), HostError>)>;
    let places: Vec<Place> = comings
        .into_iter()
        .map(|coming| Mutex::new((coming, Ok(()))))
        .collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AHEAD.min(places.len()) {
            scope.spawn(|| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (coming, prepared) = &mut *lock(place);
                    *prepared = coming.prepare(inner);
                }
            });
        }
    });
    let done = places.into_iter().map(|place| {
        place
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    });
    done.collect()
}
