//! What must be done so that what runs is what a config says.

use std::collections::HashSet;
use std::path::Path;

use super::super::{Config, Difference, Needs, PluginEntry, PluginKind, Present, Standing};

fn entries(text: &str) -> Vec<PluginEntry> {
    entries_at("/home/zed/config/config.aigis", text)
}

fn entries_at(path: &str, text: &str) -> Vec<PluginEntry> {
    let config = Config::parse(text.as_bytes(), Path::new(path));
    config
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
        .plugins
}

fn present(entries: Vec<PluginEntry>) -> Vec<Present> {
    let listed = |entry| Present {
        entry,
        standing: Standing::Listed,
    };
    entries.into_iter().map(listed).collect()
}

/// Says in a line what is to be done.
fn between(old: &str, new: &str) -> String {
    shown(&Difference::between(&present(entries(old)), &entries(new)))
}

fn shown(difference: &Difference) -> String {
    let mut said = Vec::new();
    said.extend(difference.removed.iter().map(|name| format!("-{name}")));
    for changed in &difference.changed {
        let sign = match changed.needs {
            Needs::Swap => "swap",
            Needs::Restart => "restart",
        };
        let keys = changed.keys.join(",");
        said.push(format!("{sign} {}({keys})", changed.entry.name));
    }
    said.extend(
        difference
            .added
            .iter()
            .map(|entry| format!("+{}", entry.name)),
    );
    said.extend(difference.moved.iter().map(|name| format!("={name}")));
    said.join(" ")
}

#[test]
fn each_difference_is_named() {
    let cases = [
        ("a = \"x\"", "a = \"x\"", ""),
        ("a = \"x\"", "a = { source = \"x\" } # the same", ""),
        ("a = \"x\"", "", "-a"),
        ("", "a = \"x\"", "+a"),
        ("a = \"x\"", "a = \"y\"", "swap a(source)"),
        ("a = \"x\"\nb = \"y\"", "b = \"y\"\na = \"x\"", "=b"),
        (
            "a = \"x\"\nb = \"y\"\nc = \"z\"",
            "c = \"z\"\na = \"x\"\nb = \"y\"",
            "=c",
        ),
        (
            "a = { source = \"x\", settings = { p = 1, q = 2 } }",
            "a = { source = \"x\", settings = { q = 3, r = 4 } }",
            "swap a(settings.q,settings.r,settings.p)",
        ),
        (
            "a = { source = \"x\", settings = { p = 1, q = 2 } }",
            "a = { source = \"x\", settings = { q = 2, p = 1 } }",
            "",
        ),
        (
            "a = \"x\"",
            "a = { source = \"x\", settings = {} }",
            "swap a(settings)",
        ),
        (
            "a = { source = \"x\", isolate = true, call_timeout = 5 }",
            "a = { source = \"x\", call_timeout = 5 }",
            "swap a(isolate)",
        ),
        (
            "a = { source = \"x\", isolate = true, call_timeout = 5 }",
            "a = { call_timeout = 5, source = \"x\", isolate = true }",
            "",
        ),
        (
            "a = { source = \"https://e.org/x\", tag = \"1\" }",
            "a = { source = \"https://e.org/x\", branch = \"main\" }",
            "swap a(branch)",
        ),
        (
            "a = { source = \"https://e.org/x\", tag = \"1\" }",
            "a = \"https://e.org/x\"",
            "swap a(tag)",
        ),
    ];
    for (old, new, expected) in cases {
        let part = |text: &str| format!("[core]\n{text}\n");
        assert_eq!(between(&part(old), &part(new)), expected, "{old} -> {new}");
    }
}

#[test]
fn a_process_is_restarted_and_another_kind_is_no_swap() {
    let restarted = between(
        "[internal]\na = \"x\"\n",
        "[internal]\na = { source = \"x\", restart = 3 }\n",
    );
    assert_eq!(restarted, "restart a(restart)");
    let moved = between("[core]\na = \"x\"\n", "[external]\na = \"x\"\n");
    assert_eq!(moved, "restart a(kind)");
}

#[test]
fn a_source_is_the_same_wherever_the_config_stands() {
    let old = present(entries_at(
        "/one/config.aigis",
        "[core]\na = \"https://e.org/a\"\nb = \"/b\"\nc = \"c\"\nd = \"/one/d\"\n",
    ));
    let new = entries_at(
        "/two/config.aigis",
        "[core]\na = \"https://e.org/a\"\nb = \"/b\"\nc = \"c\"\nd = \"../one/d\"\n",
    );
    assert_eq!(
        shown(&Difference::between(&old, &new)),
        "swap c(source) swap d(source)"
    );
    let back = entries_at(
        "/one/config.aigis",
        "[core]\na = \"https://e.org/a\"\nb = \"/b\"\nc = \"/one/c\"\nd = \"d\"\n",
    );
    assert_eq!(shown(&Difference::between(&old, &back)), "");
}

#[test]
fn what_was_added_stays_and_what_is_unlisted_goes() {
    let mut old = present(entries("[core]\na = \"x\"\nb = \"y\"\nc = \"z\"\n"));
    old[0].standing = Standing::Added;
    old[1].standing = Standing::Unlisted;
    let new = entries("[core]\nc = \"z\"\n[external]\nd = \"d\"\n");
    let difference = Difference::between(&old, &new);
    assert_eq!(shown(&difference), "-b +d");
    assert_eq!(
        difference.kept,
        old[..1]
            .iter()
            .map(|one| one.entry.name.clone())
            .collect::<Vec<_>>()
    );
    let order: Vec<_> = difference.order.iter().map(|name| name.as_str()).collect();
    assert_eq!(order, ["c", "a", "d"]);
    // Once the config lists it, it is like any other.
    let listed = entries("[core]\na = \"x\"\nc = \"z\"\n");
    assert_eq!(shown(&Difference::between(&old, &listed)), "-b");
}

/// Does what is to be done.
fn applied(present: &[Present], difference: &Difference) -> Vec<PluginEntry> {
    let mut after: Vec<PluginEntry> = present.iter().map(|one| one.entry.clone()).collect();
    after.retain(|entry| !difference.removed.contains(&entry.name));
    let changed = difference.changed.iter().map(|changed| &changed.entry);
    for entry in changed.chain(&difference.unchanged) {
        let place = after.iter().position(|one| one.name == entry.name);
        after[place.expect("was there")] = entry.clone();
    }
    after.extend(difference.added.iter().cloned());
    let place = |entry: &PluginEntry| {
        let place = difference.order.iter().position(|name| *name == entry.name);
        place.expect("is in the order")
    };
    after.sort_by_key(place);
    after
}

/// A generator whose numbers follow from where it starts.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Writes a config of some of eight plugins, in any order.
    fn config(&mut self) -> String {
        let mut names: Vec<char> = ('a'..='h').filter(|_| self.below(3) > 0).collect();
        for at in (1..names.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).expect("is small");
            names.swap(at, other);
        }
        let mut parts = [String::new(), String::new(), String::new()];
        for name in names {
            let mut keys = vec![format!("source = \"../{}\"", self.below(2))];
            if self.below(2) == 0 {
                keys.push(format!(
                    "settings = {{ p = {}, q = {} }}",
                    self.below(2),
                    self.below(2)
                ));
            }
            if self.below(2) == 0 {
                keys.push(format!("drain_timeout = {}", self.below(2) + 1));
            }
            let part = usize::try_from(self.below(3)).expect("is small");
            parts[part].push_str(&format!("{name} = {{ {} }}\n", keys.join(", ")));
        }
        let parts = PluginKind::ALL.iter().zip(&parts);
        parts
            .map(|(kind, part)| format!("[{kind}]\n{part}"))
            .collect()
    }
}

#[test]
fn what_is_applied_is_what_the_config_says() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let mut old = present(entries(&random.config()));
        let wanted = entries(&random.config());
        for one in &mut old {
            one.standing = match random.below(4) {
                0 => Standing::Added,
                1 => Standing::Unlisted,
                _ => Standing::Listed,
            };
        }
        let difference = Difference::between(&old, &wanted);
        let after = applied(&old, &difference);
        let of_config: Vec<_> = after
            .iter()
            .filter(|entry| !difference.kept.contains(&entry.name))
            .cloned()
            .collect();
        assert_eq!(of_config, wanted, "seed {seed}");
        assert!(after.is_sorted_by_key(|entry| entry.kind), "seed {seed}");
        // Everybody is in one place.
        let mut seen = HashSet::new();
        let changed = difference.changed.iter().map(|changed| &changed.entry);
        let entries = changed
            .chain(&difference.added)
            .chain(&difference.unchanged);
        let names = entries.map(|entry| &entry.name);
        for name in names.chain(&difference.removed).chain(&difference.kept) {
            assert!(seen.insert(name), "seed {seed}: {name} twice");
        }
        // And then there is nothing left to do.
        let kept = difference.kept.clone();
        let after: Vec<Present> = after
            .into_iter()
            .map(|entry| Present {
                standing: match kept.contains(&entry.name) {
                    true => Standing::Added,
                    false => Standing::Listed,
                },
                entry,
            })
            .collect();
        let again = Difference::between(&after, &wanted);
        assert!(again.is_empty(), "seed {seed}: {}", shown(&again));
    }
}
