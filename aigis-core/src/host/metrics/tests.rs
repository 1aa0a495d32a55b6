//! The page by the grammar of its format, and requests as they come.

use std::collections::{BTreeMap, BTreeSet};

use super::counters::{Calls, Counted};
use super::endpoint::{Refusal, judge};
use super::*;
use crate::config::PluginKind;
use crate::host::ProcessStatus;

/// A sample as a reader of the format sees it.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn is_name(name: &str, colons: bool) -> bool {
    let mut characters = name.chars();
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    characters.next().is_some_and(begins) && characters.all(|c| begins(c) || c.is_ascii_digit())
}

fn unescaped(text: &str, quoted: bool) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(c) = characters.next() {
        if c != '\\' {
            assert!(!quoted || c != '"', "{text}");
            plain.push(c);
            continue;
        }
        plain.push(match characters.next() {
            Some('\\') => '\\',
            Some('n') => '\n',
            Some('"') if quoted => '"',
            other => panic!("`\\` before {other:?} in {text}"),
        });
    }
    plain
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect("a label and its value");
        assert!(is_name(name, false), "{name}");
        let mut escaped = false;
        let end = rest.find(|c| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let (value, rest) = rest.split_at(end.expect("the end of a value"));
        let before = found.insert(name.to_owned(), unescaped(value, true));
        assert!(before.is_none(), "{name} twice");
        text = rest[1..].strip_prefix(',').unwrap_or(&rest[1..]);
    }
    found
}

/// Reads a whole page by the grammar of the format, and checks what it says of each metric.
fn parse(page: &str) -> Vec<Sample> {
    assert!(page.ends_with('\n'));
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    let mut samples: Vec<Sample> = Vec::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and its help");
            assert!(
                is_name(name, true) && !unescaped(text, false).is_empty(),
                "{line}"
            );
            assert!(helped.insert(name.to_owned()), "{name} has two helps");
            current = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and its kind");
            assert_eq!(name, current, "the kind comes after the help");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none());
        } else {
            let (key, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = match key.split_once('{') {
                Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("a `}`"))),
                None => (key, BTreeMap::new()),
            };
            assert!(is_name(name, true), "{line}");
            let allowed = match kinds[&current].as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name == format!("{current}{suffix}")),
                _ => name == current,
            };
            assert!(allowed, "{name} among the samples of {current}");
            let sample = Sample {
                name: name.to_owned(),
                labels,
                value: value.parse().expect("a number"),
            };
            let same = |other: &&Sample| other.name == sample.name && other.labels == sample.labels;
            assert!(samples.iter().find(same).is_none(), "{line} twice");
            samples.push(sample);
        }
    }
    assert_eq!(kinds.keys().cloned().collect::<BTreeSet<_>>(), helped);
    check_histograms(&samples);
    samples
}

/// Buckets only grow, and the last one has all.
fn check_histograms(samples: &[Sample]) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for sample in samples {
        let skill = sample.labels.get("skill").cloned().unwrap_or_default();
        if sample.name.ends_with("_bucket") {
            let bound: f64 = sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
            let before = last.insert(skill, (bound, sample.value));
            let (bound_before, before) = before.unwrap_or((0.0, 0.0));
            assert!(bound > bound_before && sample.value >= before, "{sample:?}");
        } else if sample.name.ends_with("_count") {
            assert_eq!(last[&skill], (f64::INFINITY, sample.value));
        }
    }
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(name, value)| sample.labels.get(*name).is_some_and(|found| found == value))
    };
    let mut found = samples.iter().filter(has);
    let sample = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {labels:?}"));
    assert!(found.next().is_none(), "several {name} {labels:?}");
    sample.value
}

fn plugin(name: &str, state: State) -> PluginStatus {
    PluginStatus {
        in_config: true,
        waits_for: Vec::new(),
        name: name.to_owned(),
        kind: PluginKind::External,
        state,
        pid: None,
        restarts: 0,
        generation: 1,
        source: String::new(),
        error: None,
        generations: Vec::new(),
        crash: None,
        slow_calls: Vec::new(),
        overdue_calls: Vec::new(),
        serving: Vec::new(),
        isolated: None,
        processes: Vec::new(),
        cpu_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        tree: None,
        started: None,
        last_exit: None,
    }
}

#[test]
fn an_empty_host_has_a_page() {
    let samples = parse(&page(&[], 0, &[], 0, 12.5));
    assert_eq!(value(&samples, "aigis_start_time_seconds", &[]), 12.5);
    assert_eq!(value(&samples, "aigis_sessions", &[]), 0.0);
    assert_eq!(value(&samples, "aigis_unknown_skill_calls_total", &[]), 0.0);
}

#[test]
fn the_whole_page_is_of_the_format() {
    let source = "C:\\plugins\n\"quoted\", and = with {braces} ü";
    let process = |instance, pid| ProcessStatus {
        says: None,
        waiting_for: Vec::new(),
        instance,
        state: State::Ready,
        pid,
        restarts: 1,
        error: None,
        shim: None,
        cpu_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        tree: None,
        started: None,
        last_exit: None,
    };
    let plugins = [
        PluginStatus {
            source: source.to_owned(),
            restarts: 3,
            processes: vec![
                process(Some(0), Some(12)),
                process(Some(1), None),
                process(None, Some(13)),
            ],
            ..plugin("feeder", State::Ready)
        },
        PluginStatus {
            pid: Some(11),
            ..plugin("weather", State::CrashLoop)
        },
    ];
    let calls = Calls::default();
    let of = calls.of("greeter.greet", || true).expect("is offered");
    of.took(std::time::Duration::from_micros(3), false);
    of.took(std::time::Duration::from_secs(60), true);
    of.opened();
    calls.of("made.up", || false);
    let counted: Vec<(String, Counted)> = calls.counted();
    let samples = parse(&page(&plugins, 7, &counted, calls.unknown(), 1.0));
    let feeder = ("plugin", "feeder");
    let value = |name: &str, labels: &[(&str, &str)]| value(&samples, name, labels);
    assert_eq!(
        value("aigis_plugin_info", &[feeder, ("source", source)]),
        1.0
    );
    assert_eq!(value("aigis_plugin_up", &[feeder]), 1.0);
    assert_eq!(value("aigis_plugin_restarts", &[feeder]), 3.0);
    assert_eq!(
        value("aigis_plugin_process_pid", &[feeder, ("process", "0")]),
        12.0
    );
    assert_eq!(
        value(
            "aigis_plugin_process_pid",
            &[feeder, ("process", "library")]
        ),
        13.0
    );
    let weather = ("plugin", "weather");
    assert_eq!(value("aigis_plugin_process_pid", &[weather]), 11.0);
    assert_eq!(value("aigis_plugin_up", &[weather]), 0.0);
    for state in STATES {
        let expected = f64::from(u8::from(state == State::CrashLoop));
        let labels = [weather, ("state", state.as_str())];
        assert_eq!(value("aigis_plugin_state", &labels), expected);
    }
    let skill = ("skill", "greeter.greet");
    let name = "aigis_skill_call_duration_seconds";
    let bucket = |le| value(&format!("{name}_bucket"), &[skill, ("le", le)]);
    assert_eq!((bucket("0.0000025"), bucket("0.000005")), (0.0, 1.0));
    assert_eq!((bucket("30"), bucket("+Inf")), (1.0, 2.0));
    assert_eq!(value(&format!("{name}_count"), &[skill]), 2.0);
    assert_eq!(value(&format!("{name}_sum"), &[skill]), 60.000003);
    assert_eq!(value("aigis_skill_calls_failed_total", &[skill]), 1.0);
    assert_eq!(value("aigis_skill_streams_opened_total", &[skill]), 1.0);
    assert_eq!(value("aigis_unknown_skill_calls_total", &[]), 1.0);
    assert_eq!(value("aigis_sessions", &[]), 7.0);
}

#[test]
fn requests_and_refusals() {
    let cases: [(&str, Result<bool, Refusal>); 19] = [
        ("GET /metrics HTTP/1.1\r\nHost: localhost:9464", Ok(true)),
        ("GET /metrics HTTP/1.1\r\nhost:127.0.0.1", Ok(true)),
        ("GET /metrics?all HTTP/1.1\r\nHost: [::1]:9464", Ok(true)),
        ("GET /metrics HTTP/1.1\r\nHost: [::1]", Ok(true)),
        ("HEAD /metrics HTTP/1.0", Ok(false)),
        ("GET /metrics HTTP/1.1", Err(Refusal::Malformed)),
        (
            "GET /metrics HTTP/1.1\r\nHost: example.org",
            Err(Refusal::Host),
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: localhost.example.org:80",
            Err(Refusal::Host),
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: 10.0.0.1",
            Err(Refusal::Host),
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: ::1\r\nHost: ::1",
            Err(Refusal::Malformed),
        ),
        ("GET / HTTP/1.1\r\nHost: localhost", Err(Refusal::NotFound)),
        (
            "GET /metricsx HTTP/1.1\r\nHost: localhost",
            Err(Refusal::NotFound),
        ),
        (
            "POST /metrics HTTP/1.1\r\nHost: localhost",
            Err(Refusal::Method),
        ),
        (
            "GET /metrics HTTP/2.0\r\nHost: localhost",
            Err(Refusal::Version),
        ),
        ("GET /metrics", Err(Refusal::Malformed)),
        ("GET  /metrics HTTP/1.1", Err(Refusal::Malformed)),
        ("GET /metrics SPDY/1", Err(Refusal::Malformed)),
        (
            "GET /metrics HTTP/1.1\r\nHost localhost",
            Err(Refusal::Malformed),
        ),
        ("", Err(Refusal::Malformed)),
    ];
    for (head, expected) in cases {
        assert_eq!(judge(head.as_bytes(), true), expected, "{head}");
    }
    // By a socket nobody comes in who may not.
    let elsewhere = b"GET /metrics HTTP/1.1\r\nHost: metrics";
    assert_eq!(judge(elsewhere, false), Ok(true));
    assert_eq!(judge(b"GET /\xff HTTP/1.1", true), Err(Refusal::Malformed));
}

#[test]
fn addresses() {
    let parse = |text: &str| text.parse::<MetricsAddress>();
    let unix = MetricsAddress::Unix("run/m.sock".into());
    assert_eq!(parse("unix:run/m.sock"), Ok(unix));
    for text in [
        "127.0.0.1:9464",
        "127.8.0.1:0",
        "[::1]:9464",
        "unix:/run/m.sock",
    ] {
        assert_eq!(
            parse(text).map(|address| address.to_string()),
            Ok(text.to_owned())
        );
    }
    for text in ["0.0.0.0:9464", "192.168.0.1:9464", "[::]:9464"] {
        let refused = parse(text).expect_err("others could ask");
        assert!(
            matches!(refused, MetricsAddressError::NotLoopback(_)),
            "{refused}"
        );
    }
    for text in [
        "",
        "unix:",
        "9464",
        "localhost:9464",
        "127.0.0.1",
        "127.0.0.1:99999",
    ] {
        let refused = parse(text).expect_err("is no address");
        assert_eq!(refused, MetricsAddressError::Unreadable(text.to_owned()));
    }
}
