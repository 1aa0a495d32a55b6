//! Libraries in processes of their own, as the core sees them: loaded, opened, called, retired as those
//! that it has loaded itself.
//!
//! The process [reports](Report) how far it is, with a call over its session; the answer is the next
//! [`Order`], once there is one. So the core never calls the process for anything but its skills.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Description, Failure, FailureKind, Grant};
use aigis_plugin_api::codec;
use aigis_plugin_api::session::frame::{Offer, OfferedSkill};

use super::instances::{Instance, Instances};
use super::isolate::{ISOLATE_ARGUMENT, Order, Report};
use super::plugin::Plugin;
use super::process::{self, Process};
use super::processes::{Condition, Role};
use super::remote::Elsewhere;
use super::secrets_place::SecretsPaths;
use super::step::Step;
use super::{Inner, State, lock};
use crate::config::{Manifest, PluginName};
use crate::loader::guard::{Within, seats};
use crate::loader::{
    self, DRAIN_TIMEOUT, Done, GenerationState, Life, LoadError, NEW_DEADLINE, PROBE_DEADLINE,
    Probed, Remote, Serving,
};
use crate::logging::Level;
use crate::registry;
use crate::rpc::{Answer, Callee, SessionInfo, Underway};
use crate::supervisor::Exit;

/// How often a shutdown is looked for while the process is waited for.
const CLOSING_CHECK: Duration = Duration::from_millis(100);

/// A version of a library in a process of its own.
pub(crate) struct Isolated {
    plugin: PluginName,
    number: u64,
    description: Description,
    servings: Box<[Serving]>,
    life: Arc<Life>,
    /// How long its streams may go on when it is replaced.
    drain: Duration,
    /// The process, when it serves.
    pub(super) instances: Arc<Instances>,
    exchange: Mutex<Exchange>,
    changed: Condvar,
    process: Mutex<Option<Process>>,
    /// What must be there for as long as the library is, such as its secrets.
    held: Mutex<Vec<Box<dyn Any + Send>>>,
    inner: Weak<Inner>,
}

/// What the process has said last, and what it is to hear.
struct Exchange {
    stage: Stage,
    /// What its library may know of itself, for the launch that runs.
    grant: Option<Grant>,
    report: Option<Report>,
    /// How many of its reports have come.
    reports: u64,
    /// It waits for an order, since the report of this number.
    waiting: Option<(u64, Done)>,
    /// It has none to hear it yet.
    order: Option<Order>,
    /// Its offer has been taken.
    offered: bool,
    /// How it has ended, until it is launched again.
    ended: Option<String>,
    now: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is told what to do, step by step. When it ends, it has failed.
    Coming,
    /// It is open, and is launched again when it ends; nothing leads to it yet.
    Open,
    /// It serves.
    Serving,
    /// It has been replaced or stopped.
    Leaving,
}

/// Has the library of a plugin, which has passed the probe, loaded in a process of its own. It is not
/// open yet, and nothing leads to it.
pub(super) fn load(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    manifest: &Manifest,
    file: &Path,
    number: u64,
    probed: Probed,
    secrets: Option<&SecretsPaths>,
) -> Result<Arc<Isolated>, Step> {
    let mut arguments = vec![
        ISOLATE_ARGUMENT.to_owned(),
        text_of(file)?,
        inner.logs.threshold().to_string(),
    ];
    if let Some(timeout) = manifest.call_timeout {
        arguments.push(timeout.as_millis().to_string());
    }
    let instances = Instances::new(plugin.name());
    let remote: Arc<dyn Remote> = Arc::new(Elsewhere::new(inner, &instances));
    let description = probed.description;
    let servings = description.skills.iter().map(|skill| {
        let offer = registry::Offer {
            name: skill.name.clone(),
            doc: skill.doc.clone(),
            id: skill.signature.id(),
            signature: skill.signature.clone(),
            plugin: plugin.name().to_string(),
            generation: number,
            idempotent: skill.idempotent,
        };
        Serving::of_process(Arc::new(offer), &remote)
    });
    let isolated = Arc::new(Isolated {
        servings: servings.collect(),
        plugin: plugin.name().clone(),
        number,
        description,
        // None of it is in the core's memory.
        life: Arc::new(Life::new(number, 0)),
        drain: manifest.drain_timeout.unwrap_or(DRAIN_TIMEOUT),
        instances,
        exchange: Mutex::new(Exchange {
            stage: Stage::Coming,
            grant: None,
            report: None,
            reports: 0,
            waiting: None,
            order: None,
            offered: false,
            ended: None,
            now: Condition::of(State::Starting, None),
        }),
        changed: Condvar::new(),
        process: Mutex::default(),
        held: Mutex::default(),
        inner: Arc::downgrade(inner),
    });
    plugin.follow(&isolated.life);
    plugin.runs_apart(&isolated);
    let process = process::start_isolated(inner, plugin, &isolated, manifest, arguments, secrets);
    let loaded = process.and_then(|process| {
        *lock(&isolated.process) = Some(process);
        isolated.is_loaded().map_err(Step::Load)
    });
    if loaded.is_err() {
        retire(Arc::clone(&isolated));
    }
    loaded.map(|()| isolated)
}

/// Makes a text of a path, as arguments are.
fn text_of(path: &Path) -> Result<String, Step> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        let message = format!("`{}` is not valid UTF-8", path.display());
        Step::Prepare(std::io::Error::other(message))
    })
}

/// Retires a version that has been taken out of its slots, or never came there. Returns at once.
pub(super) fn retire(isolated: Arc<Isolated>) {
    isolated.lock().stage = Stage::Leaving;
    isolated.life.enter(GenerationState::Draining, None);
    let name = format!("retire-{}-{}", isolated.plugin, isolated.number);
    let leaving = Arc::clone(&isolated);
    let spawned = thread::Builder::new()
        .name(name)
        .spawn(move || leaving.end());
    if spawned.is_err() {
        // Then whoever retires it waits.
        isolated.end();
    }
}

impl Isolated {
    fn lock(&self) -> MutexGuard<'_, Exchange> {
        lock(&self.exchange)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn description(&self) -> &Description {
        &self.description
    }

    pub(super) fn servings(&self) -> &[Serving] {
        &self.servings
    }

    /// Keeps `what` until the process has ended.
    pub(super) fn hold(&self, what: impl Any + Send) {
        lock(&self.held).push(Box::new(what));
    }

    /// Waits until `look` finds something, the process has ended, or the host closes.
    fn wait<R>(
        &self,
        what: &'static str,
        limit: Duration,
        mut look: impl FnMut(&mut Exchange) -> Option<R>,
    ) -> Result<R, LoadError> {
        let begun = Instant::now();
        let mut exchange = self.lock();
        loop {
            if let Some(found) = look(&mut exchange) {
                return Ok(found);
            }
            if let Some(ended) = &exchange.ended {
                return Err(LoadError::Ended(ended.clone()));
            }
            let left = limit.saturating_sub(begun.elapsed());
            let closing = self.inner.upgrade().is_none_or(|inner| inner.is_closing());
            if left.is_zero() || closing {
                let after = begun.elapsed();
                return Err(LoadError::Silent { what, after });
            }
            let woken = self.changed.wait_timeout(exchange, left.min(CLOSING_CHECK));
            exchange = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the process has loaded the library.
    fn is_loaded(&self) -> Result<(), LoadError> {
        let outcome = self.wait(
            "loaded its library",
            PROBE_DEADLINE,
            |exchange| match exchange.report.take()? {
                Report::Loaded => Some(Ok(())),
                Report::Failed(failure) => Some(Err(failure)),
                _ => None,
            },
        )?;
        outcome.map_err(LoadError::Open)
    }

    /// Tells the process what to do, as soon as it listens.
    fn order(&self, order: Order) {
        let waiting = {
            let mut exchange = self.lock();
            exchange.report = None;
            match exchange.waiting.take() {
                Some((_, waiting)) => Some((waiting, order)),
                None => {
                    exchange.order = Some(order);
                    None
                }
            }
        };
        if let Some((waiting, order)) = waiting {
            waiting(encoded(&order));
        }
    }

    /// Has the constructors run and the skills offered.
    pub(super) fn open(
        &self,
        grant: &Grant,
        saved: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<(), LoadError> {
        self.order(Order::Open {
            grant: grant.clone(),
            saved,
            limit_ms: milliseconds(limit),
        });
        let what = "offered the skills of its library";
        let outcome = self.wait(what, limit, |exchange| {
            if exchange.offered {
                return Some(Ok(()));
            }
            match exchange.report.take()? {
                Report::Failed(failure) => Some(Err(failure)),
                _ => None,
            }
        })?;
        outcome.map_err(LoadError::Open)
    }

    /// Has its state written down. No call may be underway, but for those that their callers have given
    /// up: the process waits for them.
    pub(super) fn save(&self, limit: Duration) -> Result<Option<Vec<u8>>, LoadError> {
        self.order(Order::Save {
            // Less than is waited here: also that it was too little is to be heard.
            limit_ms: milliseconds(limit / 10 * 9),
        });
        let outcome = self.wait("saved its state", limit, |exchange| {
            match exchange.report.take()? {
                Report::Saved(saved) => Some(Ok(saved)),
                Report::Unsaved(failure) => Some(Err(failure)),
                _ => None,
            }
        })?;
        outcome.map_err(LoadError::Open)
    }

    /// Says that new calls go to it.
    pub(super) fn serves(&self, inner: &Inner, plugin: &Plugin) {
        self.life.enter(GenerationState::Serving, None);
        plugin.has_library_process(true);
        let mut exchange = self.lock();
        if exchange.stage == Stage::Open {
            exchange.stage = Stage::Serving;
        }
        // Under the lock: what happens to the process meanwhile is told afterwards.
        plugin.process_is(inner, Role::Library, exchange.now.clone());
    }

    /// Hears how the process is.
    pub(super) fn is(&self, inner: &Inner, plugin: &Plugin, now: Condition) {
        let mut exchange = self.lock();
        exchange.now = now.clone();
        if exchange.stage == Stage::Serving {
            plugin.process_is(inner, Role::Library, now);
        }
    }

    /// Hears that the process is launched, and what its library may know of itself.
    pub(super) fn is_launched(&self, grant: Grant) {
        let mut exchange = self.lock();
        exchange.grant = Some(grant);
        exchange.ended = None;
        exchange.report = None;
        exchange.order = None;
        exchange.offered = false;
    }

    /// Hears that the process has ended; returns whether it is to be launched again.
    pub(super) fn has_ended(&self, exit: &Exit) -> bool {
        let (stage, waiting) = {
            let mut exchange = self.lock();
            exchange.ended = Some(exit.to_string());
            (exchange.stage, exchange.waiting.take())
        };
        self.changed.notify_all();
        drop(waiting);
        matches!(stage, Stage::Open | Stage::Serving)
    }

    /// Hears how far the process is; it waits for the next order.
    pub(super) fn reported(
        self: &Arc<Self>,
        report: &[u8],
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let report: Report = match codec::from_slice(report) {
            Ok(report) => report,
            Err(error) => {
                done(Err(Failure::new(FailureKind::Arguments, error.to_string())));
                return None;
            }
        };
        let mut exchange = self.lock();
        let by_itself = matches!(exchange.stage, Stage::Open | Stage::Serving);
        let order = match (&report, exchange.grant.take_if(|_| by_itself)) {
            (Report::Failed(_), _) => Some(Order::End),
            // It was launched again: nobody has anything to hand over to it.
            (Report::Loaded, Some(grant)) => Some(Order::Open {
                grant,
                saved: None,
                limit_ms: milliseconds(NEW_DEADLINE),
            }),
            _ => exchange.order.take(),
        };
        exchange.report = Some(report);
        exchange.reports += 1;
        let number = exchange.reports;
        let waits = order.is_none();
        let (told, before) = match order {
            Some(order) => (Some((done, order)), None),
            None => (None, exchange.waiting.replace((number, done))),
        };
        drop(exchange);
        self.changed.notify_all();
        if let Some((done, order)) = told {
            done(encoded(&order));
        }
        drop(before);
        waits.then(|| {
            let listens = Listens {
                isolated: Arc::downgrade(self),
                report: number,
            };
            Arc::new(listens) as Arc<dyn Underway>
        })
    }

    /// Takes the process for the one that serves.
    pub(super) fn offered(
        &self,
        session: &Arc<SessionInfo>,
        offer: &Offer,
        callee: &Arc<dyn Callee>,
        answer: Answer,
    ) -> bool {
        let is_same = |skill: &OfferedSkill| {
            let own = self.description.skills.iter();
            let mut same = own.filter(|own| own.name == skill.name);
            same.any(|own| own.signature == skill.signature)
        };
        let all = self.description.skills.len();
        if offer.skills.len() != all || !offer.skills.iter().all(is_same) {
            let message = "the library offers other skills than when it was tried out";
            answer(Err(Failure::new(FailureKind::Refused, message)));
            return false;
        }
        self.instances
            .served_by(vec![Instance::new(session, callee)]);
        self.instances.forget_gone();
        let ended = {
            let mut exchange = self.lock();
            let ended = exchange.ended.clone();
            if ended.is_none() {
                exchange.offered = true;
                // Its watch says so as well, a little later.
                exchange.now = Condition::of(State::Ready, Some(session.pid));
                if exchange.stage == Stage::Coming {
                    exchange.stage = Stage::Open;
                }
            }
            ended
        };
        if let Some(ended) = ended {
            // Whoever waits for it has heard that, and nobody launches it again.
            self.instances.leave(session.id);
            let message = format!("its process has ended: {ended}");
            answer(Err(Failure::new(FailureKind::Refused, message)));
            return false;
        }
        self.changed.notify_all();
        answer(Ok(()));
        true
    }

    /// Waits until nobody is inside, and ends the process.
    fn end(&self) {
        seats::wait_until_gone(&Within::of(&self.servings), None, || false);
        // With a call that does not end it stays, until the plugin is stopped.
        self.instances.wait_quiet(None);
        if !self.instances.wait_over(Instant::now() + self.drain) {
            let failure = loader::superseded(self.plugin.as_str(), self.drain);
            self.instances.supersede(failure);
        }
        self.life.enter(GenerationState::Retired, None);
        let process = lock(&self.process).take();
        if let (Some(process), Some(inner)) = (process, self.inner.upgrade()) {
            process::stop(vec![process], &inner);
            let name = self.plugin.as_str();
            let message = format!("generation {} has ended", self.number);
            inner.logs.plugin(name, Level::Info, message);
        }
        self.instances.served_by(Vec::new());
        self.life.clean_up();
        let held = std::mem::take(&mut *lock(&self.held));
        drop(held);
        self.life.enter(GenerationState::Unmapped, None);
    }
}

/// The process waits for an order.
struct Listens {
    isolated: Weak<Isolated>,
    /// The number of the report that it waits with.
    report: u64,
}

impl Underway for Listens {
    fn give_up(&self) {
        let Some(isolated) = self.isolated.upgrade() else {
            return;
        };
        // Only its own: that may be answered already, and a later report wait there.
        let own = |waiting: &mut (u64, Done)| waiting.0 == self.report;
        let waiting = isolated.lock().waiting.take_if(own);
        drop(waiting);
    }
}

fn encoded(order: &Order) -> Result<Vec<u8>, Failure> {
    codec::to_vec(order).map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
