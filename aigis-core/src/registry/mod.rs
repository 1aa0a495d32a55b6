//! Which loaded version offers which skill. Does no I/O and runs no plugin's code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aigis_plugin_api::signature::{Signature, SignatureId};
use arc_swap::ArcSwapOption;

use crate::config::PluginName;

/// The namespace of the core's own skills.
pub const CORE_NAMESPACE: &str = "aigis";

/// One skill that is offered, with whatever serves it.
#[derive(Clone, Debug)]
pub struct Offer<T> {
    /// Its full name.
    pub name: String,
    /// What its author says of it.
    pub doc: String,
    /// Its signature.
    pub signature: Signature,
    /// The id of its signature.
    pub id: SignatureId,
    /// What serves it.
    pub target: T,
}

/// The place of one name. It outlives every plugin that offers it, so whoever has found it once
/// need not look it up again.
#[derive(Debug)]
pub struct Slot<T> {
    name: String,
    offer: ArcSwapOption<Offer<T>>,
}

impl<T> Slot<T> {
    /// Returns the full name of the skill.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is offered under the name now.
    pub fn offer(&self) -> Option<Arc<Offer<T>>> {
        self.offer.load_full()
    }
}

/// The names, who offers them, and under which slot they are found.
#[derive(Debug)]
pub struct Registry<T> {
    slots: BTreeMap<String, Arc<Slot<T>>>,
    owners: BTreeMap<String, PluginName>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }
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

impl<T> Registry<T> {
    /// Puts `offers` in the place of everything that `plugin` offered before, or nothing at all.
    ///
    /// # Errors
    /// Every name that it may not offer.
    pub fn install(
        &mut self,
        plugin: &PluginName,
        offers: Vec<Offer<T>>,
    ) -> Result<(), Vec<Conflict>> {
        let conflicts = self.conflicts(plugin, &offers);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let names: BTreeSet<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
        let gone: Vec<String> = self
            .owned_by(plugin)
            .filter(|name| !names.contains(name))
            .map(str::to_owned)
            .collect();
        for offer in offers {
            self.owners.insert(offer.name.clone(), plugin.clone());
            let slot = self.slot(&offer.name);
            slot.offer.store(Some(Arc::new(offer)));
        }
        for name in gone {
            self.clear(&name);
        }
        Ok(())
    }

    /// Puts the core's own skills in their places.
    pub fn install_core(&mut self, offers: Vec<Offer<T>>) {
        for offer in offers {
            self.slot(&offer.name).offer.store(Some(Arc::new(offer)));
        }
    }

    fn conflicts(&self, plugin: &PluginName, offers: &[Offer<T>]) -> Vec<Conflict> {
        let mut seen = BTreeSet::new();
        let mut conflicts = Vec::new();
        for Offer { name, .. } in offers {
            let skill = name.clone();
            if !name.split('.').all(is_identifier) {
                conflicts.push(Conflict::Malformed { skill });
            } else if name.split('.').next() == Some(CORE_NAMESPACE) {
                conflicts.push(Conflict::Reserved { skill });
            } else if !seen.insert(name) {
                conflicts.push(Conflict::Twice { skill });
            } else if let Some(owner) = self.owners.get(name)
                && owner != plugin
            {
                let owner = owner.clone();
                conflicts.push(Conflict::Taken { skill, owner });
            }
        }
        conflicts
    }

    /// Takes away everything that `plugin` offers.
    pub fn withdraw(&mut self, plugin: &PluginName) {
        let names: Vec<String> = self.owned_by(plugin).map(str::to_owned).collect();
        for name in names {
            self.clear(&name);
        }
    }

    fn clear(&mut self, name: &str) {
        self.owners.remove(name);
        if let Some(slot) = self.slots.get(name) {
            slot.offer.store(None);
        }
    }

    fn owned_by<'r>(&'r self, plugin: &'r PluginName) -> impl Iterator<Item = &'r str> {
        self.owners
            .iter()
            .filter(move |(_, owner)| *owner == plugin)
            .map(|(name, _)| name.as_str())
    }

    /// Returns the slot of `name`, whether or not anybody offers it yet.
    pub fn slot(&mut self, name: &str) -> Arc<Slot<T>> {
        if let Some(slot) = self.slots.get(name) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            name: name.to_owned(),
            offer: ArcSwapOption::empty(),
        });
        self.slots.insert(name.to_owned(), Arc::clone(&slot));
        slot
    }

    /// Returns what is offered under `name` now.
    pub fn offer(&self, name: &str) -> Option<Arc<Offer<T>>> {
        self.slots.get(name)?.offer()
    }

    /// Returns everything that plugins offer, by name, with its owner.
    pub fn offers(&self) -> Vec<(PluginName, Arc<Offer<T>>)> {
        let all = self.owners.iter();
        all.filter_map(|(name, owner)| Some((owner.clone(), self.offer(name)?)))
            .collect()
    }

    /// Returns the offered names most like `name`, the nearest first.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let offered = self.slots.iter().filter(|(_, slot)| slot.offer().is_some());
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

    fn offer(name: &str, target: u32) -> Offer<u32> {
        let signature = Signature {
            parameters: Vec::new(),
            result: Shape::Unit,
            error: None,
            constant: false,
        };
        Offer {
            name: name.to_owned(),
            doc: String::new(),
            id: signature.id(),
            signature,
            target,
        }
    }

    fn targets(registry: &Registry<u32>, names: &[&str]) -> Vec<Option<u32>> {
        let all = names.iter();
        all.map(|name| registry.offer(name).map(|offer| offer.target))
            .collect()
    }

    #[test]
    fn plugins_share_a_namespace() {
        let mut registry = Registry::default();
        registry
            .install(&plugin("a"), vec![offer("text.upper", 1)])
            .expect("is free");
        registry
            .install(&plugin("b"), vec![offer("text.lower", 2)])
            .expect("is free");
        assert_eq!(
            targets(&registry, &["text.upper", "text.lower"]),
            [Some(1), Some(2)]
        );
    }

    #[test]
    fn the_later_plugin_with_a_taken_name_gets_nothing_in() {
        let mut registry = Registry::default();
        registry
            .install(&plugin("a"), vec![offer("x.f", 1)])
            .expect("is free");
        let refused = registry.install(&plugin("b"), vec![offer("x.g", 2), offer("x.f", 2)]);
        assert_eq!(
            refused,
            Err(vec![Conflict::Taken {
                skill: "x.f".into(),
                owner: plugin("a")
            }])
        );
        assert_eq!(targets(&registry, &["x.f", "x.g"]), [Some(1), None]);
    }

    #[test]
    fn a_new_version_replaces_everything_of_the_old_one() {
        let mut registry = Registry::default();
        let a = plugin("a");
        registry
            .install(&a, vec![offer("x.f", 1), offer("x.g", 1)])
            .expect("is free");
        let slot = registry.slot("x.f");
        registry
            .install(&a, vec![offer("x.f", 2), offer("x.h", 2)])
            .expect("is its own");
        assert_eq!(
            targets(&registry, &["x.f", "x.g", "x.h"]),
            [Some(2), None, Some(2)]
        );
        assert_eq!(slot.offer().map(|offer| offer.target), Some(2));
        registry.withdraw(&a);
        assert_eq!(slot.offer().map(|offer| offer.target), None);
        registry
            .install(&plugin("b"), vec![offer("x.f", 3)])
            .expect("is free again");
        assert_eq!(slot.offer().map(|offer| offer.target), Some(3));
    }

    #[test]
    fn bad_names_are_all_reported() {
        let mut registry = Registry::default();
        let refused = registry.install(
            &plugin("a"),
            vec![
                offer("aigis.status", 1),
                offer("x..y", 1),
                offer("x.f", 1),
                offer("x.f", 1),
            ],
        );
        assert_eq!(refused.map_err(|conflicts| conflicts.len()), Err(3));
    }

    #[test]
    fn the_nearest_names_are_found() {
        let mut registry = Registry::default();
        registry
            .install(
                &plugin("a"),
                vec![offer("greeter.greet", 1), offer("markdown.render", 1)],
            )
            .expect("is free");
        assert_eq!(registry.nearest("greeter.gret"), ["greeter.greet"]);
        assert_eq!(registry.nearest("render"), ["markdown.render"]);
        assert!(registry.nearest("zzz").is_empty());
    }
}
