//! Plugins that are changed together: what others have been compiled for, and one instant for all.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aigis_core::{Host, State};
use aigis_plugin_api::{CallError, Session, import, skill_type};

use super::{AtEnd, is_unmapped, pipe, reload_set, status};
use crate::support::home::TestHome;
use crate::support::{Deadline, eventually, plugins};

const STORE: &str = include_str!("../fixtures/swap/store.rs");
const SHOP: &str = include_str!("../fixtures/swap/shop.rs");

#[skill_type]
#[derive(Debug)]
struct Item {
    version: u32,
    weight: u32,
}

#[skill_type]
#[derive(Debug)]
struct Sign {
    text: String,
}

import! {
    mod store {
        fn item() -> Item;
        fn count() -> u32;
    }
    mod shop {
        fn sign() -> Sign;
    }
}

/// Writes both plugins; version 1 and the others are not compatible.
fn write(home: &TestHome, version: u32) {
    for (name, source) in [("store", STORE), ("shop", SHOP)] {
        let source = if version == 1 {
            source.to_owned()
        } else {
            let count =
                "    // Version 1 alone.\n    pub fn count(&self) -> u32 {\n        1\n    }\n";
            source
                .replace("VERSION: u32 = 1", &format!("VERSION: u32 = {version}"))
                .replace("weight: u32", "weight: String")
                .replace("text: String", "text: Vec<String>")
                .replace(count, "")
        };
        plugins::core(home, name, &source);
    }
}

fn start(home: &TestHome) -> Host {
    write(home, 1);
    home.config("[core]\nstore = \"{sources}/store\"\nshop = \"{sources}/shop\"\n");
    let host = home.host();
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
    assert_eq!(pair(&host), (1, 1));
    assert_eq!(host.call("store.sign", ()), Ok("\"\"".to_owned()));
    host
}

fn pair(host: &Host) -> (u32, u32) {
    host.call("shop.pair", ()).expect("is served")
}

fn generations(host: &Host) -> (u64, u64) {
    (
        status(host, "store").generation,
        status(host, "shop").generation,
    )
}

/// Runs `body` while somebody looks all the time whether the two fit, and at both versions; returns
/// the versions that were seen, in their order.
fn watched(host: &Host, body: impl FnOnce()) -> Vec<u32> {
    let done = AtomicBool::new(false);
    let looks = [const { AtomicU64::new(0) }; 2];
    let look = |looks: &AtomicU64| {
        let mut seen = Vec::new();
        while !done.load(Ordering::SeqCst) {
            let (shop, store) = pair(host);
            assert_eq!(shop, store, "a mix of versions");
            if seen.last() != Some(&shop) {
                seen.push(shop);
            }
            looks.fetch_add(1, Ordering::SeqCst);
        }
        seen
    };
    let counts = || looks.each_ref().map(|looks| looks.load(Ordering::SeqCst));
    // By each: on a busy machine one of them may not have its turn for long.
    let more = || {
        let before = counts();
        eventually("more looks", || {
            let mut pairs = counts().into_iter().zip(before);
            pairs.all(|(now, before)| now > before + 10).then_some(())
        });
    };
    thread::scope(|scope| {
        let stop = AtEnd(|| done.store(true, Ordering::SeqCst));
        let looking = looks.each_ref().map(|looks| scope.spawn(|| look(looks)));
        more();
        body();
        more();
        drop(stop);
        let [one, other] = looking.map(|looking| looking.join().expect("no panic"));
        assert_eq!(one, other);
        one
    })
}

#[test]
fn a_set_is_switched_in_one_instant() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    session.scope(|| {
        assert_eq!(store::item().expect("is served").version, 1);
        assert_eq!(shop::sign().expect("is served").text, "");
    });
    write(&home, 2);
    let seen = watched(&host, || alone_is_refused(&host, &session));
    assert_eq!(seen, [1]);
    drop(session);
    // The core hears of its end a little later.
    home_has_no_session(&host);

    let gate = pipe(&home, "gate");
    let seen = watched(&host, || {
        thread::scope(|scope| {
            let held = scope.spawn(|| host.call("shop.hold", (&gate,)));
            let writer = File::create(&gate).expect("is read");
            let all = reload_set(&host, &["shop", "store"], true, false).expect("is swapped");
            let names: Vec<&str> = all.iter().map(|status| status.name.as_str()).collect();
            assert_eq!(names, ["shop", "store"]);
            assert!(all.iter().all(|status| status.state == State::Ready));
            assert_eq!(pair(&host), (2, 2));
            // The old version of one goes on with the old version of the other.
            drop(writer);
            let held: Result<(u32, u32, u32), _> = held.join().expect("no panic");
            assert_eq!(held, Ok((1, 1, 1)));
        });
    });
    assert_eq!(seen, [1, 2]);
    assert_eq!(host.call("store.sign", ()), Ok("[]".to_owned()));
    for name in ["store", "shop"] {
        let serving = status(&host, name).generation;
        for one in status(&host, name).generations {
            if one.number != serving {
                is_unmapped(&host, &home, name, one.number);
            }
        }
    }
    host.shutdown();
}

/// Waits until the core has taken leave of every session: then what they have been compiled for no
/// longer stands in the way.
fn home_has_no_session(host: &Host) {
    eventually("the end of the session", || {
        let refused = host
            .reload("store", true)
            .expect_err("`shop` is in the way");
        (!refused.to_string().contains("(session ")).then_some(())
    });
}

fn alone_is_refused(host: &Host, session: &Session) {
    let client = std::env::args().next().expect("has a name");
    let client = Path::new(&client)
        .file_name()
        .expect("is a file")
        .to_string_lossy();
    let before = generations(host);
    for (name, lines) in [
        (
            "store",
            [
                format!(
                    "store.item: result.weight: `u32` -> `String`; imported by shop, {client} \
                     (session 1)"
                ),
                "store.count: is not offered any more; imported by shop".to_owned(),
            ],
        ),
        (
            "shop",
            [
                format!(
                    "shop.sign: result.text: `String` -> `Vec<String>`; imported by store, {client} \
                     (session 1)"
                ),
                "`--force`".to_owned(),
            ],
        ),
    ] {
        if name == "store" {
            assert_eq!(host.call("shop.count", ()), Ok(1_u32));
        }
        let refused = host.reload(name, true).expect_err("is refused").to_string();
        for line in lines {
            assert!(refused.contains(&line), "{line} in {refused}");
        }
        assert_eq!(status(host, name).state, State::Ready);
        // Together they would leave only the session behind.
        let refused = reload_set(host, &["store", "shop"], true, false).expect_err("is refused");
        let refused = refused.to_string();
        assert!(
            refused.contains(&format!("imported by {client} (session 1)")),
            "{refused}"
        );
        assert!(!refused.contains("imported by sh"), "{refused}");
        assert!(!refused.contains("imported by st"), "{refused}");
    }
    assert_eq!(generations(host), before);
    session.scope(|| assert_eq!(store::item().expect("is served").version, 1));
}

#[test]
fn what_is_taken_by_force_is_a_typed_error() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let session = aigis_plugin_api::connect(home.path()).expect("the core runs");
    let difference = "result.weight: `u32` -> `String`";
    assert_eq!(host.call("shop.count", ()), Ok(1_u32));
    assert_eq!(session.scope(store::count), Ok(1));
    write(&home, 2);
    reload_set(&host, &["store"], true, true).expect("is forced");

    let differences: Vec<String> = host.call("shop.differences", ()).expect("is served");
    assert_eq!(differences, [difference]);
    let ways: [&dyn Fn() -> _; 2] = [&|| session.scope(store::item), &|| host.scope(store::item)];
    for way in ways {
        match way() {
            Err(CallError::Mismatch {
                skill, differences, ..
            }) => {
                assert_eq!(skill, "store.item");
                assert_eq!(differences, [difference]);
            }
            other => panic!("{other:?}"),
        }
    }
    let gone = session.scope(store::count).expect_err("is gone");
    assert!(
        matches!(&gone, CallError::NotFound { skill, .. } if skill == "store.count"),
        "{gone}"
    );
    let gone: Result<u32, _> = host.call("shop.count", ());
    let gone = gone.expect_err("is gone").to_string();
    assert!(gone.contains("no plugin offers `store.count`"), "{gone}");

    // Whoever has been compiled for it again, or gets it back, is served.
    host.reload("shop", true).expect("stands in nobody's way");
    assert_eq!(pair(&host), (2, 2));
    write(&home, 1);
    reload_set(&host, &["shop", "store"], true, false).expect("is swapped");
    assert_eq!(pair(&host), (1, 1));
    assert_eq!(session.scope(store::count), Ok(1));
    assert_eq!(session.scope(store::item).expect("is served").weight, 0);
    host.shutdown();
}

#[test]
fn what_fails_in_a_set_changes_none_of_it() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    let host = start(&home);
    let before = generations(&host);
    write(&home, 2);
    let path = home.source("shop").join("src/lib.rs");
    let good = fs::read_to_string(&path).expect("is there");
    let seen = watched(&host, || {
        fs::write(&path, good.replace("(VERSION,", "(\"two\",")).expect("writes");
        let refused = reload_set(&host, &["store", "shop"], true, false).expect_err("is no u32");
        assert!(
            refused.to_string().contains("expected `u32`, found `&str`"),
            "{refused}"
        );
        assert_eq!(generations(&host), before);

        fs::write(&path, &good).expect("writes");
        home.write("data/store/refuse", "");
        for names in [["store", "shop"], ["shop", "store"]] {
            let refused = reload_set(&host, &names, true, false).expect_err("does not start");
            let refused = refused.to_string();
            assert!(refused.contains("version 2 does not want to"), "{refused}");
            assert!(
                refused.contains("Could not load plugin store!"),
                "{refused}"
            );
            assert_eq!(generations(&host), before);
        }
    });
    assert_eq!(seen, [1]);
    for (name, generation) in [("store", before.0), ("shop", before.1)] {
        let status = status(&host, name);
        assert_eq!(status.state, State::Ready);
        for one in status.generations {
            if one.number != generation {
                is_unmapped(&host, &home, name, one.number);
            }
        }
    }
    assert_eq!(host.call("store.sign", ()), Ok("\"\"".to_owned()));

    fs::remove_file(home.path().join("data/store/refuse")).expect("is there");
    let seen = watched(&host, || {
        reload_set(&host, &["store", "shop"], false, false).expect("is swapped");
    });
    assert_eq!(seen, [1, 2]);
    host.shutdown();
}
