//! The options of supervision: restarts, readiness, stops, resources, logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::manifest_options::OptionName;
use super::super::{
    Config, Diagnostics, Health, HttpTarget, Limit, LogOptions, Manifest, OnCoreDeath, PluginKind,
    Probe, Readiness, ReadyWhen, Resources, RestartOptions, RestartWhen, StopOptions,
};
use super::{entry, entry_for, manifest, manifest_of_bytes, testdata};

fn sample(name: &str) -> Manifest {
    let bytes = fs::read(testdata("manifest/valid").join(name)).unwrap();
    manifest_of_bytes(&bytes, name, &entry_for(name))
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn of_kind(kind: PluginKind, options: &str) -> Result<Manifest, Diagnostics> {
    let launch = match kind {
        PluginKind::External => "LAUNCH = ['./run']\n",
        _ => "",
    };
    let text = format!("PLUGIN_TYPE = '{kind}'\nENTRYPOINT = '{{root}}'\n{launch}{options}\n");
    manifest(&text, &entry(kind))
}

fn external(options: &str) -> Manifest {
    of_kind(PluginKind::External, options).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Returns the only mistake in `options`.
fn mistake(options: &str) -> String {
    let mistakes = of_kind(PluginKind::External, options).expect_err(options);
    assert_eq!(mistakes.len(), 1, "{mistakes}");
    mistakes.to_string()
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn every_option_in_both_syntaxes() {
    let toml = sample("external-supervision-toml.config");
    assert_eq!(
        toml.restart,
        RestartOptions {
            count: None,
            backoff: Duration::from_millis(250),
            cap: Duration::from_secs(90),
            jitter: 0.5,
            healthy: Duration::from_secs(30),
            success: vec![0, 3, -15],
            when: RestartWhen::Always,
        }
    );
    assert!(toml.restart_given && toml.readable_secrets);
    let probe = Probe::Http("http://127.0.0.1:8080/health".to_owned());
    assert_eq!(
        toml.ready,
        Some(Readiness {
            when: ReadyWhen::Probe(probe),
            timeout: Duration::from_mins(2),
            interval: Duration::from_millis(500),
        })
    );
    assert_eq!(
        toml.health,
        Some(Health {
            probe: Probe::Tcp("[::1]:8080".to_owned()),
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(2),
            failures: 5,
        })
    );
    let after: Vec<_> = toml.after.iter().map(AsRef::<str>::as_ref).collect();
    assert_eq!(after, ["database", "cache"]);
    let timeout = Some(Duration::from_hours(1));
    assert_eq!(toml.stop, StopOptions { signal: 2, timeout });
    assert_eq!(toml.on_core_death, OnCoreDeath::Stop);
    assert_eq!(
        toml.resources,
        Resources {
            env: texts(&[("PATH", "/ext/zeta/bin:/usr/bin"), ("EMPTY", "")]),
            env_files: ["/ext/zeta/settings.env", "/etc/zeta.env"]
                .map(PathBuf::from)
                .to_vec(),
            user: Some("zeta".to_owned()),
            group: Some("1000".to_owned()),
            umask: Some(0o027),
            nice: Some(-5),
            limits: vec![
                (Limit::Nofile, Some(1024)),
                (Limit::Core, Some(0)),
                (Limit::Stack, Some(8 << 20)),
                (Limit::Memlock, None),
            ],
            memory_max: Some(512 << 20),
            cpu: Some(1.5),
        }
    );
    assert_eq!(
        toml.log,
        LogOptions {
            daily: false,
            max_size: Some(100 << 20),
            keep: 7,
            compress: false,
            json: true,
        }
    );
    assert_eq!(toml.warnings, []);
    assert_eq!(sample("external-supervision-literal.config"), toml);
}

#[test]
fn without_options_there_are_defaults() {
    let plain = external("");
    assert_eq!(plain.restart, RestartOptions::times(0));
    assert!(!plain.restart_given && !plain.readable_secrets);
    assert_eq!((plain.ready, plain.health), (None, None));
    assert_eq!(plain.after, []);
    let stop = StopOptions {
        signal: 15,
        timeout: None,
    };
    assert_eq!(plain.stop, stop);
    assert_eq!(plain.on_core_death, OnCoreDeath::Keep);
    assert_eq!(plain.resources, Resources::default());
    assert_eq!(external("LOG = {}").log, plain.log);
    assert_eq!((plain.log.daily, plain.log.keep), (true, 3));
    let unlimited = external("RESTART = {}").restart;
    assert_eq!(
        unlimited,
        RestartOptions {
            count: None,
            ..RestartOptions::default()
        }
    );
    assert!(external("RESTART = 0").restart_given);
}

#[test]
fn an_entry_overrides_every_option() {
    let bytes = fs::read(testdata("config/valid").join("supervision.aigis")).unwrap();
    let config = Config::parse(&bytes, Path::new("config.aigis")).unwrap();
    let entry = config.get("gateway").unwrap();
    let text = "PLUGIN_TYPE = 'internal'\nENTRYPOINT = '.'\nREADY = 'often'\nLOG = { keep = 9 }\n\
                NICE = 99\nENV = { A = 'a' }\n";
    let parsed = manifest(text, entry).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(parsed.restart.backoff, Duration::from_secs(1));
    assert_eq!(parsed.ready, Some(Readiness::new(ReadyWhen::Notify)));
    let skill = Probe::Skill("gateway.alive".to_owned());
    assert_eq!(parsed.health, Some(Health::new(skill)));
    assert_eq!(parsed.after.len(), 1);
    assert_eq!(parsed.stop.signal, nix::libc::SIGRTMIN() + 3);
    assert_eq!(parsed.stop.timeout, Some(Duration::from_millis(500)));
    assert_eq!(parsed.on_core_death, OnCoreDeath::Stop);
    assert_eq!(parsed.resources.env, texts(&[("LEVEL", "debug")]));
    assert_eq!(
        parsed.resources.env_files,
        [Path::new("/ext/zeta/settings.env")]
    );
    assert_eq!(parsed.resources.umask, Some(0o077));
    assert_eq!(parsed.resources.limits, [(Limit::Nofile, None)]);
    assert_eq!(parsed.resources.memory_max, Some(1 << 30));
    assert_eq!(parsed.resources.cpu, Some(2.0));
    assert_eq!((parsed.log.json, parsed.log.keep), (true, 3), "as a whole");
    assert!(parsed.readable_secrets);
}

#[test]
fn times_have_units() {
    for (written, milliseconds) in [
        ("5", 5_000),
        ("0.5", 500),
        ("'250ms'", 250),
        ("' 5 s '", 5_000),
        ("'1.5m'", 90_000),
        ("'1h'", 3_600_000),
        ("'8760h'", 31_536_000_000),
    ] {
        let stop = external(&format!("STOP_TIMEOUT = {written}")).stop;
        assert_eq!(stop.timeout, Some(Duration::from_millis(milliseconds)));
    }
    for wrong in [
        "''",
        "'5'",
        "'s'",
        "'5 sec'",
        "'-5s'",
        "'+5s'",
        "'1e3s'",
        "'infs'",
        "'nans'",
        "'1.2.3s'",
        "'.5s'",
        "'1h30m'",
        "'9999999999999999999h'",
        "'9ms'",
        "'8761h'",
        "0",
        "-1",
        "inf",
        "true",
    ] {
        let report = mistake(&format!("STOP_TIMEOUT = {wrong}"));
        assert!(report.contains("`STOP_TIMEOUT` must be"), "{report}");
    }
    let timeout = of_kind(PluginKind::Internal, "CALL_TIMEOUT = '250ms'").unwrap();
    assert_eq!(timeout.call_timeout, Some(Duration::from_millis(250)));
}

#[test]
fn signals_have_names_and_numbers() {
    for (written, number) in [
        ("'SIGINT'", 2),
        ("'int'", 2),
        ("'sigusr1'", 10),
        ("'RTMIN'", nix::libc::SIGRTMIN()),
        ("'SIGRTMAX-1'", nix::libc::SIGRTMAX() - 1),
        ("1", 1),
        ("64", 64),
    ] {
        let stop = external(&format!("STOP_SIGNAL = {written}")).stop;
        assert_eq!(stop.signal, number, "{written}");
    }
    for (wrong, part) in [
        ("'SIGINTT'", "did you mean `SIGINT`?"),
        ("'TREM'", "did you mean `TERM`?"),
        ("'RTMIN+99'", "must be a signal"),
        ("'RTMIN-1'", "must be a signal"),
        ("'RTMIN3'", "must be a signal"),
        ("'RTMAX+9999999999999'", "must be a signal"),
        ("'15'", "must be a signal"),
        ("'\u{e9}\u{e9}\u{e9}'", "must be a signal"),
        ("''", "must be a signal"),
        ("'SIG'", "must be a signal"),
        ("0", "at least 1 and at most 64"),
        ("-9", "at least 1 and at most 64"),
        ("9", "SIGKILL is none"),
        ("'stop'", "SIGSTOP is none"),
    ] {
        let report = mistake(&format!("STOP_SIGNAL = {wrong}"));
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn readiness_has_words_and_tables() {
    for (written, when) in [
        ("'launched'", ReadyWhen::Launched),
        ("'session'", ReadyWhen::Session),
        ("'notify'", ReadyWhen::Notify),
        ("'fd'", ReadyWhen::Line),
        ("{ fd = true }", ReadyWhen::Line),
        ("{ session = true }", ReadyWhen::Session),
        (
            r"{ log = '^ready \d+$' }",
            ReadyWhen::Log(r"^ready \d+$".to_owned()),
        ),
        (
            "{ skill = 'echo' }",
            ReadyWhen::Probe(Probe::Skill("echo".to_owned())),
        ),
        (
            "{ tcp = 'localhost:80' }",
            ReadyWhen::Probe(Probe::Tcp("localhost:80".to_owned())),
        ),
    ] {
        let ready = external(&format!("READY = {written}")).ready;
        assert_eq!(ready, Some(Readiness::new(when)), "{written}");
    }
    let ready = external("READY = { notify = true, timeout = '3s' }").ready;
    let expected = Readiness {
        timeout: Duration::from_secs(3),
        ..Readiness::new(ReadyWhen::Notify)
    };
    assert_eq!(ready, Some(expected));
    external(r"READY = { log = '(?i)^\w{8,32} \d{4}-\d{2}-\d{2}T.* \bready\b' }");
    let report = mistake("READY = { log = 'x', interval = 1 }");
    assert!(report.contains("has no meaning here"), "{report}");
}

#[test]
fn addresses_have_a_host_and_a_port() {
    for good in ["127.0.0.1:1", "[::1]:65535", "db-1.example.org:80"] {
        let options = format!("HEALTH = {{ tcp = '{good}' }}");
        let probe = external(&options).health.map(|health| health.probe);
        assert_eq!(probe, Some(Probe::Tcp(good.to_owned())));
    }
    for wrong in [
        "",
        "80",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:+80",
        "a:b",
        "a b:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[a]:80",
        "a:80:80",
        "http://a:80",
        "[]:80",
    ] {
        mistake(&format!("HEALTH = {{ tcp = '{wrong}' }}"));
    }
}

#[test]
fn urls_are_taken_apart() {
    let parts = |url: &str| {
        let target = HttpTarget::parse(url).unwrap();
        (target.authority, target.host, target.port, target.path)
    };
    let of = |authority: &str, host: &str, port, path: &str| {
        (authority.to_owned(), host.to_owned(), port, path.to_owned())
    };
    assert_eq!(parts("http://a"), of("a", "a", 80, "/"));
    assert_eq!(parts("HTTP://a:81/b/c?d#e"), of("a:81", "a", 81, "/b/c?d"));
    assert_eq!(parts("http://[::1]?x"), of("[::1]", "::1", 80, "/?x"));
    for wrong in [
        "",
        "http",
        "http://",
        "http:///",
        "http://:80",
        "http://a:0",
        "http://a b",
        "http://a/\r\nX: y",
        "https://a",
        "ftp://a",
        "a",
        "http://user:word@a/",
        "http://a:x",
        "http://\u{e9}",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
    ] {
        assert!(HttpTarget::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_limit_has_its_name() {
    for limit in Limit::ALL {
        let written = format!("LIMITS = {{ {} = 7 }}", limit.as_str());
        assert_eq!(external(&written).resources.limits, [(limit, Some(7))]);
        let size = format!("LIMITS = {{ {} = '1 MiB' }}", limit.as_str());
        let accepted = of_kind(PluginKind::External, &size).is_ok();
        assert_eq!(accepted, limit.is_in_bytes(), "{}", limit.as_str());
        let text = serde_json::to_string(&limit).unwrap();
        assert_eq!(text, format!("\"{}\"", limit.as_str()));
    }
}

#[test]
fn what_is_about_processes_is_ignored_without_one() {
    let options = "READY = 'launched'\nHEALTH = { tcp = 'a:80' }\nSTOP_SIGNAL = 2\nSTOP_TIMEOUT = 9\n\
                   ON_CORE_DEATH = 'stop'\nENV = { A = 'a' }\nENV_FILE = 'e'\nUSER = 'u'\nGROUP = 'g'\n\
                   UMASK = '077'\nNICE = 5\nLIMITS = { core = 0 }\nMEMORY_MAX = '1 GiB'\nCPU = 1\n";
    let core = of_kind(PluginKind::Core, options).unwrap();
    assert_eq!(core.warnings.len(), 14, "{:?}", core.warnings);
    assert_eq!((core.ready, core.health), (None, None));
    assert_eq!(core.stop, StopOptions::default());
    assert_eq!(core.on_core_death, OnCoreDeath::Keep);
    assert_eq!(core.resources, Resources::default());

    let isolated = of_kind(PluginKind::Core, &format!("ISOLATE = true\n{options}")).unwrap();
    assert_eq!(isolated.warnings.len(), 1, "{:?}", isolated.warnings);
    assert!(isolated.warnings[0].message.contains("`READY` is ignored"));
    assert_eq!(isolated.stop.signal, 2);
    assert_eq!(isolated.resources.nice, Some(5));

    let always = "AFTER = ['a']\nLOG = { keep = 1 }\nRESTART = 3\nREADABLE_SECRETS = true\n";
    let core = of_kind(PluginKind::Core, always).unwrap();
    assert_eq!((core.warnings.len(), core.after.len()), (0, 1));
    assert_eq!((core.log.keep, core.restart.count), (1, Some(3)));
}

#[test]
fn the_cap_is_never_below_the_backoff() {
    let restart = external("RESTART = { backoff = '1m' }").restart;
    assert_eq!(
        (restart.backoff, restart.cap),
        (restart.cap, restart.backoff)
    );
    let report = mistake("RESTART = { cap = '50ms' }");
    assert!(
        report.contains("must not be less than `backoff`"),
        "{report}"
    );
}

#[test]
fn options_survive_a_record() {
    let parsed = sample("external-supervision-toml.config");
    let options = (
        parsed.restart,
        parsed.ready,
        parsed.health,
        parsed.after,
        parsed.stop,
        parsed.on_core_death,
        parsed.resources,
        parsed.log,
    );
    let text = serde_json::to_string(&options).unwrap();
    let mut read = options.clone();
    read.0 = RestartOptions::default();
    assert_ne!(read, options);
    read = serde_json::from_str(&text).unwrap();
    assert_eq!(read, options);
}

#[test]
fn every_option_is_documented() {
    let file = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        fs::read_to_string(path).unwrap()
    };
    let (reference, config) = (file("docs/manifest.md"), file("config/config.aigis"));
    for name in OptionName::entry_names() {
        let upper = name.to_ascii_uppercase();
        let [alone, set] = [format!("`{upper}`"), format!("`{upper} = ")];
        assert!(
            reference.contains(&alone) || reference.contains(&set),
            "{upper}"
        );
        // The other spelling of two options is not recommended.
        assert!(
            config.contains(&name) || name.starts_with("requirement_"),
            "{name}"
        );
    }
    let (_, example) = reference.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let parsed = manifest(example, &entry(PluginKind::External));
    let parsed = parsed.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(parsed.warnings, []);
}
