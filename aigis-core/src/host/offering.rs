//! What the processes of plugins serve: taken into the registry, called, and taken away again.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use aigis_plugin_api::__private::{Failure, FailureKind, differences};
use aigis_plugin_api::session::frame::{Offer, OfferedSkill};

use super::compatibility;
use super::instances::{Instance, Instances};
use super::plugin::Plugin;
use super::remote::Elsewhere;
use super::{Inner, lock};
use crate::config::PluginName;
use crate::loader::guard::{Change, Within, seats};
use crate::loader::{Remote, Serving};
use crate::logging::Level;
use crate::registry::{self, Conflict, Offered, Part};
use crate::rpc::{Answer, Callee, SessionInfo};

/// How many skills the processes of one plugin may serve.
const MAX_SKILLS: usize = 10_000;

/// What the processes of one plugin serve.
pub(crate) struct Offering {
    /// Held for the whole of a change.
    current: Mutex<Current>,
    /// The processes that serve it.
    pub(super) instances: Arc<Instances>,
    requests: Mutex<Requests>,
}

/// The newest offer.
#[derive(Default)]
struct Current {
    /// Sorted by name.
    skills: Vec<OfferedSkill>,
    /// What callers find in slots.
    servings: Box<[Serving]>,
}

/// The offers that have not been looked at, in their order.
#[derive(Default)]
struct Requests {
    waiting: VecDeque<Request>,
    /// A thread is at it.
    worked: bool,
}

/// An offer that has not been looked at.
pub(super) struct Request {
    pub(super) session: Arc<SessionInfo>,
    pub(super) plugin: Arc<Plugin>,
    /// By which its launch is known.
    pub(super) token: String,
    pub(super) offer: Offer,
    pub(super) callee: Arc<dyn Callee>,
    pub(super) answer: Answer,
}

impl Offering {
    pub(super) fn new(plugin: &PluginName) -> Self {
        Self {
            current: Mutex::default(),
            instances: Instances::new(plugin),
            requests: Mutex::default(),
        }
    }
}

impl Inner {
    /// Has an offer looked at, after those of the same plugin that came before it.
    pub(super) fn take_offer(self: &Arc<Self>, request: Request) {
        let plugin = Arc::clone(&request.plugin);
        {
            let mut requests = lock(&plugin.offering.requests);
            requests.waiting.push_back(request);
            if std::mem::replace(&mut requests.worked, true) {
                return;
            }
        }
        let (inner, of) = (Arc::clone(self), Arc::clone(&plugin));
        let task = Box::new(move || inner.look_at_offers(&of));
        if let Err(error) = self.calls.submit(task) {
            let requests = std::mem::take(&mut *lock(&plugin.offering.requests));
            for request in requests.waiting {
                let message = format!("no thread can be started for the offer: {error}");
                (request.answer)(Err(Failure::new(FailureKind::Overloaded, message)));
            }
        }
    }

    fn look_at_offers(self: &Arc<Self>, plugin: &Plugin) {
        loop {
            let request = {
                let mut requests = lock(&plugin.offering.requests);
                let next = requests.waiting.pop_front();
                requests.worked = next.is_some();
                next
            };
            let Some(request) = request else { return };
            // A panic must neither take the thread nor leave the others waiting.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.offered(&request)));
            let outcome = outcome.unwrap_or_else(|_| {
                let message = "the core panicked at an offer";
                Err(Failure::new(FailureKind::Internal, message))
            });
            match &outcome {
                Ok(()) => self.is_up(&request.token),
                Err(failure) => {
                    let message = format!("its skills are not taken: {failure}");
                    let name = plugin.name().as_str();
                    self.logs.plugin(name, Level::Error, message);
                }
            }
            (request.answer)(outcome);
        }
    }

    fn offered(self: &Arc<Self>, request: &Request) -> Result<(), Failure> {
        let plugin = &request.plugin;
        let refused = |message: String| Failure::new(FailureKind::Refused, message);
        let found = request.offer.skills.len();
        if found > MAX_SKILLS {
            let message = format!("an offer has at most {MAX_SKILLS} skills, this one has {found}");
            return Err(Failure::new(FailureKind::TooLarge, message));
        }
        let mut skills = request.offer.skills.clone();
        skills.sort_by(|a, b| a.name.cmp(&b.name));
        let offering = &plugin.offering;
        let mut current = lock(&offering.current);
        // Looked up under the lock: after its end the plugin's names are withdrawn under it.
        let Some(generation) = self.launch_of(&request.token) else {
            return Err(refused("the launch that it belongs to is over".to_owned()));
        };
        let instance = Instance::new(&request.session, &request.callee);
        let mut instances = offering.instances.others(request.session.id);
        if !instances.is_empty() {
            if let Some(differs) = difference(&current.skills, &skills) {
                return Err(refused(format!(
                    "another process of plugin `{}` serves otherwise ({differs}); all processes of a \
                     plugin offer the same skills",
                    plugin.name()
                )));
            }
            instances.push(instance);
            offering.instances.served_by(instances);
            offering.instances.forget_gone();
            return Ok(());
        }
        let offers: Vec<Arc<registry::Offer>> = skills
            .iter()
            .map(|skill| Arc::new(registered(plugin.name(), generation, skill)))
            .collect();
        let remote: Arc<dyn Remote> = Arc::new(Elsewhere::new(self, &offering.instances));
        let servings: Box<[Serving]> = offers
            .iter()
            .map(|offer| Serving::of_process(Arc::clone(offer), &remote))
            .collect();
        self.offer_instead(plugin, &mut current, offers, servings, || {
            offering.instances.served_by(vec![Arc::clone(&instance)]);
        })
        .map_err(|conflicts| {
            let lines: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
            refused(lines.join("; "))
        })?;
        current.skills = skills;
        for skill in &current.skills {
            let message = format!("Registered {}...", skill.name);
            let name = plugin.name().as_str();
            self.logs.plugin(name, Level::Boot, message);
        }
        offering.instances.forget_gone();
        Ok(())
    }

    /// Takes away what the processes of a plugin have served.
    pub(super) fn withdraw_offering(&self, plugin: &Plugin) {
        let mut current = lock(&plugin.offering.current);
        plugin.offering.instances.served_by(Vec::new());
        current.skills.clear();
        if !current.servings.is_empty() {
            // Whoever offers nothing is in nobody's way.
            let _ = self.offer_instead(plugin, &mut current, Vec::new(), Box::default(), || {});
        }
    }

    /// Puts an offer in the place of the one that there is; `serve` makes sure that it can be called.
    fn offer_instead(
        &self,
        plugin: &Plugin,
        current: &mut Current,
        offers: Vec<Arc<registry::Offer>>,
        servings: Box<[Serving]>,
        serve: impl FnOnce(),
    ) -> Result<(), Vec<Conflict>> {
        let name = plugin.name();
        let offered = [Offered {
            plugin: name.clone(),
            part: Part::Process,
            offers,
        }];
        let names = self
            .registry_mut()
            .prepare(&offered, |name| self.new_slot(name))?;
        let [Offered { offers: next, .. }] = &offered;
        let now = self.registry().offers_of(name, Part::Process);
        if !next.is_empty() {
            let importers = self.importers(|other| other == name.as_str());
            for lost in compatibility::broken(&importers, &now, next, differences) {
                let message = format!("its process serves otherwise than before: {lost}");
                self.logs.plugin(name.as_str(), Level::Warn, message);
            }
        }
        let changes = names.into_iter().map(|change| {
            let next = change.next.and_then(|(_, at)| servings.get(at));
            Change {
                slot: change.slot,
                next: next.map_or(std::ptr::null(), std::ptr::from_ref),
            }
        });
        serve();
        let switch = self.board_of_slots().begin(changes.collect(), None);
        switch.commit();
        self.registry_mut().commit(&offered);
        let before = std::mem::replace(&mut current.servings, servings);
        // Nobody finds them any more; whoever has looked at one is gone in a moment, since calls of
        // processes stay outside.
        seats::wait_until_gone(&Within::of(&before), None, || false);
        drop(before);
        self.tell_swaps();
        Ok(())
    }
}

/// Makes what is written down of a skill that a process offers.
fn registered(plugin: &PluginName, generation: u64, skill: &OfferedSkill) -> registry::Offer {
    registry::Offer {
        name: skill.name.clone(),
        doc: skill.doc.clone(),
        id: skill.signature.id(),
        signature: skill.signature.clone(),
        plugin: plugin.to_string(),
        generation,
        idempotent: skill.idempotent,
    }
}

/// Says how two offers, sorted by name, differ; none if they do not.
fn difference(now: &[OfferedSkill], next: &[OfferedSkill]) -> Option<String> {
    let find = |skills: &[OfferedSkill], name: &str| {
        let place = skills.binary_search_by(|skill| skill.name.as_str().cmp(name));
        place.ok().map(|place| skills[place].clone())
    };
    for skill in next {
        match find(now, &skill.name) {
            None => return Some(format!("it does not serve {}", skill.name)),
            Some(other) if other != *skill => {
                return Some(format!("its {} is another", skill.name));
            }
            Some(_) => {}
        }
    }
    let missing = now.iter().find(|skill| find(next, &skill.name).is_none());
    missing.map(|skill| format!("it serves {} as well", skill.name))
}
