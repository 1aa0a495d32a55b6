//! Replaces: another plugin takes over the same names in one instant, and callers do not notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aigis_core::{Host, HostError, State};

use crate::support::home::TestHome;
use crate::support::{eventually, plugins};

const SHOUTER: &str = r#"
use aigis_plugin_api::skills;

#[skills(namespace = "text")]
pub mod shouter {
    /// Who answers.
    pub fn loud(text: &str) -> String {
        format!("{}!", text.to_uppercase())
    }

    pub fn cleanup(logger: &aigis_plugin_api::Logger) {
        logger.info("the shouter is gone");
    }
}
"#;

/// The same name with the same signature, and other code.
const ROARER: &str = r#"
use aigis_plugin_api::skills;

#[skills(namespace = "text")]
pub mod roarer {
    pub fn loud(text: &str) -> String {
        format!("{}!!!", text.to_uppercase())
    }
}
"#;

/// Another signature.
const COUNTER: &str = r#"
use aigis_plugin_api::skills;

#[skills(namespace = "text")]
pub mod counter {
    pub fn loud(text: u64) -> u64 {
        text
    }
}
"#;

const CALLER: &str = r#"
use aigis_plugin_api::{import, skills};

import! {
    mod text {
        fn loud(text: &str) -> String;
    }
}

#[skills]
pub mod caller {
    pub fn ask() -> Result<String, String> {
        super::text::loud("hear").map_err(|error| error.to_string())
    }
}
"#;

fn names(host: &Host) -> Vec<String> {
    host.status()
        .into_iter()
        .map(|status| status.name)
        .collect()
}

fn ask(host: &Host) -> String {
    host.call("caller.ask", ()).expect("is served")
}

#[test]
fn another_plugin_takes_over_the_same_names() {
    let home = TestHome::new();
    plugins::core(&home, "shouter", SHOUTER);
    plugins::core(&home, "caller", CALLER);
    plugins::core(&home, "roarer", ROARER);
    plugins::core(&home, "counter", COUNTER);
    home.config("[core]\nshouter = \"{sources}/shouter\"\ncaller = \"{sources}/caller\"\n");
    let host = home.host();
    assert!(
        host.status().iter().all(|one| one.state == State::Ready),
        "{:#?}",
        host.status()
    );
    assert_eq!(ask(&host), "HEAR!");
    let source = |name: &str| home.source(name).display().to_string();

    let refused = host.replace("shouter", "caller", &source("roarer"), false);
    assert!(matches!(refused, Err(HostError::Refused(_))), "{refused:?}");
    let unknown = host.replace("shoutr", "roarer", &source("roarer"), false);
    assert!(
        matches!(&unknown, Err(HostError::UnknownPlugin { nearest, .. }) if nearest == &["shouter"]),
        "{unknown:?}"
    );
    // Whoever has been compiled for the names keeps them.
    let broken = host.replace("shouter", "counter", &source("counter"), false);
    let broken = broken
        .expect_err("is not what its caller expects")
        .to_string();
    assert!(
        broken.contains("text.loud: parameter 1 `text`: ") && broken.contains("imported by caller"),
        "{broken}"
    );
    assert_eq!(names(&host), ["shouter", "caller"]);
    assert_eq!(ask(&host), "HEAR!");

    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut last = "HEAR!".to_owned();
            while !done.load(Ordering::SeqCst) {
                let now = ask(&host);
                assert!(now.len() >= last.len(), "{now} after {last}");
                last = now;
                asked.fetch_add(1, Ordering::SeqCst);
            }
            last
        });
        let status = host
            .replace("shouter", "roarer", &source("roarer"), false)
            .expect("takes over");
        assert_eq!(
            (status.name.as_str(), status.state),
            ("roarer", State::Ready)
        );
        let before = asked.load(Ordering::SeqCst);
        eventually("calls of the new one", || {
            (asked.load(Ordering::SeqCst) > before + 1).then_some(())
        });
        done.store(true, Ordering::SeqCst);
        assert_eq!(asking.join().expect("no panic"), "HEAR!!!");
    });
    assert_eq!(names(&host), ["roarer", "caller"]);
    home.wait_for_log("shouter", "the shouter is gone");

    // With force, and from the command line; a table says what the config could say.
    let table = format!("counter={{ source = {:?} }}", source("counter"));
    let ran = home.aigis(&["replace", "roarer", &table, "--force", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("\"counter\""), "{ran:?}");
    let error = host
        .call::<String>("caller.ask", ())
        .expect_err("its import does not fit");
    assert!(error.to_string().contains("text.loud"), "{error}");
    assert_eq!(host.call("text.loud", (7,)), Ok(7));
    // What is there now can be reloaded like any other.
    host.reload("counter", false).expect("is swapped");
    host.shutdown();
}
