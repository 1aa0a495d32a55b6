//! Which plugin offers which skill, and in which slot calls find it. Does no I/O and runs no plugin's
//! code.

use std::collections::BTreeMap;
use std::sync::Arc;

use aigis_plugin_api::signature::{Signature, SignatureId};

use crate::config::PluginName;

/// The namespace of the core's own skills.
pub const CORE_NAMESPACE: &str = "aigis";

/// One skill that is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its full name.
    pub name: String,
    /// What its author says of it.
    pub doc: String,
    /// Its signature.
    pub signature: Signature,
    /// The id of its signature.
    pub id: SignatureId,
    /// Who offers it, as callers are told.
    pub plugin: String,
    /// Which version of it that is, counted from 1.
    pub generation: u64,
    /// A call of it may be made again when nobody knows whether it ran.
    pub idempotent: bool,
}

/// The names, who offers them, and where calls find them: a slot, which outlives every plugin that
/// offers its name.
#[derive(Debug)]
pub struct Registry<S> {
    places: BTreeMap<String, Place<S>>,
}

#[derive(Debug)]
struct Place<S> {
    slot: S,
    offered: Option<(Owner, Arc<Offer>)>,
    /// Who is about to offer it.
    claimed: Option<Owner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Core,
    Plugin(PluginName, Part),
}

/// Which half of a plugin offers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the core has loaded.
    Library,
    /// What runs in processes of its own.
    Process,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
        }
    }
}

/// What one half of a plugin offers from now on: everything, or nothing.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The plugin.
    pub plugin: PluginName,
    /// Which half of it.
    pub part: Part,
    /// All it offers.
    pub offers: Vec<Arc<Offer>>,
}

impl Offered {
    fn owner(&self) -> Owner {
        Owner::Plugin(self.plugin.clone(), self.part)
    }
}

/// What changes for one name.
#[derive(Clone, Debug)]
pub struct NameChange<S> {
    /// The name's slot.
    pub slot: S,
    /// Which of the offers takes it: of which plugin of the set, and which of its offers; `None` when
    /// nobody does.
    pub next: Option<(usize, usize)>,
}

/// Names that a plugin may not offer; nothing of it has been registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another plugin offers one of them already.
    #[error(
        "skill `{skill}` is offered by plugin `{owner}` already; rename one of them \
         (`#[skills(namespace = \"…\")]`), or leave one plugin out"
    )]
    Taken {
        /// The full name.
        skill: String,
        /// Who has it.
        owner: PluginName,
    },
    /// The plugin offers one of them twice.
    #[error("the plugin offers skill `{skill}` twice; rename one of them")]
    Twice {
        /// The full name.
        skill: String,
    },
    /// It belongs to the core.
    #[error("skill `{skill}` is in the namespace `aigis`, which belongs to the core; rename it")]
    Reserved {
        /// The full name.
        skill: String,
    },
    /// It is not made of names and dots.
    #[error("`{skill}` is not a skill's name: names of letters, digits and `_`, joined by dots")]
    Malformed {
        /// What was offered as a name.
        skill: String,
    },
}

impl<S: Clone> Registry<S> {
    /// Says what changes when each plugin of `set` offers that in the place of everything it offered
    /// before. `make` makes the slots of new names. Nothing is offered yet, but the names are kept for
    /// the set until it is [committed](Self::commit) or [abandoned](Self::abandon).
    ///
    /// # Errors
    /// Every name that one of them may not offer.
    pub fn prepare(
        &mut self,
        set: &[Offered],
        make: impl Fn(&str) -> S,
    ) -> Result<Vec<NameChange<S>>, Vec<Conflict>> {
        let conflicts = self.conflicts(set);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let mut next = BTreeMap::new();
        for (plugin, offered) in set.iter().enumerate() {
            for name in self.names_of(&offered.owner()) {
                next.entry(name.to_owned()).or_insert(None);
            }
            for (place, offer) in offered.offers.iter().enumerate() {
                next.insert(offer.name.clone(), Some((plugin, place)));
            }
        }
        let changes = next.into_iter().map(|(name, next)| {
            let slot = self.slot(&name, &make);
            if let (Some(place), Some((plugin, _))) = (self.places.get_mut(&name), next) {
                place.claimed = Some(set[plugin].owner());
            }
            NameChange { slot, next }
        });
        Ok(changes.collect())
    }

    /// Writes down what [`prepare`](Self::prepare) has found to be possible.
    pub fn commit(&mut self, set: &[Offered]) {
        self.abandon(set);
        for offered in set {
            let owner = offered.owner();
            for place in self.places.values_mut() {
                place.offered.take_if(|(own, _)| *own == owner);
            }
        }
        for offered in set {
            for offer in &offered.offers {
                if let Some(place) = self.places.get_mut(&offer.name) {
                    place.offered = Some((offered.owner(), Arc::clone(offer)));
                }
            }
        }
    }

    /// Lets go of the names that [`prepare`](Self::prepare) has kept for a set.
    pub fn abandon(&mut self, set: &[Offered]) {
        for offered in set {
            let owner = offered.owner();
            for offer in &offered.offers {
                if let Some(place) = self.places.get_mut(&offer.name) {
                    place.claimed.take_if(|by| *by == owner);
                }
            }
        }
    }

    /// Writes down one of the core's own skills and returns its slot.
    pub fn install_core(&mut self, offer: Arc<Offer>, make: impl Fn(&str) -> S) -> S {
        let slot = self.slot(&offer.name, make);
        if let Some(place) = self.places.get_mut(&offer.name) {
            place.offered = Some((Owner::Core, offer));
        }
        slot
    }

    fn conflicts(&self, set: &[Offered]) -> Vec<Conflict> {
        let mut seen = BTreeMap::new();
        let mut conflicts = Vec::new();
        for offered in set {
            let plugin = &offered.plugin;
            for offer in &offered.offers {
                let (name, skill) = (&offer.name, offer.name.clone());
                if !name.split('.').all(is_identifier) {
                    conflicts.push(Conflict::Malformed { skill });
                } else if name.split('.').next() == Some(CORE_NAMESPACE) {
                    conflicts.push(Conflict::Reserved { skill });
                } else if let Some(first) = seen.insert(name, plugin) {
                    conflicts.push(if first == plugin {
                        Conflict::Twice { skill }
                    } else {
                        let owner = first.clone();
                        Conflict::Taken { skill, owner }
                    });
                } else if let Some(owner) = self.in_the_way(name, set) {
                    conflicts.push(Conflict::Taken { skill, owner });
                }
            }
        }
        conflicts
    }

    /// Returns who has `name`, or is about to, unless the set may take it from them.
    fn in_the_way(&self, name: &str, set: &[Offered]) -> Option<PluginName> {
        let place = self.places.get(name)?;
        let offered = place.offered.as_ref().map(|(owner, _)| owner);
        let owners = offered.into_iter().chain(&place.claimed);
        let mut others = owners.filter_map(|owner| match owner {
            Owner::Core => None,
            Owner::Plugin(plugin, part) => {
                // A library comes before the processes that are launched next to it.
                let gives = |one: &Offered| {
                    one.plugin == *plugin && (one.part == *part || one.part == Part::Library)
                };
                (!set.iter().any(gives)).then(|| plugin.clone())
            }
        });
        others.next()
    }

    /// Returns the plugin that offers `name`.
    pub fn owner(&self, name: &str) -> Option<&PluginName> {
        match &self.places.get(name)?.offered {
            Some((Owner::Plugin(plugin, _), _)) => Some(plugin),
            _ => None,
        }
    }

    fn names_of(&self, owner: &Owner) -> impl Iterator<Item = &str> {
        let all = self.places.iter();
        all.filter(move |(_, place)| {
            let offered = place.offered.as_ref();
            offered.is_some_and(|(own, _)| own == owner)
        })
        .map(|(name, _)| name.as_str())
    }

    /// Returns the slot of `name`, whether or not anybody offers it yet.
    pub fn slot(&mut self, name: &str, make: impl Fn(&str) -> S) -> S {
        if let Some(place) = self.places.get(name) {
            return place.slot.clone();
        }
        let slot = make(name);
        let place = Place {
            slot: slot.clone(),
            offered: None,
            claimed: None,
        };
        self.places.insert(name.to_owned(), place);
        slot
    }

    /// Drops the place of `name` if nobody offers it or is about to, and `is_unused` says so of its slot:
    /// names that were only asked for would be kept for good.
    pub fn forget(&mut self, name: &str, is_unused: impl FnOnce(&S) -> bool) {
        let place = self.places.get(name);
        if place.is_some_and(|place| {
            place.offered.is_none() && place.claimed.is_none() && is_unused(&place.slot)
        }) {
            self.places.remove(name);
        }
    }

    /// Returns the slot of `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<S> {
        self.places.get(name).map(|place| place.slot.clone())
    }

    /// Returns everything that plugins offer, by name, with its owner.
    pub fn offers(&self) -> Vec<(PluginName, Part, Arc<Offer>)> {
        let all = self.places.values();
        all.filter_map(|place| match &place.offered {
            Some((Owner::Plugin(owner, part), offer)) => {
                Some((owner.clone(), *part, Arc::clone(offer)))
            }
            _ => None,
        })
        .collect()
    }

    /// Returns what one half of `plugin` offers.
    pub fn offers_of(&self, plugin: &PluginName, part: Part) -> Vec<Arc<Offer>> {
        let owner = Owner::Plugin(plugin.clone(), part);
        let all = self.places.values();
        let offered = all.filter_map(|place| place.offered.as_ref());
        offered
            .filter(|(own, _)| *own == owner)
            .map(|(_, offer)| Arc::clone(offer))
            .collect()
    }

    /// Returns the offered names most like `name`, the nearest first.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let offered = self.places.iter().filter(|(_, it)| it.offered.is_some());
        nearest(name, offered.map(|(name, _)| name.as_str()))
    }
}

/// Returns up to three of `known` that are like `name`, the nearest first.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Vec<String> {
    const LIKE: f64 = 0.7;
    let mut ranked: Vec<(f64, &str)> = known
        .map(|known| {
            // A name without its namespace is the most usual mistake.
            let last = known.rsplit('.').next().unwrap_or(known);
            let score = strsim::jaro_winkler(name, known);
            (if last == name { score.max(0.99) } else { score }, known)
        })
        .filter(|(score, _)| *score >= LIKE)
        .collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
    let best = ranked.into_iter().take(3);
    best.map(|(_, name)| name.to_owned()).collect()
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use aigis_plugin_api::signature::Shape;

    use super::*;

    fn plugin(name: &str) -> PluginName {
        name.parse().expect("a good name")
    }

    fn offer(name: &str) -> Arc<Offer> {
        let signature = Signature {
            parameters: Vec::new(),
            result: Shape::Unit,
            error: None,
            constant: false,
        };
        Arc::new(Offer {
            name: name.to_owned(),
            doc: String::new(),
            id: signature.id(),
            signature,
            plugin: String::new(),
            generation: 1,
            idempotent: false,
        })
    }

    fn offered(plugin_name: &str, names: &[&str]) -> Offered {
        Offered {
            plugin: plugin(plugin_name),
            part: Part::Library,
            offers: names.iter().map(|name| offer(name)).collect(),
        }
    }

    /// A name, and which of the offers takes it.
    type Changed = (String, Option<(usize, usize)>);

    /// Installs and returns what changes: the names, and what takes each.
    fn install(
        registry: &mut Registry<String>,
        set: &[Offered],
    ) -> Result<Vec<Changed>, Vec<Conflict>> {
        let changes = registry.prepare(set, str::to_owned)?;
        registry.commit(set);
        Ok(changes
            .into_iter()
            .map(|change| (change.slot, change.next))
            .collect())
    }

    fn owners(registry: &Registry<String>, names: &[&str]) -> Vec<Option<String>> {
        let all = names.iter();
        all.map(|name| registry.owner(name).map(ToString::to_string))
            .collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_name_that_was_only_asked_for_can_be_forgotten() {
        let mut registry = Registry::default();
        install(&mut registry, &[offered("a", &["a.one"])]).expect("no conflict");
        for name in ["a.one", "b.asked"] {
            registry.slot(name, str::to_owned);
        }
        let about_to = offered("c", &["c.claimed"]);
        let claimed = registry.prepare(std::slice::from_ref(&about_to), str::to_owned);
        assert!(claimed.is_ok());
        for name in ["a.one", "b.asked", "c.claimed", "nothing"] {
            registry.forget(name, |_| false);
            assert_eq!(registry.find(name).is_some(), name != "nothing");
            registry.forget(name, |slot| slot == name);
        }
        assert!(registry.find("b.asked").is_none());
        assert!(registry.find("a.one").is_some() && registry.find("c.claimed").is_some());
    }

    #[test]
    fn plugins_share_a_namespace() {
        let mut registry = Registry::default();
        install(&mut registry, &[offered("a", &["text.upper"])]).expect("is free");
        install(&mut registry, &[offered("b", &["text.lower"])]).expect("is free");
        assert_eq!(
            owners(&registry, &["text.upper", "text.lower"]),
            [some("a"), some("b")]
        );
    }

    #[test]
    fn the_later_plugin_with_a_taken_name_gets_nothing_in() {
        let mut registry = Registry::default();
        install(&mut registry, &[offered("a", &["x.f"])]).expect("is free");
        let refused = install(&mut registry, &[offered("b", &["x.g", "x.f"])]);
        assert_eq!(
            refused,
            Err(vec![Conflict::Taken {
                skill: "x.f".into(),
                owner: plugin("a")
            }])
        );
        assert_eq!(owners(&registry, &["x.f", "x.g"]), [some("a"), None]);
    }

    #[test]
    fn a_new_version_replaces_everything_of_the_old_one() {
        let mut registry = Registry::default();
        install(&mut registry, &[offered("a", &["x.f", "x.g"])]).expect("is free");
        let changes = install(&mut registry, &[offered("a", &["x.f", "x.h"])]);
        assert_eq!(
            changes.expect("is its own"),
            [
                ("x.f".to_owned(), Some((0, 0))),
                ("x.g".to_owned(), None),
                ("x.h".to_owned(), Some((0, 1))),
            ]
        );
        assert_eq!(
            owners(&registry, &["x.f", "x.g", "x.h"]),
            [some("a"), None, some("a")]
        );
        install(&mut registry, &[offered("a", &[])]).expect("is its own");
        install(&mut registry, &[offered("b", &["x.f"])]).expect("is free again");
        assert_eq!(owners(&registry, &["x.f"]), [some("b")]);
    }

    #[test]
    fn a_set_can_hand_names_to_one_another() {
        let mut registry = Registry::default();
        let first = [offered("a", &["x.f"]), offered("b", &["x.g"])];
        install(&mut registry, &first).expect("are free");
        let changes = install(
            &mut registry,
            &[offered("a", &[]), offered("b", &["x.f", "x.g"])],
        );
        assert_eq!(
            changes.expect("are theirs"),
            [
                ("x.f".to_owned(), Some((1, 0))),
                ("x.g".to_owned(), Some((1, 1))),
            ]
        );
        assert_eq!(owners(&registry, &["x.f", "x.g"]), [some("b"), some("b")]);
        let both = install(
            &mut registry,
            &[offered("b", &["x.f"]), offered("c", &["x.f"])],
        );
        assert_eq!(
            both,
            Err(vec![Conflict::Taken {
                skill: "x.f".into(),
                owner: plugin("b")
            }])
        );
    }

    #[test]
    fn the_halves_of_a_plugin_come_and_go_apart() {
        let of_process = |names: &[&str]| Offered {
            part: Part::Process,
            ..offered("a", names)
        };
        let taken = Err(vec![Conflict::Taken {
            skill: "x.f".into(),
            owner: plugin("a"),
        }]);
        let mut registry = Registry::default();
        install(&mut registry, &[offered("a", &["x.f"])]).expect("is free");
        install(&mut registry, &[of_process(&["x.g"])]).expect("is free");
        assert_eq!(install(&mut registry, &[of_process(&["x.f"])]), taken);
        // A skill moves into the library, next to which another process will be launched.
        install(&mut registry, &[offered("a", &["x.g"])]).expect("is its own");
        install(&mut registry, &[of_process(&["x.f"])]).expect("is free again");
        assert_eq!(
            registry.offers_of(&plugin("a"), Part::Process)[0].name,
            "x.f"
        );
        install(&mut registry, &[of_process(&[])]).expect("is its own");
        assert_eq!(owners(&registry, &["x.f", "x.g"]), [None, some("a")]);
    }

    #[test]
    fn what_is_prepared_is_kept_until_it_is_decided() {
        let mut registry = Registry::default();
        let set = [offered("a", &["x.f"])];
        registry.prepare(&set, str::to_owned).expect("is free");
        let taken = Err(vec![Conflict::Taken {
            skill: "x.f".into(),
            owner: plugin("a"),
        }]);
        assert_eq!(install(&mut registry, &[offered("b", &["x.f"])]), taken);
        registry.abandon(&set);
        install(&mut registry, &[offered("b", &["x.f"])]).expect("is free again");
    }

    #[test]
    fn bad_names_are_all_reported() {
        let mut registry = Registry::default();
        let refused = install(
            &mut registry,
            &[offered("a", &["aigis.status", "x..y", "x.f", "x.f"])],
        );
        assert_eq!(refused.map_err(|conflicts| conflicts.len()), Err(3));
    }

    #[test]
    fn the_nearest_names_are_found() {
        let mut registry = Registry::default();
        let set = [offered("a", &["greeter.greet", "markdown.render"])];
        install(&mut registry, &set).expect("is free");
        assert_eq!(registry.nearest("greeter.gret"), ["greeter.greet"]);
        assert_eq!(registry.nearest("render"), ["markdown.render"]);
        assert!(registry.nearest("zzz").is_empty());
    }
}
