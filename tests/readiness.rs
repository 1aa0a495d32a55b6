//! When launched plugins are ready, whether they stay well, in which order they start and end.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::{Host, PluginStatus, State};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{eventually, is_alive, plugins, reaches};

const IDLE: &str = "echo ran; exec sleep 100000";

/// Restarts that come at once, where a run would be healthy in no time.
const QUICK: &str = "backoff = 0.01, cap = 0.01, jitter = 0, healthy = 0.01";

fn of(host: &Host, name: &str) -> PluginStatus {
    let found = host.status().into_iter().find(|status| status.name == name);
    found.expect("the plugin is there")
}

fn error_of(host: &Host, name: &str, state: State) -> String {
    let status = reaches(host, name, state);
    status.error.expect("says what is wrong")
}

fn ran(home: &TestHome, name: &str) -> usize {
    home.plugin_log(name).matches(" : ran\n").count()
}

/// Answers HTTP with a status that can be changed.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    answers: Arc<AtomicUsize>,
}

impl Server {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let server = Self {
            address: listener.local_addr().expect("is bound"),
            status: Arc::new(AtomicU16::new(status)),
            answers: Arc::default(),
        };
        let (status, answers) = (Arc::clone(&server.status), Arc::clone(&server.answers));
        // It ends with the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines();
                let Some(Ok(first)) = lines.next() else {
                    continue;
                };
                let known = first == "GET /health?full HTTP/1.1";
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                let status = if known {
                    status.load(Ordering::SeqCst)
                } else {
                    404
                };
                // An answer may have others before it.
                let answer = format!(
                    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 {status} So\r\n\r\n"
                );
                // Whoever asks may be gone.
                let _ = (&stream).write_all(answer.as_bytes());
                answers.fetch_add(1, Ordering::SeqCst);
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/health?full", self.address)
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn wait_for_answers(&self, more: usize) {
        let before = self.answers.load(Ordering::SeqCst);
        eventually("probes", || {
            (self.answers.load(Ordering::SeqCst) >= before + more).then_some(())
        });
    }
}

#[test]
fn a_plugin_is_ready_when_its_probe_succeeds() {
    let home = TestHome::new();
    let server = Server::start(503);
    let http = format!("READY = {{ http = \"{}\", interval = 0.02 }}", server.url());
    plugins::external(&home, "http", &http, IDLE);
    let tcp = format!("READY = {{ tcp = \"{}\" }}", server.address);
    plugins::external(&home, "tcp", &tcp, IDLE);
    plugins::external(&home, "skill", "READY = { skill = \"aigis.pid\" }", IDLE);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let nobody = nobody.expect("was bound");
    let quick = "timeout = 0.3, interval = 0.02";
    let closed = format!("READY = {{ tcp = \"{nobody}\", {quick} }}");
    plugins::external(&home, "closed", &closed, IDLE);
    let unknown = format!("READY = {{ skill = \"no.body\", {quick} }}");
    plugins::external(&home, "unknown", &unknown, IDLE);
    home.config(
        "[external]\nhttp = \"{sources}/http\"\ntcp = \"{sources}/tcp\"\nskill = \"{sources}/skill\"\n\
         closed = \"{sources}/closed\"\nunknown = \"{sources}/unknown\"\n",
    );
    let host = home.builder().start().expect("the host starts");
    reaches(&host, "tcp", State::Ready);
    reaches(&host, "skill", State::Ready);
    home.wait_for_log("http", " : ran");
    server.wait_for_answers(2);
    assert_eq!(of(&host, "http").state, State::Starting);
    server.says(302);
    reaches(&host, "http", State::Ready);
    assert_eq!(ran(&home, "http"), 1);

    let error = error_of(&host, "closed", State::Failed);
    let expected = format!("not ready within 300ms: connecting to {nobody}: ");
    assert!(error.contains(&expected), "{error}");
    let error = error_of(&host, "unknown", State::Failed);
    assert!(
        error.contains("calling `no.body`: no plugin offers"),
        "{error}"
    );
    assert_eq!(of(&host, "unknown").pid, None);
}

#[test]
fn whoever_is_not_ready_in_time_has_failed_and_that_is_counted() {
    let home = TestHome::new();
    let options = format!(
        "RESTART = {{ count = 2, {QUICK} }}\nREADY = {{ log = \"^here I am$\", timeout = 0.3 }}"
    );
    plugins::external(&home, "silent", &options, IDLE);
    // The line of the first run is none of the second's.
    let once = "echo ran; test -e once && exec sleep 100000; touch once; echo here I am; exit 1";
    plugins::external(
        &home,
        "once",
        &options.replace("count = 2", "count = 1"),
        once,
    );
    let options = format!("RESTART = {{ count = 1, {QUICK} }}\nREADY = \"fd\"");
    let closes = "echo ran; exec python3 -c 'import os, time; os.close(int(os.environ[\"AIGIS_READY_FD\"])); time.sleep(1e6)'";
    plugins::external(&home, "closes", &options, closes);
    home.config(
        "[external]\nsilent = \"{sources}/silent\"\nonce = \"{sources}/once\"\ncloses = \"{sources}/closes\"\n",
    );
    let host = home.host();
    let error = error_of(&host, "silent", State::CrashLoop);
    assert!(error.contains("not ready within 300ms"), "{error}");
    assert!(
        error.contains("`^here I am$`") && error.contains("all 2 restarts are used up"),
        "{error}"
    );
    assert_eq!((of(&host, "silent").restarts, ran(&home, "silent")), (2, 3));

    let error = error_of(&host, "once", State::CrashLoop);
    assert!(error.contains("it has printed no line"), "{error}");
    assert_eq!(ran(&home, "once"), 2);

    let error = error_of(&host, "closes", State::CrashLoop);
    assert!(error.contains("without writing a line"), "{error}");
    assert_eq!(ran(&home, "closes"), 2);
}

#[test]
fn whoever_is_unhealthy_is_restarted() {
    let home = TestHome::new();
    let server = Server::start(200);
    let url = server.url();
    let options = format!(
        "RESTART = {{ count = 1, backoff = 0.01 }}\nREADY = {{ http = \"{url}\", interval = 0.02 }}\n\
         HEALTH = {{ http = \"{url}\", interval = 0.02, failures = 3 }}\nSTOP_TIMEOUT = 0.2"
    );
    // It has to be killed, and nobody looks after its health meanwhile.
    plugins::external(
        &home,
        "ill",
        &options,
        "trap '' TERM; echo ran; while :; do sleep 0.05; done",
    );
    home.config("[external]\nill = \"{sources}/ill\"\n");
    let host = home.host();
    let first = reaches(&host, "ill", State::Ready).pid.expect("runs");
    server.wait_for_answers(5);
    assert_eq!(of(&host, "ill").restarts, 0);
    server.says(500);
    home.wait_for_log("ill", "Probe 3 of 3 failed: getting");
    let wrong = format!("unhealthy: getting {url}: it is answered with status 500");
    home.wait_for_log("ill", &wrong);
    // The next one runs when nothing of this one is left, and is not ready yet.
    eventually("the restart", || {
        (of(&host, "ill").restarts == 1).then_some(())
    });
    assert!(!is_alive(first));
    server.says(200);
    let second = reaches(&host, "ill", State::Ready);
    assert!(second.pid.is_some_and(|pid| pid != first));
    server.says(500);
    let error = error_of(&host, "ill", State::CrashLoop);
    assert_eq!(error, format!("{wrong}; all 1 restarts are used up"));
    assert!(
        !home.plugin_log("ill").contains("Probe 4"),
        "{}",
        home.plugin_log("ill")
    );
}

/// Writes a plugin that says in a file of the whole home that it ends, after a pause.
fn ends(home: &TestHome, name: &str, options: &str, before: &str, pause: &str) {
    let script = format!(
        "trap 'sleep {pause}; echo {name} >> ../order; exit 0' TERM; {before}\n\
         echo up; while :; do sleep 0.02; done"
    );
    plugins::external(home, name, options, &script);
}

#[test]
fn after_delays_whom_it_names_and_nobody_else() {
    let home = TestHome::new();
    ends(
        &home,
        "web",
        "AFTER = [\"db\", \"job\"]",
        "test -e ../db/go || exit 9",
        "0.4",
    );
    ends(&home, "other", "", "", "0");
    let wait = "while ! test -e go; do sleep 0.02; done";
    ends(&home, "db", "READY = { log = \"^up$\" }", wait, "0");
    plugins::external(&home, "job", "", "exit 0");
    plugins::external(&home, "broken", "READY = { log = \"^up$\" }", "exit 3");
    plugins::external(&home, "orphan", "AFTER = [\"broken\"]", IDLE);
    plugins::external(&home, "typo", "AFTER = [\"brokn\"]", IDLE);
    plugins::external(&home, "one", "AFTER = [\"two\"]", IDLE);
    plugins::external(&home, "two", "AFTER = [\"one\"]", IDLE);
    let names = [
        "web", "other", "db", "job", "broken", "orphan", "typo", "one", "two",
    ];
    let lines: String = names
        .iter()
        .map(|name| format!("{name} = \"{{sources}}/{name}\"\n"))
        .collect();
    home.config(&format!("[external]\n{lines}"));
    let host = home.builder().start().expect("the host starts");
    // Those that wait hold up nobody who comes after them in the list.
    reaches(&host, "other", State::Ready);
    let error = error_of(&host, "orphan", State::Failed);
    assert!(
        error.contains("waits for `broken`, which has failed"),
        "{error}"
    );
    let error = error_of(&host, "typo", State::Failed);
    assert!(
        error.contains("no plugin has this name; did you mean `broken`?"),
        "{error}"
    );
    for name in ["one", "two"] {
        let error = error_of(&host, name, State::Failed);
        assert!(
            error.contains("one -> two -> one") || error.contains("two -> one -> two"),
            "{error}"
        );
    }
    eventually("the end of the job", || {
        let web = of(&host, "web");
        (web.state == State::Starting && web.waits_for == ["db"]).then_some(())
    });
    home.write("ext/db/go", "");
    reaches(&host, "db", State::Ready);
    let web = reaches(&host, "web", State::Ready);
    assert!(web.waits_for.is_empty());
    home.wait_for_log("web", " : up");

    // Whoever waits is stopped before whom it waits for, however long that takes.
    let stopped = host
        .stop_set(&["db", "other", "web"], false)
        .expect("are stopped");
    assert!(
        stopped.iter().all(|one| one.state == State::Stopped),
        "{stopped:?}"
    );
    let order = home.read("ext/order");
    assert!(
        order == "other\nweb\ndb\n" || order == "web\nother\ndb\n",
        "{order}"
    );
    let refused = host
        .start_plugin("web")
        .expect_err("has to wait for ever")
        .to_string();
    assert!(
        refused.contains("waits for `db`, which is stopped"),
        "{refused}"
    );
    let started = host.restart(&["web", "db"]).expect("both are started");
    assert!(
        started.iter().all(|one| one.state == State::Ready),
        "{started:?}"
    );
    home.write("ext/order", "");
    let up = || home.plugin_log("web").matches(" : up\n").count();
    eventually("the second run", || (up() == 2).then_some(()));
    host.shutdown();
    assert_eq!(home.read("ext/order"), "web\ndb\n");
}

#[test]
fn fifty_plugins_that_need_their_whole_grace_take_little_more_than_one() {
    let home = TestHome::new();
    plugins::external(
        &home,
        "stubborn",
        "STOP_TIMEOUT = 1",
        "trap '' TERM; echo ran; while :; do sleep 0.5; done",
    );
    let lines: String = (0..50)
        .map(|number| format!("p{number} = \"{{sources}}/stubborn\"\n"))
        .collect();
    home.config(&format!("[external]\n{lines}"));
    let host = home.host();
    let mut pids = Vec::new();
    for number in 0..50 {
        let name = format!("p{number}");
        pids.extend(reaches(&host, &name, State::Ready).pid);
        home.wait_for_log(&name, " : ran");
    }
    let begun = Instant::now();
    host.shutdown();
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // One after the other it would be 50 s; a busy machine may take its time.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(pids.len() == 50 && !pids.into_iter().any(is_alive));
    for number in 0..50 {
        let log = home.plugin_log(&format!("p{number}"));
        assert!(
            log.contains("Plugin taking too long to terminate, killing it. Still running: "),
            "{log}"
        );
    }
}

#[test]
fn the_status_says_who_holds_a_stop_up() {
    let home = TestHome::new();
    let script = "trap '' INT; echo ran; trap 'exit 0' TERM; while :; do sleep 0.5; done";
    plugins::external(
        &home,
        "slow",
        "STOP_SIGNAL = \"INT\"\nSTOP_TIMEOUT = 4",
        script,
    );
    plugins::external(&home, "quick", "", IDLE);
    home.config("[external]\nslow = \"{sources}/slow\"\nquick = \"{sources}/quick\"\n");
    let core = Core::start(&home);
    home.wait_for_log("slow", " : ran");
    home.wait_for_log("quick", " : ran");
    thread::scope(|scope| {
        let stop = scope.spawn(|| home.aigis(&["stop", "quick", "slow"]).exited(0));
        let shown = eventually("the status", || {
            let shown = home.aigis(&["status"]).exited(0).stdout;
            shown.contains("stopping: waiting for ").then_some(shown)
        });
        assert!(shown.contains("run.sh ("), "{shown}");
        let stop = stop.join().expect("ends");
        assert!(
            stop.stderr.contains("quick: stopped") && stop.stderr.contains("slow: stopped"),
            "{stop:?}"
        );
    });
    assert!(
        home.plugin_log("slow")
            .contains("killing it. Still running: ")
    );
    assert!(
        !home
            .aigis(&["status"])
            .exited(0)
            .stdout
            .contains("waiting for")
    );
    home.aigis(&["restart", "slow", "quick"]).exited(0);
    let again = home.aigis(&["status"]).exited(0).stdout;
    assert_eq!(again.matches(" ready ").count(), 2, "{again}");
    core.signal("TERM");
    core.wait().exited(0);
}
