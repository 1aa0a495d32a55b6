//! Who takes over names from whom.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::plugin::Plugin;
use super::Inner;
use super::coming::Coming;
use crate::registry::Part;

/// Plugins that go and plugins that come, of which each has a name in common with another one: all of them
/// are switched in one instant.
pub(super) struct Group {
    pub(super) olds: Vec<Arc<Plugin>>,
    pub(super) news: Vec<Coming>,
}

/// Finds who of those that come takes over names of those that go; returns the others as well.
pub(super) fn of(
    inner: &Inner,
    going: &[Arc<Plugin>],
    coming: Vec<Coming>,
) -> (Vec<Group>, Vec<Coming>) {
    let offered = |plugin: &Arc<Plugin>| -> HashSet<String> {
        let registry = inner.registry();
        let parts = [Part::Library, Part::Process];
        let offers = parts.map(|part| registry.offers_of(plugin.name(), part));
        offers
            .iter()
            .flatten()
            .map(|offer| offer.name.clone())
            .collect()
    };
    let old_names: Vec<HashSet<String>> = going.iter().map(offered).collect();
    let new_names: Vec<HashSet<String>> = coming.iter().map(Coming::names).collect();
    let of_olds = together(&old_names, &new_names);
    let mut groups: Vec<(usize, Group)> = Vec::new();
    let mut others = Vec::new();
    for (new, names) in coming.into_iter().zip(&new_names) {
        let first = old_names.iter().position(|old| !old.is_disjoint(names));
        let Some(number) = first.map(|old| of_olds[old]) else {
            others.push(new);
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == number) {
            Some((_, group)) => group.news.push(new),
            None => {
                let members = going.iter().zip(&of_olds);
                let olds = members.filter(|(_, of)| **of == number);
                let group = Group {
                    olds: olds.map(|(old, _)| Arc::clone(old)).collect(),
                    news: vec![new],
                };
                groups.push((number, group));
            }
        }
    }
    (groups.into_iter().map(|(_, group)| group).collect(), others)
}

/// Gives each old plugin the number of its group: two are in one if a new one has names of both.
fn together(olds: &[HashSet<String>], news: &[HashSet<String>]) -> Vec<usize> {
    let mut number: Vec<usize> = (0..olds.len()).collect();
    for new in news {
        let taken: Vec<usize> = (0..olds.len())
            .filter(|old| !olds[*old].is_disjoint(new))
            .map(|old| number[old])
            .collect();
        let Some(least) = taken.iter().min().copied() else {
            continue;
        };
        for group in &mut number {
            if taken.contains(group) {
                *group = least;
            }
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(all: &[&[&str]]) -> Vec<HashSet<String>> {
        let set = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        all.iter().map(set).collect()
    }

    #[test]
    fn plugins_are_together_that_names_connect() {
        let olds = sets(&[&["a"], &["b"], &["c"], &[]]);
        assert_eq!(together(&olds, &sets(&[&["a"], &["x"]])), [0, 1, 2, 3]);
        assert_eq!(together(&olds, &sets(&[&["b", "c"]])), [0, 1, 1, 3]);
        let chain = sets(&[&["b", "c"], &["a", "c"]]);
        assert_eq!(together(&olds, &chain), [0, 0, 0, 3]);
    }
}
