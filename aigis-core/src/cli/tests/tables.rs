//! Lists for people.

use aigis_plugin_api::signature::{Shape, Signature};

use super::super::table;
use super::status;
use crate::config::PluginKind;
use crate::host::{
    CoreStatus, Crash, Isolation, LastExit, OverdueCall, ProcessStatus, SkillInfo, SlowCall, State,
};
use crate::supervisor::{Exit, ProcessName};

#[test]
fn plugins_are_aligned_and_errors_stand_below() {
    let greeter = status("greeter", State::Ready);
    let mut web = status("a-long-plugin-name", State::CrashLoop);
    web.kind = PluginKind::Internal;
    web.pid = None;
    web.restarts = 12;
    web.generation = 0;
    web.source = "https://git.example.org/web.git".to_owned();
    web.error = Some("exited with code 3\nits last line\x1b[2J".to_owned());
    assert_eq!(
        table::plugins(&[greeter, web], None),
        "\
NAME                KIND      STATE       PID   RESTARTS  GEN  SOURCE
greeter             core      ready       4711  0         1    ../greeter
a-long-plugin-name  internal  crash-loop  -     12        0    https://git.example.org/web.git
  error: exited with code 3
         its last line\\u{1b}[2J
"
    );
}

#[test]
fn what_plugins_use_is_shown_as_far_as_there_is_room() {
    let before = |seconds: i64| {
        let now = jiff::Timestamp::now().as_second();
        let then = jiff::Timestamp::from_second(now - seconds);
        then.expect("is a time").to_string()
    };
    let greeter = status("greeter", State::Ready);
    let mut web = status("web", State::Ready);
    web.cpu_percent = Some(12.4);
    web.memory_bytes = Some(300 << 20);
    web.started = Some(before(2 * 3600 + 90));
    web.last_exit = Some(LastExit {
        exit: Exit::Signal(9),
        at: before(2 * 3600 + 100),
    });
    let all = [greeter, web];
    let table = |width| table::plugins(&all, width);
    assert_eq!(
        table(None),
        "\
NAME     KIND  STATE  PID   RESTARTS  GEN  CPU  MEM      UPTIME  LAST EXIT           SOURCE
greeter  core  ready  4711  0         1    -    -        -       -                   ../greeter
web      core  ready  4711  0         1    12%  300 MiB  2h 1m   SIGKILL, 2h 1m ago  ../greeter
"
    );
    for width in [100, 80, 60, 40, 30] {
        let shown = table(Some(width));
        let widest = shown.lines().map(str::len).max();
        assert!(widest <= Some(width), "{width}:\n{shown}");
        assert!(shown.contains("12%  300 MiB"), "{width}:\n{shown}");
    }
    assert!(table(Some(1)).starts_with("NAME     STATE  CPU  MEM\n"));
}

#[test]
fn the_core_is_one_line() {
    let core = CoreStatus {
        pid: 12,
        version: "1.2.3".to_owned(),
        started: Some("2026-01-01T00:00:00Z".to_owned()),
        cpu_ms: 5,
        cpu_percent: Some(0.25),
        memory_bytes: 9 << 20,
    };
    let line = table::core(&core);
    assert!(line.starts_with("aigis 1.2.3: process 12, up "), "{line}");
    assert!(line.ends_with(", 0.2% CPU, 9.0 MiB memory"), "{line}");
}

#[test]
fn crashes_and_slow_calls_stand_below() {
    let mut greeter = status("greeter", State::Ready);
    greeter.crash = Some(Crash {
        count: 2,
        signal: "SIGSEGV".to_owned(),
        stack_overflow: true,
        at: "2026-01-01T00:00:00Z".to_owned(),
        generation: 3,
        skill: Some("greeter.greet".to_owned()),
        thread: "worker".to_owned(),
    });
    greeter.overdue_calls.push(OverdueCall {
        skill: "greeter.greet".to_owned(),
        session: 7,
        client: "a\x1btool".to_owned(),
        overdue_ms: 2_000,
    });
    greeter.slow_calls.push(SlowCall {
        skill: "greeter.greet".to_owned(),
        thread: "a\x1bthread".to_owned(),
        age_ms: 12_345,
        generation: 4,
    });
    let table = table::plugins(&[greeter], None);
    let below: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        below,
        [
            "  crash: the core died of SIGSEGV (stack overflow) at 2026-01-01T00:00:00Z while \
             `greeter.greet` of generation 3 was running on thread `worker` (2 times so far)",
            "  overdue: `greeter.greet`, called by a\\u{1b}tool on session 7, runs on; nobody has waited \
             for 2.0 s",
            "  slow:  `greeter.greet` of generation 4 has been running for 12.3 s on thread \
             `a\\u{1b}thread`",
        ]
    );
}

#[test]
fn several_processes_stand_below() {
    let mut web = status("web", State::Ready);
    let process = |instance, state, pid, restarts| ProcessStatus {
        instance,
        state,
        pid,
        restarts,
        error: None,
        says: None,
        waiting_for: Vec::new(),
        shim: None,
        cpu_ms: None,
        cpu_percent: pid.map(|pid| f64::from(pid) / 10.0),
        memory_bytes: pid.map(|_| 3 << 20),
        tree: None,
        started: pid.map(|_| "2026-01-01T00:00:00Z".to_owned()),
        last_exit: None,
    };
    web.processes = vec![process(Some(0), State::Ready, Some(12), 0)];
    assert_eq!(table::plugins(&[web.clone()], None).lines().count(), 2);
    web.isolated = Some(Isolation::EndedCore);
    web.processes
        .insert(0, process(None, State::Ready, Some(11), 1));
    web.processes
        .push(process(Some(1), State::Backoff, None, 3));
    let table = table::plugins(&[web], None);
    let below: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        below,
        [
            "  isolated: its library runs in a process of its own, because this version of it has ended \
             the core",
            "  library: ready, process 11, 1.1% CPU, 3.0 MiB, 1 restart",
            "  instance 0: ready, process 12, 1.2% CPU, 3.0 MiB",
            "  instance 1: backoff, 3 restarts",
        ]
    );
}

#[test]
fn what_is_waited_for_stands_below() {
    let mut web = status("web", State::Stopping);
    web.waits_for = vec!["db".to_owned(), "cache".to_owned()];
    let sleep = |pid| ProcessName {
        pid,
        name: "sleep".to_owned(),
    };
    web.processes = vec![ProcessStatus {
        started: None,
        shim: None,
        cpu_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        tree: None,
        last_exit: None,
        instance: Some(0),
        state: State::Ready,
        pid: Some(12),
        restarts: 0,
        error: None,
        says: Some("almost\u{1b} there".to_owned()),
        waiting_for: vec![sleep(13), sleep(14)],
    }];
    let table = table::plugins(&[web], None);
    let below: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        below,
        [
            "  waits for: db, cache",
            "  says: almost\\u{1b} there",
            "  stopping: waiting for sleep (13), sleep (14)",
        ]
    );
}

#[test]
fn no_plugins_is_the_titles_alone() {
    assert_eq!(
        table::plugins(&[], None),
        "NAME  KIND  STATE  PID  RESTARTS  GEN  SOURCE\n"
    );
}

#[test]
fn skills_stand_under_their_plugin_with_the_first_line_of_their_doc() {
    let skill = |name: &str, plugin: &str, signature: &str, doc: &str| SkillInfo {
        name: name.to_owned(),
        plugin: plugin.to_owned(),
        signature: signature.to_owned(),
        doc: doc.to_owned(),
        types: Signature {
            parameters: vec![],
            result: Shape::Unit,
            error: None,
            constant: false,
        },
        available: name != "counter.next",
    };
    assert_eq!(
        table::skills(&[
            skill(
                "greeter.greet",
                "greeter",
                "fn(name: &str) -> String",
                "Greets.\n\nMore."
            ),
            skill("counter.next", "counter", "fn() -> u64", ""),
            skill("greeter.MAX", "greeter", "const usize", " The longest."),
        ]),
        "\
greeter
  greeter.greet  fn(name: &str) -> String
      Greets.
  greeter.MAX    const usize
      The longest.

counter
  counter.next  fn() -> u64  (its process is not running)
"
    );
    assert_eq!(table::skills(&[]), "");
}
