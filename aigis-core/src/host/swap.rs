//! Puts new versions of libraries in the place of old ones, while they are called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::differences;

use super::compatibility::{self, Importer};
use super::isolated::{self, Isolated};
use super::library::{self, Library};
use super::plugin::{Plugin, Running};
use super::secrets_place::SecretsPaths;
use super::step::{Step, StepError};
use super::{Inner, Isolation, lock};
use crate::config::Manifest;
use crate::loader::guard::{Change, Within, seats};
use crate::loader::{self, Pins};
use crate::logging::Level;
use crate::registry::{NameChange, Offered, Part};

/// How long callers wait at most while the state of a plugin is handed over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// From this many deaths of the core in a version of a library on, that is isolated.
const MOST_DEATHS: u32 = 2;

/// One plugin of a set that is swapped together.
pub(crate) struct Incoming<'a> {
    pub(crate) plugin: &'a Arc<Plugin>,
    pub(crate) running: &'a mut Running,
    /// What takes the place of its library; `None` for nothing.
    pub(crate) next: Option<Library>,
    pub(crate) number: u64,
}

impl Inner {
    /// Tries a library out, then loads it, or has it loaded in a process of its own. It is not open yet,
    /// and nothing leads to it.
    pub(super) fn open_library(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        manifest: &Manifest,
        file: &std::path::Path,
        number: u64,
        secrets: Option<&SecretsPaths>,
    ) -> Result<Library, Step> {
        let name = plugin.name();
        let mut ended_core = 0;
        match self.deaths.loads(name, &loader::artifact(file)) {
            Ok(crash) => {
                ended_core = crash.as_ref().map_or(0, |crash| crash.count);
                plugin.has_crashed(crash);
            }
            // It would only be remembered for too long.
            Err(error) => self.logs.core(Level::Warn, error.to_string()),
        }
        let deadline = loader::PROBE_DEADLINE;
        let probed = self
            .wait_on(loader::probe(&self.program, file, deadline))
            .map_err(Step::Load)?;
        for note in probed.notes() {
            self.logs.plugin(plugin.name().as_str(), Level::Warn, note);
        }
        let isolation = match ended_core {
            _ if manifest.isolate => Some(Isolation::Configured),
            MOST_DEATHS.. => Some(Isolation::EndedCore),
            _ => None,
        };
        if let Some(isolation) = isolation {
            self.tell_isolation(plugin, isolation, ended_core);
            let isolated = isolated::load(self, plugin, manifest, file, number, probed, secrets)?;
            plugin.is_isolated(Some(isolation));
            return Ok(Library::Isolated(isolated));
        }
        let services = Arc::clone(self) as Arc<dyn loader::Services>;
        let copies = self.home.run().join("libraries");
        let generation =
            loader::load(file, &copies, name, number, probed, &services).map_err(Step::Load)?;
        plugin.follow(generation.life());
        plugin.is_isolated(None);
        if let Some(timeout) = manifest.drain_timeout {
            generation.drain_within(timeout);
        }
        if let Some(timeout) = manifest.call_timeout {
            loader::watch(&generation, timeout);
        }
        Ok(Library::Loaded(generation))
    }

    /// Says that a library does not come into the core.
    fn tell_isolation(&self, plugin: &Plugin, isolation: Isolation, deaths: u32) {
        let name = plugin.name().as_str();
        match isolation {
            Isolation::Configured => {
                let message = "its library runs isolated, in a process of its own";
                self.logs.plugin(name, Level::Info, message);
            }
            Isolation::EndedCore => {
                let message = format!(
                    "this version of its library has ended the core {deaths} times, so it runs isolated, \
                     in a process of its own; another version is loaded into the core again"
                );
                self.logs.plugin(name, Level::Warn, &message);
                self.logs.core(Level::Warn, format!("{name}: {message}"));
            }
        }
    }

    /// Switches every plugin of a set to what comes next, in one instant. What fails leaves everything
    /// as it was; the versions that were to come are retired.
    ///
    /// Without `force`, nothing is taken from those who have been compiled for it.
    pub(crate) fn swap(
        self: &Arc<Self>,
        set: &mut [Incoming<'_>],
        force: bool,
    ) -> Result<(), StepError> {
        let swapped = self.try_swap(set, force);
        if swapped.is_err() {
            let offered: Vec<Offered> = set.iter().map(offered).collect();
            self.registry_mut().abandon(&offered);
            let unused = set.iter_mut().filter_map(|one| one.next.take());
            library::retire(unused.collect());
        }
        swapped
    }

    fn try_swap(self: &Arc<Self>, set: &mut [Incoming<'_>], force: bool) -> Result<(), StepError> {
        let Some(first) = set.first() else {
            return Ok(());
        };
        let lead = first.plugin.name().clone();
        let offered: Vec<Offered> = set.iter().map(offered).collect();
        if !force {
            let broken = self.broken_by(set, &offered);
            if !broken.is_empty() {
                return Err(Step::Incompatible(broken).of(&lead));
            }
        }
        let names = self
            .registry_mut()
            .prepare(&offered, |name| self.new_slot(name))
            .map_err(|conflicts| Step::Register(conflicts).of(&lead))?;
        let changes = changes(set, names);
        let (handing, opening): (Vec<usize>, Vec<usize>) =
            (0..set.len()).partition(|at| hands_over(&set[*at]));
        // What has nothing to wait for is made while the old version serves.
        for at in opening {
            let saved = self.state_of(set[at].plugin);
            self.open_next(&set[at], saved, loader::NEW_DEADLINE)?;
        }
        let old: Vec<Library> = set
            .iter()
            .filter_map(|one| one.running.library.clone())
            .collect();
        let together = set.len() > 1;
        if together {
            // Before anything is switched: a call of an old version never sees half of a set.
            let servings = old.iter().flat_map(|one| one.servings());
            let pins = Arc::new(Pins::of(servings.map(std::ptr::from_ref)));
            old.iter().for_each(|one| one.pin(&pins));
        }
        let switched = if handing.is_empty() {
            self.commit(self.board_of_slots().begin(changes, None), set);
            Ok(())
        } else {
            self.hand_over(set, &handing, &old, changes)
        };
        if let Err(error) = switched {
            old.iter().for_each(|one| one.unpin());
            return Err(error);
        }
        self.registry_mut().commit(&offered);
        for one in &mut *set {
            one.running.library = one.next.take();
            one.plugin.serves(one.running.library.as_ref());
            if let Some(library) = &one.running.library {
                one.plugin.runs_generation(one.number);
                self.announce(one.plugin, library);
            }
        }
        self.tell_swaps();
        library::retire(old);
        // With a library in a process of its own its plugin may be ready. Last, so that the process of
        // the old one has no say in that any more, and all else that is known of it is the new one's.
        for one in &*set {
            match &one.running.library {
                Some(Library::Isolated(isolated)) => isolated.serves(self, one.plugin),
                Some(Library::Loaded(generation)) => {
                    generation.serves();
                    one.plugin.has_library_process(false);
                }
                None => one.plugin.has_library_process(false),
            }
        }
        Ok(())
    }

    /// Holds new calls, waits for those inside, moves the state, switches, and lets the calls go.
    fn hand_over(
        self: &Arc<Self>,
        set: &[Incoming<'_>],
        handing: &[usize],
        old: &[Library],
        changes: Vec<Change>,
    ) -> Result<(), StepError> {
        let begun = Instant::now();
        let inside = Within::any(old.iter().map(|one| one.within_calls()));
        let unheld = Within::any(old.iter().map(|one| one.within_unheld()));
        // Dropped on any way out, it lets the calls go on in the old version.
        let switch = self.board_of_slots().begin(changes, Some(unheld));
        let left = || HANDOVER_TIMEOUT.saturating_sub(begun.elapsed());
        if !seats::wait_until_gone(&inside, Some(begun + HANDOVER_TIMEOUT), || {
            self.is_closing()
        }) {
            let plugin = set[handing[0]].plugin.name();
            return Err(Step::Handover(HANDOVER_TIMEOUT).of(plugin));
        }
        for (plugin, isolated) in isolated_in(set) {
            if !isolated
                .instances
                .wait_quiet(Some(begun + HANDOVER_TIMEOUT))
            {
                return Err(Step::Handover(HANDOVER_TIMEOUT).of(plugin.name()));
            }
        }
        for at in handing {
            let one = &set[*at];
            let saved = match &one.running.library {
                Some(library) => library
                    .save(left())
                    .map_err(|error| Step::Save(error).of(one.plugin.name()))?,
                None => None,
            };
            self.open_next(one, saved, left())?;
        }
        self.commit(switch, set);
        let message = format!("handed its state over in {:?}", begun.elapsed());
        for at in handing {
            let name = set[*at].plugin.name().as_str();
            self.logs.plugin(name, Level::Info, &message);
        }
        Ok(())
    }

    /// Runs the constructors of what comes next.
    fn open_next(
        self: &Arc<Self>,
        one: &Incoming<'_>,
        saved: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<(), StepError> {
        let Some(next) = &one.next else {
            return Ok(());
        };
        let name = one.plugin.name();
        let failed = |step: Step| step.of(name);
        let grant = self.grant(one.plugin, one.number).map_err(failed)?;
        let threads = next
            .open(&grant, saved, limit)
            .map_err(|error| failed(Step::Load(error)))?;
        if let Some(threads @ 1..) = threads {
            let message = format!(
                "its `new` has left threads running in the core ({threads}), which slow down every \
                 other plugin; a plugin that runs on its own is an internal one"
            );
            self.logs.plugin(name.as_str(), Level::Warn, message);
        }
        Ok(())
    }

    /// Says in the plugin's log what it offers from now on.
    fn announce(&self, plugin: &Plugin, library: &Library) {
        let name = plugin.name().as_str();
        let mut unaware = Vec::new();
        for skill in &library.description().skills {
            let message = format!("Registered {}...", skill.name);
            self.logs.plugin(name, Level::Boot, message);
            if !skill.logger && !skill.signature.constant {
                unaware.push(skill.name.as_str());
            }
        }
        if !unaware.is_empty() {
            // The original warned at each call; once a load is enough to know it.
            let message = format!(
                "Functions called without AIGIS logging: {} (they take no `logger: &Logger`; \
                 events of `tracing` and `log` are kept all the same)",
                unaware.join(", ")
            );
            self.logs.plugin(name, Level::Warn, message);
        }
        self.logs.plugin(name, Level::Boot, "Skills acquired.");
    }

    /// Takes away what a plugin's library offers, and retires it.
    pub(super) fn withdraw(&self, plugin: &Plugin, running: &mut Running) {
        let Some(library) = running.library.take() else {
            return;
        };
        plugin.serves(None);
        let nothing = [Offered {
            plugin: plugin.name().clone(),
            part: Part::Library,
            offers: Vec::new(),
        }];
        let names = self
            .registry_mut()
            .prepare(&nothing, |name| self.new_slot(name));
        // Whoever offers nothing is in nobody's way.
        let names = names.unwrap_or_default();
        let switch = self.board_of_slots().begin(changes(&[], names), None);
        self.commit_end(switch, plugin.name());
        self.registry_mut().commit(&nothing);
        self.tell_swaps();
        library::retire(vec![library]);
    }

    /// Returns everybody who has been compiled for skills of others, apart from plugins that are
    /// `left_out`.
    pub(super) fn importers(&self, left_out: impl Fn(&str) -> bool) -> Vec<Importer> {
        let mut importers: Vec<Importer> = Vec::new();
        for plugin in self.plugins() {
            if !left_out(plugin.name().as_str())
                && let Some(library) = plugin.serving()
            {
                importers.push(Importer {
                    who: plugin.name().to_string(),
                    expects: library.imports(),
                });
            }
        }
        importers.extend(lock(&self.sessions).importers(left_out));
        importers
    }

    /// Finds everything that those outside of the set have been compiled for and would lose.
    fn broken_by(&self, set: &[Incoming<'_>], offered: &[Offered]) -> Vec<String> {
        let in_set = |name: &str| set.iter().any(|one| one.plugin.name().as_str() == name);
        let importers = self.importers(in_set);
        let now: Vec<_> = set
            .iter()
            .flat_map(|one| self.registry().offers_of(one.plugin.name(), Part::Library))
            .collect();
        let next: Vec<_> = offered.iter().flat_map(|one| one.offers.clone()).collect();
        compatibility::broken(&importers, &now, &next, differences)
    }
}

fn offered(one: &Incoming<'_>) -> Offered {
    let servings = one.next.as_ref().map_or(&[][..], Library::servings);
    Offered {
        plugin: one.plugin.name().clone(),
        part: Part::Library,
        offers: servings
            .iter()
            .map(|serving| Arc::clone(serving.offer()))
            .collect(),
    }
}

/// Finds the old versions of a set that are isolated.
fn isolated_in<'a>(
    set: &'a [Incoming<'_>],
) -> impl Iterator<Item = (&'a Plugin, &'a Arc<Isolated>)> {
    set.iter().filter_map(|one| {
        let isolated = one.running.library.as_ref()?.isolated()?;
        Some((&**one.plugin, isolated))
    })
}

/// Tells whether the state goes from the old version to the next.
fn hands_over(one: &Incoming<'_>) -> bool {
    let saves = |library: &Library| library.description().save;
    one.next.is_some() && one.running.library.as_ref().is_some_and(saves)
}

/// Turns names into what their slots come to hold.
fn changes(set: &[Incoming<'_>], names: Vec<NameChange<Arc<loader::guard::Slot>>>) -> Vec<Change> {
    let serving = |(plugin, offer): (usize, usize)| {
        let next = set.get(plugin)?.next.as_ref()?;
        next.servings().get(offer).map(std::ptr::from_ref)
    };
    names
        .into_iter()
        .map(|name| Change {
            slot: name.slot,
            next: name.next.and_then(serving).unwrap_or(std::ptr::null()),
        })
        .collect()
}
