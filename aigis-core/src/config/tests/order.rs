//! Which plugin waits for which, over a whole config.

use super::super::PluginName;
use super::super::order::check;

/// Reads lines `plugin: other other`.
fn plugins(lines: &str) -> Vec<(PluginName, Vec<PluginName>)> {
    let name = |name: &str| name.parse::<PluginName>().unwrap();
    let line = |line: &str| {
        let (plugin, after) = line.trim().split_once(':').unwrap();
        (name(plugin), after.split_whitespace().map(name).collect())
    };
    lines
        .lines()
        .filter(|l| !l.trim().is_empty())
        .map(line)
        .collect()
}

fn report(lines: &str) -> String {
    check(&plugins(lines)).expect_err(lines).to_string()
}

#[test]
fn plugins_may_wait_for_one_another_without_a_cycle() {
    for good in [
        "",
        "a:",
        "a: b\nb: c\nc:",
        "a: b c\nb: d\nc: d\nd:",
        "b:\na: b",
    ] {
        assert_eq!(check(&plugins(good)), Ok(()), "{good}");
    }
}

#[test]
fn a_cycle_is_shown() {
    assert_eq!(
        report("a: b\nb: c\nc: b\nd: a"),
        "plugins wait for one another: b -> c -> b; take one of them out of an `AFTER`"
    );
    assert!(report("a: a").contains("a -> a;"));
    assert!(report("c: a\na: b\nb: c").contains("c -> a -> b -> c;"));
}

#[test]
fn every_mistake_is_told() {
    let error = check(&plugins(
        "a: b\nb: a\nc: d datbase\nd: c\ndatabase: nothing-like-it\ne: f",
    ));
    let error = error.unwrap_err();
    assert_eq!((error.cycles.len(), error.unknown.len()), (2, 3));
    let report = error.to_string();
    assert_eq!(report.lines().count(), 5, "{report}");
    for part in [
        "plugin `c` is to start after `datbase`, but no plugin has this name; did you mean `database`?",
        "after `nothing-like-it`, but no plugin has this name\n",
        "a -> b -> a",
        "c -> d -> c",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

#[test]
fn a_plugin_is_not_told_to_wait_for_itself() {
    let error = check(&plugins("zeta: zetb\nother:")).unwrap_err();
    assert_eq!(error.unknown[0].meant, None);
}

#[test]
fn cycles_that_share_a_plugin_are_told_one_at_a_time() {
    let error = check(&plugins("a: b c\nb: a\nc: a")).unwrap_err();
    assert_eq!(error.cycles.len(), 1);
}

#[test]
fn a_long_config_is_judged() {
    const LENGTH: usize = 50_000;
    let mut lines: Vec<String> = (0..LENGTH)
        .map(|at| format!("p{at}: p{}", at + 1))
        .collect();
    lines.push(format!("p{LENGTH}:"));
    assert_eq!(check(&plugins(&lines.join("\n"))), Ok(()));
    lines[LENGTH] = format!("p{LENGTH}: p0");
    let error = check(&plugins(&lines.join("\n"))).unwrap_err();
    assert_eq!(error.cycles[0].len(), LENGTH + 1);
}
