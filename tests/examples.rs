//! The examples, run by the config that comes with them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{eventually, is_alive};

/// The top of the repository.
fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("stands in a folder").to_owned()
}

/// The config of the repository, but for the folder that it stands in and the port.
fn config() -> String {
    let text = fs::read_to_string(repository().join("config/config.aigis")).expect("is there");
    let examples = repository().join("examples");
    let here = text.replace("\"../examples/", &format!("\"{}/", examples.display()));
    assert_eq!(here.matches("port = 8475").count(), 1, "{here}");
    // Tests run side by side: any port that is free.
    here.replace("port = 8475", "port = 0")
}

/// Answers of the web plugin: status and body.
struct Web(String);

impl Web {
    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        (status, serde_json::from_str(&answer).expect("is JSON"))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.0).expect("listens");
        stream.write_all(request.as_bytes()).expect("is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("has a head");
        let status = head.split(' ').nth(1).expect("has a status");
        (status.parse().expect("is a number"), body.to_owned())
    }
}

#[test]
fn the_examples_run_as_configured() {
    let home = TestHome::new();
    home.config(&config());
    let core = Core::start(&home);
    let list = |command: &str| -> Vec<Value> {
        let ran = home.aigis(&[command, "--json"]).exited(0);
        serde_json::from_str(&ran.stdout).expect("is a list")
    };
    let plugins = list("status");
    let names: Vec<&Value> = plugins.iter().map(|plugin| &plugin["name"]).collect();
    assert_eq!(
        names,
        [
            "site", "greeter", "markdown", "web", "clock", "notes", "words"
        ]
    );
    for plugin in &plugins {
        assert_eq!(plugin["state"], "ready", "{plugin:#}\n{}", core.printed());
    }
    let pids: Vec<u32> = plugins
        .iter()
        .filter_map(|plugin| plugin["pid"].as_u64()?.try_into().ok())
        .collect();
    assert_eq!(pids.len(), plugins.len());
    let examples = fs::read_dir(repository().join("examples")).expect("is a folder");
    let packages = examples
        .flatten()
        .filter(|e| e.path().join("AIGIS").is_dir());
    assert_eq!(
        packages.count(),
        plugins.len(),
        "the config runs every example"
    );

    skills_answer(&home);
    requests_are_answered(&home);
    home.wait_for_log("clock", ": Hello, everybody!");
    a_note_is_taken(&home);
    python_is_called(&home);

    core.signal("INT");
    let ran = core.wait().exited(0);
    assert!(!ran.stderr.contains("ERROR"), "{}", ran.stderr);
    for pid in pids {
        assert!(!is_alive(pid), "{pid} is still there");
    }
    for (plugin, needle) in [
        ("greeter", "greeted "),
        ("markdown", "rendered "),
        ("notes", "SIGTERM: 2 notes are kept"),
        ("words", "no more words"),
    ] {
        let log = home.plugin_log(plugin);
        assert_eq!(log.matches(needle).count(), 1, "{plugin}: {log}");
    }
}

fn skills_answer(home: &TestHome) {
    let call = |arguments: &[&str]| -> Value {
        let ran = home.aigis(&[&["call"], arguments].concat()).exited(0);
        serde_json::from_str(&ran.stdout).expect("is JSON")
    };
    assert_eq!(call(&["greeter.greet", "zaltu"]), "Hello, zaltu!");
    assert_eq!(call(&["greeter.MAX_NAME_LENGTH"]), 64);
    assert_eq!(call(&["markdown.count_words", "two *words*"]), 2);
    assert_eq!(
        call(&["markdown.headings", "# One\n## Two"]),
        json!([
            {"level": 1, "text": "One", "anchor": "one"},
            {"level": 2, "text": "Two", "anchor": "two"},
        ])
    );
    let page = call(&["site.page", "zaltu", "# Title\n\nIs *here*."]);
    let page = page.as_str().expect("is a text");
    for part in ["Hello, zaltu!", "Title", "<em>here</em>"] {
        assert!(page.contains(part), "{page}");
    }
    let now = call(&["clock.now"]);
    let seconds = call(&["clock.parse", now.as_str().expect("is a text")]);
    assert!(
        seconds
            .as_u64()
            .is_some_and(|seconds| seconds > 1_700_000_000)
    );
    assert_eq!(
        call(&["clock.parse_duration", "1h 30m"]),
        json!({"secs": 5400, "nanos": 0})
    );
    let failed = home.aigis(&["call", "greeter.greet", ""]).exited(4);
    assert!(failed.stderr.contains("the name is empty"), "{failed:?}");
}

fn requests_are_answered(home: &TestHome) {
    let address = eventually("the web plugin's address", || {
        let address = home.read("data/web/address");
        (!address.is_empty()).then_some(address)
    });
    let web = Web(address.trim().to_owned());
    assert_eq!(web.get("/greet/zaltu"), (200, "Hello, zaltu!\n".to_owned()));
    let (status, page) = web.get("/page/zaltu?text=%23%20Title");
    assert_eq!(status, 200);
    assert!(page.contains("Title</h1>"), "{page}");
    let (status, usage) = web.get("/");
    assert!(status == 200 && usage.contains("/call/SKILL"), "{usage}");
    assert_eq!(web.get("/nowhere").0, 404);

    // Any skill, from whatever speaks HTTP.
    assert_eq!(
        web.post("/call/markdown.count_words", r#"["two words"]"#),
        (200, json!(2))
    );
    assert_eq!(
        web.post("/call/greeter.greet", r#"{"name": "zoé"}"#),
        (200, json!("Hello, zoé!"))
    );
    let (status, error) = web.post("/call/greeter.greet", &json!(["x".repeat(65)]).to_string());
    assert_eq!(status, 422);
    assert_eq!(error["error"]["kind"], "skill");
    assert_eq!(
        error["error"]["payload"],
        json!({"TooLong": {"limit": 64, "found": 65}})
    );
    let (status, error) = web.post("/call/greeter.gret", "[]");
    assert_eq!(
        (status, &error["error"]["kind"]),
        (404, &json!("not_found"))
    );
    let (status, error) = web.post("/call/greeter.greet", "[1, 2]");
    assert_eq!(
        (status, &error["error"]["kind"]),
        (400, &json!("arguments"))
    );
}

fn a_note_is_taken(home: &TestHome) {
    // It reads its settings and knows its folder.
    home.wait_for_log(
        "notes",
        &format!(
            "keeping notes in {}",
            home.path().join("data/notes").display()
        ),
    );
    let inbox = home.path().join("data/notes/inbox");
    fs::write(inbox.join("new"), "buy milk\n\ncall zoé\n").expect("writes");
    fs::rename(inbox.join("new"), inbox.join("new.txt")).expect("renames");
    home.wait_for_log("notes", "noted 2 from new.txt");
    let notes = home.read("data/notes/notes.txt");
    let notes: Vec<&str> = notes
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, note)| note))
        .collect();
    assert_eq!(notes, ["buy milk", "call zoé"]);
}

fn python_is_called(home: &TestHome) {
    // Its skills are there when it has said so, later than itself.
    home.wait_for_log("words", "serving words.longest and words.report");
    let ran = home
        .aigis(&["call", "words.report", "two *words*"])
        .exited(0);
    assert_eq!(ran.stdout, "\"2 words, the longest is *words*\"\n");
    let failed = home.aigis(&["call", "words.longest", ""]).exited(4);
    assert!(
        failed.stderr.contains("there is no word in the text"),
        "{failed:?}"
    );
}
