//! Metrics as Prometheus asks for them, from a real core.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aigis_core::host::MetricsAddress;

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const GREETER: &str = r#"
use aigis_plugin_api::skills;

#[skills]
pub mod greeter {
    pub fn greet(name: &str) -> Result<String, String> {
        match name {
            "" => Err("nobody".to_owned()),
            name => Ok(format!("Hello, {name}!")),
        }
    }

    pub fn count(to: u64) -> impl Iterator<Item = u64> {
        0..to
    }
}
"#;

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is an answer");
    answer
}

/// Asks for a page and returns its samples.
fn samples(stream: impl Read + Write) -> Vec<String> {
    let answer = exchange(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\nContent-Length: {}", body.len())),
        "{head}"
    );
    body.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn has(samples: &[String], line: &str) {
    assert!(
        samples.iter().any(|sample| sample == line),
        "no {line} in {samples:#?}"
    );
}

#[test]
fn a_core_tells_how_plugins_are_and_what_is_called() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "greeter", GREETER);
    home.config(
        "[core]\ngreeter = \"{sources}/greeter\"\n\n[external]\nmissing = \"{sources}/missing\"\n",
    );
    let mut command = home.command(&["build-and-run"]);
    command.env("AIGIS_METRICS", "unix:run/metrics.sock");
    let core = Core::start_by(&home, command);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    for name in ["one", "two", ""] {
        let _ = session.call::<String>("greeter.greet", (name,));
    }
    let counted = session.stream::<u64>("greeter.count", (3_u64,));
    assert_eq!(counted.expect("it begins").count(), 3);
    assert!(session.call::<()>("made.up", ()).is_err());
    let path = home.path().join("run/metrics.sock");
    let ask = || samples(UnixStream::connect(&path).expect("the socket is open"));
    let found = ask();
    has(
        &found,
        "aigis_plugin_state{plugin=\"greeter\",state=\"ready\"} 1",
    );
    has(&found, "aigis_plugin_up{plugin=\"missing\"} 0");
    has(
        &found,
        "aigis_plugin_state{plugin=\"missing\",state=\"failed\"} 1",
    );
    has(&found, &format!("aigis_pid {}", core.pid()));
    has(
        &found,
        "aigis_skill_call_duration_seconds_count{skill=\"greeter.greet\"} 3",
    );
    has(
        &found,
        "aigis_skill_call_duration_seconds_bucket{skill=\"greeter.greet\",le=\"+Inf\"} 3",
    );
    has(
        &found,
        "aigis_skill_calls_failed_total{skill=\"greeter.greet\"} 1",
    );
    has(
        &found,
        "aigis_skill_streams_opened_total{skill=\"greeter.count\"} 1",
    );
    has(&found, "aigis_unknown_skill_calls_total 1");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    core.signal("TERM");
    core.wait().exited(0);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_port_is_for_this_machine_and_who_asks_wrongly_is_told() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    home.config("[core]\n");
    let address: MetricsAddress = "127.0.0.1:0".parse().expect("is loopback");
    let host = home.builder().metrics(address).start().expect("it starts");
    let Some(MetricsAddress::Loopback(address)) = host.metrics_address() else {
        panic!("{:?}", host.metrics_address());
    };
    let connect = || TcpStream::connect(address).expect("the port is open");
    has(&samples(connect()), "aigis_sessions 0");
    // Those who say nothing keep nobody from being answered.
    let silent: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    has(&samples(connect()), "aigis_sessions 0");
    drop(silent);
    let status = |request: &str| {
        let answer = exchange(connect(), request);
        answer.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(
        status("DELETE /metrics HTTP/1.0\r\n\r\n"),
        "HTTP/1.1 405 Method Not Allowed"
    );
    assert_eq!(
        status("GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        "HTTP/1.1 421 Misdirected Request"
    );
    assert_eq!(status("hello\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    let long = format!("GET /metrics HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(
        status(&long),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let head = exchange(connect(), "HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.ends_with("Connection: close\r\n\r\n"), "{head}");
    // Who never ends a request is cut off.
    let mut slow = connect();
    slow.set_read_timeout(Some(DEADLINE)).expect("is not zero");
    slow.write_all(b"GET /metrics HTTP/1.1\r\n")
        .expect("is taken");
    assert_eq!(slow.read(&mut [0; 16]).expect("is cut off in time"), 0);
    host.shutdown();
    eventually("the port to be closed", || {
        TcpStream::connect(address).is_err().then_some(())
    });
}

#[test]
fn others_than_this_machine_may_not_ask() {
    let home = TestHome::new();
    home.config("[core]\n");
    let ran = home.aigis(&["build-and-run", "--metrics", "0.0.0.0:9464"]);
    assert!(
        ran.stderr.contains("is not of this machine alone"),
        "{ran:?}"
    );
    ran.exited(2);
}
