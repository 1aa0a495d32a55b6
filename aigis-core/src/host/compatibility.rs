//! What a swap would break: the expectations of those who go on, against what will be offered.

use std::collections::BTreeMap;
use std::sync::Arc;

use aigis_plugin_api::signature::Signature;

use crate::registry::Offer;

/// Somebody who has been compiled for skills of others.
pub(super) struct Importer {
    /// How people know it: a plugin's name, or `bot (session 3)`.
    pub(super) who: String,
    /// The full names of the skills, and what is expected of each.
    pub(super) expects: Vec<(String, Signature)>,
}

/// Lists what the importers would lose: one line for each difference, with everybody it concerns.
///
/// `now` and `next` are the offers of the plugins that are swapped, before and after. An expectation
/// that is not met now either is not counted.
pub(super) fn broken(
    importers: &[Importer],
    now: &[Arc<Offer>],
    next: &[Arc<Offer>],
    differences: impl Fn(&Signature, &Signature) -> Vec<String>,
) -> Vec<String> {
    let find = |offers: &[Arc<Offer>], name: &str| {
        offers
            .iter()
            .find(|offer| offer.name == name)
            .map(Arc::clone)
    };
    let mut lost: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for Importer { who, expects } in importers {
        for (name, expected) in expects {
            let Some(old) = find(now, name) else { continue };
            if !differences(expected, &old.signature).is_empty() {
                continue;
            }
            let lines = match find(next, name) {
                None => vec!["is not offered any more".to_owned()],
                Some(new) => differences(expected, &new.signature),
            };
            for line in lines {
                let who_loses = lost.entry(format!("{name}: {line}")).or_default();
                if !who_loses.contains(&who.as_str()) {
                    who_loses.push(who);
                }
            }
        }
    }
    lost.into_iter()
        .map(|(what, who)| format!("{what}; imported by {}", who.join(", ")))
        .collect()
}
