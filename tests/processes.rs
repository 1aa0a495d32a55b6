//! Launched plugins: what they find, what becomes of what they print, how they end and come back.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aigis_core::{Host, PluginStatus, State};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{eventually, is_alive, plugins, reaches};

/// An external plugin that does nothing for as long as it may.
const IDLE: &str =
    "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{root}\"\nLAUNCH = [\"sleep\", \"100000\"]\n";

fn kill(pid: u32) {
    let status = Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

fn of(host: &Host, name: &str) -> PluginStatus {
    let found = host.status().into_iter().find(|status| status.name == name);
    found.expect("the plugin is there")
}

/// Counts the records of a log that say exactly this.
fn count(log: &str, message: &str) -> usize {
    messages(log).filter(|found| *found == message).count()
}

/// Returns what the records of a log say.
fn messages(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .map(|line| line.splitn(3, " : ").nth(2).unwrap_or(line))
}

/// Waits for the number that a plugin has printed behind `label`.
fn printed_pid(home: &TestHome, plugin: &str, label: &str) -> u32 {
    let record = home.wait_for_log(plugin, &format!(" : {label} "));
    let number = record.rsplit(' ').next().expect("has a last word");
    number.parse().expect("is a number")
}

#[test]
fn restart_counts_failures_only() {
    let home = TestHome::new();
    let requirements = "RESTART = 2\nREQUIREMENTS_COMMAND = \"echo met >> met\"";
    plugins::external(&home, "fails", requirements, "echo ran; exit 1");
    plugins::external(&home, "finishes", "RESTART = 2", "echo ran; exit 0");
    plugins::external(&home, "crashes", "RESTART = 2", "echo ran; kill -s SEGV $$");
    plugins::external(&home, "single", "", "echo ran; exit 7");
    // Its second launch does not get through the requirements.
    let requirements = "RESTART = 5\nREQUIREMENTS_COMMAND = \"test ! -e broken\"";
    plugins::external(
        &home,
        "breaks",
        requirements,
        "echo ran; touch broken; exit 1",
    );
    home.config(
        "[external]\nfails = \"{sources}/fails\"\nfinishes = \"{sources}/finishes\"\n\
         crashes = \"{sources}/crashes\"\nsingle = \"{sources}/single\"\n\
         breaks = \"{sources}/breaks\"\n",
    );
    let host = home.host();
    let expected = [
        ("fails", State::CrashLoop, 2, 3, Some("exited with code 1")),
        ("finishes", State::Finished, 0, 1, None),
        (
            "crashes",
            State::CrashLoop,
            2,
            3,
            Some("exited with code -11 (killed by SIGSEGV)"),
        ),
        ("single", State::Failed, 0, 1, Some("exited with code 7")),
        ("breaks", State::Failed, 1, 1, Some("requirements")),
    ];
    for (name, state, restarts, runs, error) in expected {
        let status = reaches(&host, name, state);
        assert_eq!(
            (status.restarts, status.pid),
            (restarts, None),
            "{status:?}"
        );
        match error {
            Some(part) => assert!(
                status.error.as_ref().is_some_and(|e| e.contains(part)),
                "{status:?}"
            ),
            None => assert_eq!(status.error, None),
        }
        let log = home.plugin_log(name);
        assert_eq!(count(&log, "ran"), runs, "{log}");
        let attempts = messages(&log).filter(|m| m.starts_with("Attempting to restart plugin"));
        assert_eq!(attempts.count(), restarts as usize, "{log}");
        assert_eq!(count(&log, "Plugin shut down."), 1, "{log}");
        let core_log = home.core_log();
        assert_eq!(
            count(&core_log, &format!("{name} has terminated.")),
            1,
            "{core_log}"
        );
    }
    // The requirements are seen to at each launch, the source is fetched once.
    assert_eq!(home.read("ext/fails/met"), "met\n".repeat(3));
    assert_eq!(home.plugin_log("fails").matches("source: ").count(), 1);
    assert!(
        home.plugin_log("crashes")
            .contains("Process exited with code -11 (killed by SIGSEGV)")
    );
    host.shutdown();
    assert_eq!(reaches(&host, "fails", State::CrashLoop).restarts, 2);
}

#[test]
fn restarts_are_as_their_table_says() {
    let home = TestHome::new();
    let quick =
        |keys: &str| format!("RESTART = {{ backoff = 0.01, cap = 0.01, jitter = 0, {keys} }}");
    let done = quick("success = [0, 3]");
    plugins::external(&home, "done", &done, "echo ran; exit 3");
    let again = quick("count = 2, when = \"always\"");
    plugins::external(&home, "again", &again, "echo ran; exit 0");
    let never = quick("when = \"never\"");
    plugins::external(&home, "never", &never, "echo ran; exit 1");
    // Its fifth run succeeds.
    let stubborn = "echo ran; echo x >> runs; test $(wc -l < runs) = 5";
    plugins::external(&home, "stubborn", &quick("count = \"unlimited\""), stubborn);
    home.config(
        "[external]\ndone = \"{sources}/done\"\nagain = \"{sources}/again\"\n\
         never = \"{sources}/never\"\nstubborn = \"{sources}/stubborn\"\n",
    );
    let host = home.host();
    for (name, state, restarts) in [
        ("done", State::Finished, 0),
        ("again", State::CrashLoop, 2),
        ("never", State::Failed, 0),
        ("stubborn", State::Finished, 4),
    ] {
        let status = reaches(&host, name, state);
        assert_eq!(status.restarts, restarts, "{name}");
        let log = home.plugin_log(name);
        assert_eq!(count(&log, "ran"), restarts as usize + 1, "{log}");
    }
    let error = of(&host, "again").error.unwrap_or_default();
    assert!(error.contains("all 2 restarts are used up"), "{error}");
    let log = home.plugin_log("stubborn");
    let attempt = "Attempting to restart plugin in 10 ms...";
    assert_eq!(count(&log, attempt), 4, "{log}");
    host.shutdown();
}

#[test]
fn a_plugin_finds_what_is_documented() {
    let home = TestHome::new();
    let script = r#"
        echo "folder $(pwd)"
        echo "plugin $AIGIS_PLUGIN"
        echo "home $AIGIS_HOME"
        echo "data $AIGIS_DATA"
        echo "session $AIGIS_SESSION_FD"
        cp "$AIGIS_SETTINGS" "$AIGIS_DATA/settings.json"
        for word in "$@"; do echo "<$word>"; done
        for file in /proc/$$/fd/*; do [ -e "$file" ] && echo "descriptor ${file##*/}"; done
        cat /proc/self/status > "$AIGIS_DATA/status"
        echo "group $(cut -d ' ' -f 5 /proc/$$/stat) $$"
        printf 'no line break'; printf 'nor here' >&2"#;
    let words = [r#""sh""#, r#""-c""#, &format!("'''{script}'''"), r#""sh""#];
    let manifest = format!(
        "PLUGIN_TYPE = \"external\"\nENTRYPOINT = \"{{root}}/a folder\"\n\
         LAUNCH = [{}, \"two words\", \"\", \"'single' \\\"double\\\" $HOME *\", \"{{root}}/ä\"]\n",
        words.join(", ")
    );
    plugins::write(
        &home,
        "probe",
        &[("AIGIS/AIGIS.config", &manifest), ("a folder/file", "")],
    );
    home.config(
        "[external.probe]\nsource = \"{sources}/probe\"\n\
         settings = { every = 60, names = [\"a\", \"b\"], deep = { on = true } }\n",
    );
    // As careless a starter as there may be: a descriptor that every program inherits.
    let inherited = rustix::io::dup(File::open("/dev/null").expect("opens")).expect("is copied");
    let host = home.host();
    reaches(&host, "probe", State::Finished);
    drop(inherited);

    let log = home.plugin_log("probe");
    let root = fs::canonicalize(home.path()).expect("is there");
    let at = |path: &str| root.join(path).display().to_string();
    for expected in [
        format!("folder {}", at("ext/probe/a folder")),
        "plugin probe".to_owned(),
        format!("home {}", root.display()),
        format!("data {}", at("data/probe")),
        "<two words>".to_owned(),
        "<>".to_owned(),
        "<'single' \"double\" $HOME *>".to_owned(),
        // Only paths are made from it, and what is launched is words.
        "<{root}/ä>".to_owned(),
        "no line break".to_owned(),
    ] {
        assert_eq!(count(&log, &expected), 1, "`{expected}` in\n{log}");
    }
    assert!(log.contains(" : STDERR : nor here\n"), "{log}");
    let descriptors: Vec<&str> = messages(&log)
        .filter(|m| m.starts_with("descriptor "))
        .collect();
    let session = messages(&log).find_map(|m| m.strip_prefix("session "));
    let session = format!("descriptor {}", session.expect("is told"));
    assert_eq!(
        descriptors,
        ["descriptor 0", "descriptor 1", "descriptor 2", &session],
        "the session's, and nothing else"
    );
    let group = messages(&log).find_map(|m| m.strip_prefix("group ")?.split_once(' '));
    assert!(
        group.is_some_and(|(group, pid)| group == pid),
        "leads its group:\n{log}"
    );

    let settings: serde_json::Value =
        serde_json::from_str(&home.read("data/probe/settings.json")).expect("is JSON");
    let given = serde_json::json!({ "every": 60, "names": ["a", "b"], "deep": { "on": true } });
    assert_eq!(settings, given);
    // The core ignores SIGPIPE, as every Rust program does, and holds back others.
    let status = home.read("data/probe/status");
    for set in ["SigBlk", "SigIgn"] {
        let line = status
            .lines()
            .find(|line| line.starts_with(set))
            .expect("is there");
        let signals = line.split_whitespace().nth(1).expect("has a value");
        assert!(signals.bytes().all(|digit| digit == b'0'), "{line}");
    }
}

#[test]
fn fast_output_is_whole_and_in_order() {
    let home = TestHome::new();
    plugins::external(
        &home,
        "fast",
        "",
        "seq -f 'line %g' 2000; seq -f 'error %g' 500 >&2",
    );
    home.config("[external]\nfast = \"{sources}/fast\"\n");
    let host = home.host();
    reaches(&host, "fast", State::Finished);
    let log = home.plugin_log("fast");
    for (label, level, last) in [("line ", "INFO", 2000), ("error ", "STDERR", 500)] {
        let numbers = log.lines().filter_map(|line| {
            let (head, number) = line.split_once(label)?;
            assert!(head.ends_with(&format!(" : {level} : ")), "{line}");
            number.parse::<u32>().ok()
        });
        assert!(numbers.eq(1..=last), "{log}");
    }
}

#[test]
fn a_stop_is_polite_then_thorough() {
    let home = TestHome::new();
    let wait = "while :; do sleep 0.05; done";
    let polite = format!("trap 'echo bye; exit 0' TERM; echo up $$; {wait}");
    plugins::external(&home, "polite", "", &polite);
    let slow = format!("trap 'sleep 1; echo done; exit 0' TERM; echo up $$; {wait}");
    plugins::external(&home, "slow", "", &slow);
    // Its grandchild has left its session and its group.
    let stubborn =
        format!("trap '' TERM; setsid sleep 100000 & echo grandchild $!; echo up $$; {wait}");
    plugins::external(&home, "stubborn", "RESTART = 3", &stubborn);
    home.config(
        "[external]\npolite = \"{sources}/polite\"\nslow = \"{sources}/slow\"\n\
         stubborn = \"{sources}/stubborn\"\n",
    );
    let core = Core::start(&home);
    let mut pids = vec![printed_pid(&home, "stubborn", "grandchild")];
    for name in ["polite", "slow", "stubborn"] {
        pids.push(printed_pid(&home, name, "up"));
    }
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let begun = Instant::now();
    core.signal("TERM");
    core.wait().exited(0);
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(5),
        "the grace is 5 s, this took {took:?}"
    );
    let alive: Vec<u32> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(alive.is_empty(), "left behind: {alive:?}");

    let warning = "Plugin taking too long to terminate, killing it.";
    assert_eq!(count(&home.plugin_log("polite"), "bye"), 1);
    assert_eq!(count(&home.plugin_log("slow"), "done"), 1);
    for (name, warned) in [("polite", false), ("slow", false), ("stubborn", true)] {
        let log = home.plugin_log(name);
        assert_eq!(log.contains(warning), warned, "{log}");
        assert_eq!(count(&log, "Plugin shut down."), 1, "{log}");
        assert!(!log.contains("Attempting to restart"), "{log}");
    }
}

#[test]
fn an_internal_plugin_is_ready_with_its_session() {
    let home = TestHome::new();
    let served = "use aigis_plugin_api::{Context, launch};\n\n\
        #[launch]\nfn launch(ctx: &Context) {\n    \
        println!(\"up {} {} {}\", ctx.plugin(), ctx.generation(), std::env::args().count());\n    \
        loop {\n        std::thread::park();\n    }\n}\n";
    let silent = "fn main() {\n    println!(\"says nothing to the core\");\n    \
        loop {\n        std::thread::park();\n    }\n}\n";
    plugins::write(
        &home,
        "two",
        &[
            ("Cargo.toml", &plugins::cargo_toml("two-programs", "")),
            ("AIGIS/AIGIS.config", plugins::INTERNAL),
            ("src/bin/served.rs", served),
            ("src/bin/silent.rs", silent),
        ],
    );
    home.config(
        "[internal]\nserved = { source = \"{sources}/two\", launch = \"served\", restart = 1 }\n\
         silent = { source = \"{sources}/two\", launch = \"silent\" }\n",
    );
    let host = home.builder().start().expect("starts");
    home.wait_for_log("silent", "says nothing to the core");
    let silent = of(&host, "silent");
    assert_eq!((silent.state, silent.pid), (State::Starting, None));
    host.stop("silent").expect("stops");
    assert_eq!(of(&host, "silent").state, State::Stopped);

    let first = reaches(&host, "served", State::Ready);
    let first_pid = first.pid.expect("has a process");
    assert!(is_alive(first_pid) && first_pid != std::process::id());
    home.wait_for_log("served", "up served 1 1");
    kill(first_pid);
    let second = eventually("the restart", || {
        Some(of(&host, "served")).filter(|now| now.state == State::Ready && now.restarts == 1)
    });
    assert_ne!(second.pid, Some(first_pid));
    assert_eq!(second.generation, 2);
    home.wait_for_log("served", "killed by SIGKILL");
    home.wait_for_log("served", "up served 2 1");

    // A reload is no restart and gives the restarts back.
    host.reload("served", false).expect("reloads");
    let third = reaches(&host, "served", State::Ready);
    assert_eq!((third.restarts, third.generation), (1, 3));
    assert!(!is_alive(second.pid.expect("had a process")));
    kill(third.pid.expect("has a process"));
    eventually("the second restart", || {
        Some(of(&host, "served")).filter(|now| now.state == State::Ready && now.restarts == 2)
    });
    kill(of(&host, "served").pid.expect("has a process"));
    let last = reaches(&host, "served", State::CrashLoop);
    assert!(
        last.error
            .is_some_and(|error| error.contains("all 1 restarts are used up"))
    );
}

#[test]
fn plugins_are_stopped_started_and_reloaded() {
    let home = TestHome::new();
    plugins::external(
        &home,
        "idle",
        "RESTART = 1",
        "echo up $$; exec sleep 100000",
    );
    plugins::external(&home, "bad", "RESTART = 100", "echo ran; exit 1");
    home.config("[external]\nidle = \"{sources}/idle\"\nbad = \"{sources}/bad\"\n");
    let host = home.builder().start().expect("starts");

    let first = reaches(&host, "idle", State::Ready);
    let mut pids = vec![first.pid.expect("runs")];
    let reloaded = host.reload("idle", false).expect("reloads");
    assert_eq!(reloaded.state, State::Ready);
    pids.push(reloaded.pid.expect("runs"));
    assert!(
        !is_alive(pids[0]),
        "the old process is gone when the new one runs"
    );
    let stopped = host.stop("idle").expect("stops");
    assert_eq!((stopped.state, stopped.pid), (State::Stopped, None));
    assert!(!is_alive(pids[1]));
    assert_eq!(
        host.stop("idle").expect("is stopped already").state,
        State::Stopped
    );
    let started = host.start_plugin("idle").expect("starts");
    assert_eq!(started.state, State::Ready);
    pids.push(started.pid.expect("runs"));
    assert_eq!(started.restarts, 0);
    assert!(is_alive(pids[2]));
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3);
    let refused = host.start_plugin("idle").expect_err("runs already");
    assert_eq!(refused.to_string(), "plugin `idle` is ready already");
    let unknown = host.stop("idel").expect_err("there is none");
    assert!(
        unknown.to_string().contains("did you mean `idle`"),
        "{unknown}"
    );

    // In the third wait: long enough to be caught in it.
    eventually("a few attempts", || {
        (of(&host, "bad").restarts >= 2).then_some(())
    });
    reaches(&host, "bad", State::Backoff);
    assert_eq!(host.stop("bad").expect("stops").state, State::Stopped);
    let runs = count(&home.plugin_log("bad"), "ran");
    host.start_plugin("bad").expect("starts");
    reaches(&host, "bad", State::Backoff);
    host.stop("bad").expect("stops");
    let log = home.plugin_log("bad");
    assert_eq!(count(&log, "Plugin shut down."), 2, "{log}");
    assert!(count(&log, "ran") > runs, "{log}");
    let begun = Instant::now();
    host.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(of(&host, "bad").state, State::Stopped);
}

#[test]
fn a_stop_ends_a_restart_that_is_under_way() {
    let home = TestHome::new();
    // Before its second launch it would wait for long.
    let requirements = "RESTART = 1\nREQUIREMENTS_COMMAND = \
         \"echo looking; if test -e ran; then sleep 100000; fi\"";
    for name in ["first", "second"] {
        plugins::external(&home, name, requirements, "touch ran; exit 1");
    }
    home.config("[external]\nfirst = \"{sources}/first\"\nsecond = \"{sources}/second\"\n");
    let host = home.builder().start().expect("starts");
    for name in ["first", "second"] {
        eventually("the second look", || {
            (count(&home.plugin_log(name), "looking") == 2).then_some(())
        });
    }
    assert_eq!(host.stop("first").expect("stops").state, State::Stopped);
    assert_eq!(of(&host, "second").state, State::Starting);
    host.shutdown();
    assert_eq!(of(&host, "second").state, State::Stopped);
}

#[test]
fn a_plugin_on_its_way_is_left_alone() {
    let home = TestHome::new();
    let requirements = "REQUIREMENTS_COMMAND = \"while ! test -e go; do sleep 0.05; done\"";
    plugins::external(&home, "waits", requirements, "exec sleep 100000");
    home.config("[external]\nwaits = \"{sources}/waits\"\n");
    let host = home.builder().start().expect("starts");
    home.wait_for_log("waits", "requirements: ");
    let refusals = [
        host.stop("waits"),
        host.reload("waits", true),
        host.start_plugin("waits"),
    ];
    for refusal in refusals {
        let error = refusal
            .expect_err("it would come up all the same")
            .to_string();
        assert!(error.starts_with("plugin `waits` is fetching"), "{error}");
    }
    home.write("ext/waits/go", "");
    reaches(&host, "waits", State::Ready);
    assert_eq!(of(&host, "waits").generation, 1);
    assert_eq!(host.stop("waits").expect("stops").state, State::Stopped);
}

#[test]
fn what_a_plugin_leaves_behind_is_ended() {
    let home = TestHome::new();
    let script = "setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 100000' &\n\
        while ! test -e pid; do sleep 0.02; done";
    plugins::external(&home, "forks", "", script);
    home.config("[external]\nforks = \"{sources}/forks\"\n");
    let host = home.host();
    reaches(&host, "forks", State::Finished);
    let pid: u32 = home.read("ext/forks/pid").trim().parse().expect("is a pid");
    assert!(!is_alive(pid));
}

#[test]
fn the_next_core_stops_what_has_outlived_the_last_one() {
    let home = TestHome::new();
    let script =
        "setsid sleep 100000 & echo grandchild $!; sleep 100000 & echo child $!; echo up $$; wait";
    plugins::external(&home, "one", "", script);
    plugins::external(&home, "two", "RESTART = 3", script);
    home.config("[external]\none = \"{sources}/one\"\ntwo = \"{sources}/two\"\n");
    let core = Core::start(&home);
    let mut pids = Vec::new();
    for plugin in ["one", "two"] {
        for label in ["grandchild", "child", "up"] {
            pids.push(printed_pid(&home, plugin, label));
        }
    }
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    core.signal("KILL");
    assert_eq!(core.wait().code, None);
    home.wait_for_log("two", "The core is gone, the plugin runs on.");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    // The home is free, and nothing of the first core is in the way of the second.
    let core = Core::start(&home);
    core.signal("TERM");
    core.wait().exited(0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

fn threads(pid: u32) -> usize {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    fs::read_dir(tasks).expect("the core is there").count()
}

/// Returns how much of the processor a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the core is there");
    let (_, fields) = stat.rsplit_once(')').expect("has a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks
        .map(|field| field.parse::<u64>().expect("is a number"))
        .sum();
    // Linux counts them in hundredths of a second, on every machine.
    Duration::from_millis(ticks * 10)
}

#[test]
fn idle_plugins_cost_nothing() {
    let home = TestHome::new();
    plugins::write(&home, "idle", &[("AIGIS/AIGIS.config", IDLE)]);
    let mut config = "[external]\n".to_owned();
    for number in 0..20 {
        config += &format!("idle{number} = {{ source = \"{{sources}}/idle\", restart = 1 }}\n");
    }
    home.config(&config);
    let core = Core::start(&home);
    let pid = core.pid();
    let session = aigis_plugin_api::connect(home.path()).expect("connects");
    let statuses = || -> Vec<PluginStatus> { session.call("aigis.status", ()).expect("answers") };
    assert!(statuses().iter().all(|status| status.state == State::Ready));
    // What the start needed for a while is let go of after some seconds without use.
    let at_rest = eventually("the start's threads to end", || {
        Some(threads(pid)).filter(|count| *count < 20)
    });

    let before = processor_time(pid);
    // Nothing happens here, which no event tells of.
    std::thread::sleep(Duration::from_secs(3));
    let used = processor_time(pid) - before;
    assert!(used < Duration::from_millis(200), "used {used:?} in 3 s");
    assert!(threads(pid) <= at_rest);

    for round in 0..10 {
        let one = || {
            statuses()
                .into_iter()
                .find(|status| status.name == "idle7")
                .expect("is there")
        };
        kill(one().pid.expect("runs"));
        eventually("the restart", || {
            let now = one();
            (now.state == State::Ready && now.restarts == round + 1).then_some(())
        });
        let reloaded: PluginStatus = session
            .call("aigis.reload", ("idle7", false))
            .expect("reloads");
        assert_eq!(reloaded.restarts, round + 1);
    }
    eventually("the threads of 20 launches to end", || {
        (threads(pid) <= at_rest).then_some(())
    });
    core.signal("TERM");
    core.wait().exited(0);
}
