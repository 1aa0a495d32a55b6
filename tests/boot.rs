//! The start: its order, its lock, its config.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use aigis_core::State;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, eventually, plugins};

/// A program that ends well at once; it needs no crate of ours.
fn program(home: &TestHome, name: &str) {
    plugins::write(
        home,
        name,
        &[
            (
                "Cargo.toml",
                &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ),
            ("AIGIS/AIGIS.config", plugins::INTERNAL),
            ("src/main.rs", "fn main() {}\n"),
        ],
    );
}

/// The records of the core's log, without their times and levels.
fn messages(home: &TestHome) -> Vec<String> {
    let log = home.core_log();
    log.lines()
        .map(|line| line.splitn(3, " : ").last().unwrap_or(line).to_owned())
        .collect()
}

#[test]
fn parts_and_plugins_load_in_order_whatever_fails_on_the_way() {
    let home = TestHome::new();
    for name in ["zeta", "alpha"] {
        let library = format!(
            "#[aigis_plugin_api::skills]\npub mod {name} {{ pub const NAME: &str = \"{name}\"; }}\n"
        );
        plugins::core(&home, name, &library);
    }
    for name in ["zeta2", "alpha2"] {
        program(&home, name);
    }
    for name in ["zeta3", "alpha3"] {
        plugins::external(&home, name, "", "exec sleep 600");
    }
    home.config(
        r#"
        [external]
        zeta3 = "{sources}/zeta3"
        alpha3 = "{sources}/alpha3"
        [core]
        zeta = "{sources}/zeta"
        broken = "{sources}/broken"
        alpha = "{sources}/alpha"
        [internal]
        zeta2 = "{sources}/zeta2"
        alpha2 = "{sources}/alpha2"
        "#,
    );
    let host = home.host();
    home.wait_for_core_log("loaded external plugin alpha3");
    let told: Vec<String> = messages(&home)
        .into_iter()
        .filter_map(|message| {
            let loaded = message.strip_prefix("loaded ").map(str::to_owned);
            loaded.or_else(|| Some(message.split_once('!')?.0.to_owned()))
        })
        .collect();
    assert_eq!(
        told,
        [
            "core plugin zeta",
            "Could not load plugin broken",
            "core plugin alpha",
            "internal plugin zeta2",
            "internal plugin alpha2",
            "external plugin zeta3",
            "external plugin alpha3",
        ],
        "{}",
        home.core_log()
    );
    // The first record of all opens the log; the status has the order of loading.
    assert!(
        messages(&home)[0].starts_with("aigis "),
        "{}",
        home.core_log()
    );
    let status = host.status();
    let names: Vec<&str> = status.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "zeta", "broken", "alpha", "zeta2", "alpha2", "zeta3", "alpha3"
        ]
    );
    // The others are as if the broken one were not there.
    for plugin in &status {
        let expected = match plugin.name.as_str() {
            "broken" => State::Failed,
            "zeta2" | "alpha2" => State::Finished,
            _ => State::Ready,
        };
        assert_eq!(plugin.state, expected, "{plugin:?}");
        assert_eq!(
            plugin.error.is_some(),
            plugin.name == "broken",
            "{plugin:?}"
        );
    }
    assert_eq!(
        host.call::<String>("alpha.NAME", ()).expect("serves"),
        "alpha"
    );
    assert_eq!(
        host.call::<String>("zeta.NAME", ()).expect("serves"),
        "zeta"
    );
    // It was tried once, and its reason is in both logs.
    for log in [home.core_log(), home.plugin_log("broken")] {
        assert_eq!(
            log.matches("Could not load plugin broken!").count(),
            1,
            "{log}"
        );
        assert!(log.contains("its source cannot be fetched"), "{log}");
    }
}

#[test]
fn a_core_without_plugins_idles_until_it_is_told_to_end() {
    let home = TestHome::new();
    home.config("");
    let core = Core::start(&home);
    let status = home.aigis(&["status", "--json"]).exited(0);
    assert_eq!(status.stdout.trim(), "[]");
    for folder in ["ext", "secrets", "log/plugins", "run"] {
        assert!(home.path().join(folder).is_dir(), "{folder}");
    }
    let mode = fs::metadata(home.path().join("secrets"))
        .expect("is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    // All its threads sleep: that one of them is seen running is the chance of a moment.
    eventually("a core in which every thread sleeps", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", core.pid())).ok()?;
        let asleep = |stat: String| {
            let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
            rest.is_some_and(|rest| rest.starts_with('S'))
        };
        tasks
            .flatten()
            .all(|task| fs::read_to_string(task.path().join("stat")).is_ok_and(asleep))
            .then_some(())
    });
    core.signal("TERM");
    core.wait().exited(0);
    assert!(home.core_log().contains("shut down"), "{}", home.core_log());
}

#[test]
fn parts_may_be_missing() {
    let home = TestHome::new();
    plugins::external(&home, "only", "", "exec sleep 600");
    home.config("[external]\nonly = \"{sources}/only\"\n");
    let states: Vec<State> = home
        .host()
        .status()
        .iter()
        .map(|plugin| plugin.state)
        .collect();
    assert_eq!(states, [State::Ready]);
    for part in ["core", "internal", "external"] {
        home.config(&format!("[{part}]\n"));
        assert!(home.host().status().is_empty());
    }
}

#[test]
fn a_home_has_one_core_and_every_home_its_own() {
    let (home, other) = (TestHome::new(), TestHome::new());
    home.config("");
    other.config("");
    let core = Core::start(&home);
    let second = home.aigis(&["build-and-run"]).exited(9);
    let pid = core.pid().to_string();
    assert!(
        second.stderr.contains("another core works in"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains(&pid), "{}", second.stderr);
    home.aigis(&["build-and-run", "--detach"]).exited(9);
    // The first has noticed nothing, and another home is free.
    home.aigis(&["status"]).exited(0);
    let elsewhere = Core::start(&other);
    home.aigis(&["status"]).exited(0);
    // A core that was killed holds nothing.
    core.signal("KILL");
    assert_eq!(core.wait().code, None);
    let next = Core::start(&home);
    next.signal("INT");
    next.wait().exited(0);
    elsewhere.signal("TERM");
    elsewhere.wait().exited(0);
}

#[test]
fn without_a_config_the_error_says_what_to_write() {
    let home = TestHome::new();
    for arguments in [
        &["build-and-run"][..],
        &["build-and-run", "--detach"],
        &["build-and-run", "-c", "elsewhere/my.aigis"],
    ] {
        let ran = home.aigis(arguments).exited(2);
        let file = arguments.get(2).copied().unwrap_or("config/config.aigis");
        for part in [
            file,
            "there is no config file",
            "-c FILE",
            "[core]",
            "[external]",
        ] {
            assert!(ran.stderr.contains(part), "no {part:?} in:\n{}", ran.stderr);
        }
        assert_eq!(ran.stdout, "");
    }
    assert!(!home.path().join("ext").exists(), "nothing was started");
    assert!(!home.path().join("run").exists(), "nothing was started");
}

#[test]
fn sources_are_relative_to_the_config_that_is_named() {
    let home = TestHome::new();
    plugins::external(&home, "near", "", "exec sleep 600");
    home.write(
        "other/my.aigis",
        "[external]\nnear = \"../../sources/near\"\n",
    );
    let config = home.path().join("other/my.aigis");
    let config = config.to_str().expect("is UTF-8");
    let ran = home.aigis(&["build-and-run", "--detach", "--config", config]);
    let status = home.aigis(&["status", "--json"]);
    home.aigis(&["shutdown"]).exited(0);
    ran.exited(0);
    assert!(status.stdout.contains("\"ready\""), "{}", status.stdout);
}

#[test]
fn homes_that_build_in_one_folder_keep_their_plugins_apart() {
    let homes = [1_u32, 2, 3].map(|number| {
        let home = TestHome::new();
        let library = format!(
            "#[aigis_plugin_api::skills]\npub mod twin {{ pub const NUMBER: u32 = {number}; }}\n"
        );
        plugins::core(&home, "twin", &library);
        home.config("[core]\ntwin = \"{sources}/twin\"\n");
        (number, home)
    });
    // All at once: package, crate and file have one name in all of them.
    let hosts = homes.each_ref().map(|(number, home)| {
        let host = home.builder().start().expect("the home is free");
        (number, host)
    });
    for (number, host) in hosts {
        host.settled(Some(DEADLINE));
        let found = host.call::<u32>("twin.NUMBER", ());
        assert_eq!(found.expect("it was built"), *number);
    }
}
