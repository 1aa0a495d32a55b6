//! What an earlier core of this home has left running, and what becomes of it.
//!
//! At the start, before anybody can come in, the processes that run are taken over by watches of their own,
//! with the counts and tokens that the earlier core has left with their shims. When it is the turn of their
//! plugin, it is prepared only if something of it has changed or if it has a library, and what is missing
//! is launched: a process that ended meanwhile has ended now.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::launch::CommandLine;
use super::memo::Memo;
use super::plugin::{Plugin, Running};
use super::prepare::Prepared;
use super::process::{self, Program, Start};
use super::processes::{Condition, Role};
use super::readiness;
use super::secrets::{self, Delivered};
use super::secrets_place::Place;
use super::step::StepError;
use super::{Inner, full_message};
use crate::config::{Manifest, PluginName};
use crate::logging::Level;
use crate::supervisor::{EndedRecord, Remains, ShimRecord, Supervised, remains};

/// For how long at most the processes of an earlier core wait for the core plugins: theirs are the skills
/// that they call.
const GATE: Duration = Duration::from_secs(5);

/// Keeps the processes that another core has launched out until they find what they call.
pub(super) struct Gate {
    until: Instant,
    opened: AtomicBool,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            until: Instant::now() + GATE,
            opened: AtomicBool::new(false),
        }
    }

    pub(super) fn open(&self) {
        self.opened.store(true, Ordering::Relaxed);
    }

    /// Tells whether the processes of a plugin may come in: its own library counts, too.
    pub(super) fn is_open_to(&self, plugin: &Plugin) -> bool {
        let is_whole = || {
            let left = plugin.left();
            !left
                .adopted
                .as_ref()
                .is_some_and(|it| it.program.has_library)
        };
        (self.opened.load(Ordering::Relaxed) && is_whole()) || Instant::now() >= self.until
    }
}

/// What an earlier core has left of one plugin, until its turn comes.
#[derive(Default)]
pub(super) struct Left {
    adopted: Option<Adopted>,
    /// Its turn may still change what was taken over.
    turn_to_come: bool,
    /// What is being ended and in the way of a launch.
    in_the_way: Vec<JoinHandle<()>>,
}

impl Left {
    pub(super) fn is_turn_to_come(&self) -> bool {
        self.turn_to_come
    }

    pub(super) fn forget(&mut self) {
        self.adopted = None;
    }

    /// Returns the processes that go on if their program is still the same.
    pub(super) fn take_unchanged(&mut self) -> Option<Adopted> {
        self.adopted.take().filter(|adopted| !adopted.changed)
    }
}

/// A process that is not there, by its number, with how it ended if that is known.
type Absent = (u32, Option<(Box<EndedRecord>, Memo)>);

/// The processes of one plugin that have been taken over, and those that have ended or are missing.
pub(super) struct Adopted {
    program: Program,
    /// The config entry is another.
    changed: bool,
    absent: Vec<Absent>,
    /// What the processes have been given, until it is known who is launched with it.
    _secrets: Vec<Arc<Delivered>>,
}

impl Adopted {
    pub(super) fn runs(&self, line: Option<&CommandLine>) -> bool {
        line == Some(&self.program.launch)
    }
}

/// One process of a plugin, as it was found.
enum FoundProcess {
    Running(Box<Supervised>),
    Ended(Box<EndedRecord>),
}

type Family = BTreeMap<u32, (Memo, FoundProcess)>;

/// Takes over what an earlier core has left. Blocks for as long as the shims take to answer.
pub(super) fn begin(inner: &Arc<Inner>) {
    let folder = inner.home.run().join("shims");
    let all = match inner.wait_on(remains(&folder)) {
        Ok(all) => all,
        Err(error) => {
            let message = format!(
                "what an earlier core has left in `{}` cannot be read: {error}",
                folder.display()
            );
            return inner.logs.core(Level::Error, message);
        }
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for found in all {
        inner.sort(found, &mut families);
    }
    for plugin in inner.plugins() {
        if let Some(family) = families.remove(plugin.name().as_str()) {
            inner.adopt(&plugin, family);
        }
    }
}

impl Inner {
    /// Finds the plugin of one of the remains, or ends what has none.
    fn sort(self: &Arc<Self>, found: Remains, families: &mut BTreeMap<String, Family>) {
        let (record, process) = match found {
            Remains::Running(supervised, standing) => {
                let memo = Memo::read(&standing.memo);
                let name = supervised.plugin().to_string();
                let plugin = self.find(&name).ok();
                let same_kind = |memo: &Memo| {
                    let plugin = plugin.as_ref();
                    plugin.is_some_and(|plugin| plugin.entry.kind == memo.kind)
                };
                match memo.filter(same_kind) {
                    // One whose leader has ended by itself has ended, whatever is still cleared up.
                    Some(memo)
                        if memo.instance.is_some()
                            && (!standing.stopping || standing.exit.is_some()) =>
                    {
                        let number = memo.instance.unwrap_or(0);
                        let found = FoundProcess::Running(supervised);
                        let family = families.entry(name).or_default();
                        family.insert(number, (memo, found));
                    }
                    memo => {
                        let why = match (&plugin, &memo) {
                            (None, _) => "it is not in the config any more",
                            (_, None) => "it is not known what for",
                            _ if standing.stopping => "it is being stopped",
                            _ => "its library lived in the earlier core",
                        };
                        let message = format!(
                            "process {} of {name}, which an earlier core has left, is ended: {why}",
                            supervised.pid()
                        );
                        self.logs.core(Level::Info, message);
                        self.clear(&name, Remains::Running(supervised, standing));
                    }
                }
                return;
            }
            Remains::Ended(ended) => {
                let name = ended.record().plugin.to_string();
                let exit = ended.ended().exit;
                let message = format!(
                    "a process of {name} has ended at {} without a core: it {exit}",
                    ended.ended().at
                );
                self.logs.core(Level::Warn, message);
                (ended.record().clone(), Some(ended))
            }
            Remains::Lost { record, survivors } => {
                let message = format!(
                    "the shim of {} was killed without a core; what it has left was killed, too",
                    record.plugin
                );
                self.logs.core(Level::Warn, message);
                for survivor in survivors {
                    let message = format!("{survivor} of {} could not be ended", record.plugin);
                    self.logs.core(Level::Error, message);
                }
                (*record, None)
            }
            Remains::Unreachable {
                path,
                record,
                error,
            } => {
                let name = name_of(&path, record.as_deref());
                let message = format!(
                    "what an earlier core has left of {name} is ended: {}",
                    full_message(&error)
                );
                self.logs.core(Level::Warn, message);
                let remains = Remains::Unreachable {
                    path,
                    record,
                    error,
                };
                return self.clear(&name, remains);
            }
            Remains::Stale(path) => {
                let message = format!("`{}` was of no use and is removed", path.display());
                return self.logs.core(Level::Info, message);
            }
        };
        let Some(memo) = Memo::read(&record.memo) else {
            return;
        };
        let name = record.plugin.to_string();
        let same = self.find(&name).ok().is_some_and(|plugin| {
            // One with a library is started as a whole: what it did before, it did with another.
            plugin.entry.fingerprint() == memo.entry && !memo.has_library
        });
        if let (Some(ended), Some(number)) = (process, memo.instance)
            && same
        {
            let family = families.entry(name).or_default();
            family.insert(number, (memo, FoundProcess::Ended(ended)));
        }
    }

    /// Ends what cannot be taken over, in the background. A launch in its place waits for that.
    fn clear(self: &Arc<Self>, name: &str, remains: Remains) {
        let (inner, of) = (Arc::clone(self), name.to_owned());
        let task = self.runtime.spawn(async move {
            for survivor in remains.clear().await {
                let message = format!("{survivor} of {of} could not be ended");
                inner.logs.core(Level::Error, message);
            }
        });
        if let Ok(plugin) = self.find(name) {
            plugin.left().in_the_way.push(task);
        }
    }

    /// Takes over the processes of one plugin that run.
    fn adopt(self: &Arc<Self>, plugin: &Arc<Plugin>, family: Family) {
        let name = plugin.name();
        let root = self.home.plugin(name);
        let manifest = match Manifest::load(&root, &plugin.entry) {
            Ok(manifest) => Arc::new(manifest),
            Err(_) => {
                // What is wrong with it is told when it is its turn.
                let message = format!(
                    "the processes of {name} that an earlier core has left are ended: its manifest \
                     cannot be used any more"
                );
                self.logs.core(Level::Warn, message);
                for (_, found) in family.into_values() {
                    if let FoundProcess::Running(supervised) = found {
                        self.end_in_background(plugin, *supervised);
                    }
                }
                return;
            }
        };
        let Some((newest, _)) = family.values().max_by_key(|(memo, _)| memo.number) else {
            return;
        };
        let changed = newest.entry != plugin.entry.fingerprint();
        let secrets = self.take_over_secrets(name, &manifest, &family);
        let of_newest = newest.secrets_record.as_ref();
        let of_newest = of_newest.and_then(|record| secrets.get(record.as_path()));
        plugin.has_order(&manifest);
        let program = Program {
            readiness: readiness::of(&manifest),
            manifest,
            launch: newest.line(),
            of: newest.of,
            secrets: Arc::new(Mutex::new(of_newest.map_or_else(Weak::new, Arc::downgrade))),
            has_library: newest.has_library,
        };
        let mut running = plugin.lock_running();
        plugin.begins(self, program.of);
        let mut absent: Vec<_> = (0..program.of)
            .filter(|number| !family.contains_key(number))
            .map(|number| (number, None))
            .collect();
        for (number, (memo, found)) in family {
            match found {
                FoundProcess::Ended(record) => absent.push((number, Some((record, memo)))),
                FoundProcess::Running(supervised) => {
                    let message = format!(
                        "took over process {} of {} plugin {name}, which runs since {}",
                        supervised.pid(),
                        plugin.entry.kind,
                        supervised.started_at()
                    );
                    let own = memo.secrets_record.as_ref();
                    let own = own.and_then(|record| secrets.get(record.as_path()));
                    let own = own.map(Arc::clone);
                    let how = Start::TakenOver(supervised, Box::new(memo), own);
                    match process::begin(self, plugin, &program, number, how) {
                        Ok(process) => {
                            running.take_in(process);
                            self.logs.core(Level::Boot, message);
                        }
                        Err(step) => {
                            self.report_failure(plugin, &step.of(name));
                            absent.push((number, None));
                        }
                    }
                }
            }
        }
        let mut left = plugin.left();
        left.turn_to_come = true;
        left.adopted = Some(Adopted {
            program,
            changed,
            absent,
            _secrets: secrets.into_values().collect(),
        });
    }

    /// Takes shares in the secrets of processes that run, by the records of them, and keeps these out of the log.
    fn take_over_secrets(
        &self,
        name: &PluginName,
        manifest: &Manifest,
        family: &Family,
    ) -> HashMap<PathBuf, Arc<Delivered>> {
        let mut shares = HashMap::new();
        // Those that are delivered next may be others.
        let mut values = secrets::values(&manifest.secrets, &self.home.secrets(name));
        for (memo, found) in family.values() {
            // Those of what has ended have gone with it.
            let (Some(record), FoundProcess::Running(supervised)) = (&memo.secrets_record, found)
            else {
                continue;
            };
            let record = record.as_path();
            if shares.contains_key(record) {
                continue;
            }
            match Delivered::taken_over(&self.home, record) {
                Ok(delivered) => {
                    let folder = delivered.place().map(Place::folder);
                    values.extend(folder.into_iter().flat_map(secrets::all_values));
                    shares.insert(record.to_owned(), Arc::new(delivered));
                }
                Err(error) => {
                    let message = format!(
                        "the secrets of process {} of {name} may be gone: their record `{}` cannot be taken \
                         over: {error}; a restart of the plugin delivers them again",
                        supervised.pid(),
                        record.display()
                    );
                    self.logs.core(Level::Warn, message);
                }
            }
        }
        self.logs.keep(name.as_str(), &manifest.log, values);
        shares
    }

    fn end_in_background(self: &Arc<Self>, plugin: &Plugin, supervised: Supervised) {
        let task = self.runtime.spawn(async move {
            supervised
                .stop(crate::supervisor::LaunchSpec::DEFAULT_GRACE)
                .await;
        });
        plugin.left().in_the_way.push(task);
    }

    /// Tells whether a plugin goes on as it is: nothing has to be prepared.
    pub(super) fn goes_on(&self, plugin: &Plugin) -> bool {
        let left = plugin.left();
        let adopted = left.adopted.as_ref();
        adopted.is_some_and(|it| !it.changed && !it.program.has_library)
    }

    /// Has a plugin's turn at the start, in which `prepared` is none for one that goes on as it is.
    pub(super) fn take_turn(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        prepared: Option<Result<Prepared, StepError>>,
    ) -> Result<(), StepError> {
        let outcome = self.have_turn(plugin, prepared);
        plugin.left().turn_to_come = false;
        // Whoever waits for it to settle looks again.
        let _phase = super::lock(&self.phase);
        self.changed.notify_all();
        outcome
    }

    fn have_turn(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        prepared: Option<Result<Prepared, StepError>>,
    ) -> Result<(), StepError> {
        let mut running = plugin.lock_running();
        let in_the_way = std::mem::take(&mut plugin.left().in_the_way);
        for task in in_the_way {
            // It can only fail when the runtime is ending.
            let _ = self.wait_on(task);
        }
        let is_left = plugin.left().adopted.is_some();
        match prepared {
            None => {
                let adopted = plugin.left().adopted.take();
                // Without it somebody has reloaded or stopped the plugin meanwhile.
                if let Some(adopted) = adopted {
                    self.complete(plugin, &mut running, adopted);
                }
                Ok(())
            }
            Some(_) if !is_left && running.has_processes() => Ok(()),
            Some(prepared) if running.has_processes() => {
                let outcome = prepared.and_then(|it| self.activate(plugin, &mut running, it, true));
                plugin.left().forget();
                if let Err(error) = &outcome {
                    // What runs goes on, as when a reload fails.
                    self.report_failure(plugin, error);
                    let message = full_message(&error.step);
                    match running.is_empty() {
                        true => plugin.fail(self, super::State::Failed, message),
                        false => plugin.keep(self, message),
                    }
                }
                outcome
            }
            Some(prepared) => {
                plugin.left().forget();
                self.bring_up(plugin, &mut running, prepared)
            }
        }
    }

    /// Starts those processes of a plugin that are not there, beside those that were taken over.
    pub(super) fn complete(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        running: &mut Running,
        adopted: Adopted,
    ) {
        for (number, ended) in adopted.absent {
            let how = match ended {
                Some((record, memo)) => Start::Ended(record, Box::new(memo)),
                None => Start::Launch(plugin.next_generation(), None),
            };
            match process::begin(self, plugin, &adopted.program, number, how) {
                Ok(process) => running.take_in(process),
                Err(step) => {
                    let error = step.of(plugin.name());
                    self.report_failure(plugin, &error);
                    let message = full_message(&error.step);
                    match running.is_empty() {
                        true => plugin.fail(self, super::State::Failed, message),
                        false => {
                            let now = Condition::failed(super::State::Failed, message);
                            plugin.process_is(self, Role::Program(number), now);
                        }
                    }
                }
            }
        }
    }
}

/// Returns the name of the plugin that a record is of.
fn name_of(path: &std::path::Path, record: Option<&ShimRecord>) -> String {
    if let Some(record) = record {
        return record.plugin.to_string();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.split('#').next().unwrap_or_default().to_owned()
}
