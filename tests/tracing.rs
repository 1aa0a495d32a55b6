//! `tracing` and `log`: what plugins write reaches logs and the subscriber of the program around the
//! core, with the spans of whoever called.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use aigis_core::logging::Level;
use aigis_core::{Host, State};
use aigis_plugin_api::import;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::support::home::TestHome;
use crate::support::plugins::{self, CORE, cargo_toml};
use crate::support::{DEADLINE, eventually};

const ASKER: &str = include_str!("fixtures/tracing/asker.rs");
const ANSWERER: &str = include_str!("fixtures/tracing/answerer.rs");

import! {
    mod answerer {
        fn answer(what: &str) -> String;
    }
}

fn write_plugins(home: &TestHome) {
    let library = "tracing = { version = \"0.1\", default-features = false, features = [\"std\"] }\n\
                   log = \"0.4\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n";
    for (name, source) in [("asker", ASKER), ("answerer", ANSWERER)] {
        let files = [
            ("Cargo.toml", &*cargo_toml(name, library)),
            ("AIGIS/AIGIS.config", CORE),
            ("src/lib.rs", source),
        ];
        plugins::write(home, name, &files);
    }
    home.config("[core]\nanswerer = \"{sources}/answerer\"\nasker = \"{sources}/asker\"\n");
}

fn ready(host: &Host) {
    for status in host.status() {
        assert_eq!(status.state, State::Ready, "{status:?}");
    }
}

/// Returns the end of the one record of a plugin's log with `text`, from there.
fn only(home: &TestHome, plugin: &str, text: &str) -> String {
    let log = home.plugin_log(plugin);
    let mut found = log
        .lines()
        .filter_map(|line| Some(&line[line.find(text)?..]));
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no `{text}` in:\n{log}"));
    assert_eq!(found.next(), None, "{log}");
    first.to_owned()
}

#[test]
fn a_callers_spans_are_around_what_it_calls() {
    let home = TestHome::new();
    write_plugins(&home);
    let host = home.host();
    ready(&host);
    for way in ["ask", "ask_by_name", "ask_started"] {
        let answer: String = host.call(&format!("asker.{way}"), (way,)).expect("answers");
        assert_eq!(answer, way.to_uppercase());
        // Its own fields, then those of the spans from the inside; an inner value hides an outer one.
        assert_eq!(
            only(&home, "answerer", &format!("chosen: answering {way} ")),
            format!(
                "chosen: answering {way} number=7 shared=inner late=5 what={way} \
                 span=asker/asks:answers"
            )
        );
        assert_eq!(
            only(&home, "answerer", &format!("by_log: answered {way} ")),
            format!(
                "by_log: answered {way} shared=inner late=5 what={way} span=asker/asks:answers"
            )
        );
    }
    assert_eq!(
        only(&home, "asker", "asking ask"),
        "asking ask what=ask shared=outer span=asks"
    );
    // Nothing is left behind on this thread.
    host.call::<()>("answerer.plain", ()).expect("is run");
    assert_eq!(only(&home, "answerer", "plain in"), "plain in version 1");

    // What the core says about a call has the spans around it, too.
    host.call::<()>("asker.refresh", ()).expect("is reloaded");
    let line = home.wait_for_core_log("reloaded answerer");
    assert!(
        line.ends_with("reloaded answerer span=asker/refreshes"),
        "{line}"
    );
    host.shutdown();
}

#[test]
fn what_is_below_the_threshold_is_not_formatted() {
    let home = TestHome::new();
    write_plugins(&home);
    let host = home.host();
    for _ in 0..2 {
        assert_eq!(host.call("asker.formatted", ()), Ok(2_u32));
    }
    host.shutdown();
    let log = home.plugin_log("asker");
    assert!(!log.contains("below: "), "{log}");
    assert_eq!(log.matches("above: counted").count(), 4, "{log}");
    assert!(!log.contains("span=counting"), "{log}");

    let host = home.builder().log_level(Level::Debug).start();
    let host = host.expect("starts");
    host.settled(Some(DEADLINE));
    assert_eq!(host.call("asker.formatted", ()), Ok(6_u32));
    host.shutdown();
    let log = home.plugin_log("asker");
    assert_eq!(log.matches("below: counted").count(), 2, "{log}");
    assert_eq!(log.matches("at=counted span=counting").count(), 4, "{log}");
}

#[test]
fn a_program_around_the_core_sees_the_same_tree_and_is_part_of_it() {
    let home = TestHome::new();
    write_plugins(&home);
    let host = home.host();
    ready(&host);
    let tree = Tree::default();
    with_default(tree.clone(), || {
        let embedding = tracing::info_span!("embedding");
        embedding.in_scope(|| {
            for way in ["ask", "ask_by_name", "ask_started"] {
                let _: String = host.call(&format!("asker.{way}"), (way,)).expect("answers");
            }
            host.call::<()>("answerer.plain", ()).expect("is run");
            let mut started = host.scope(|| answerer::start::answer("embedder"));
            assert_eq!(started.wait(DEADLINE), Ok("EMBEDDER".to_owned()));
            tracing::error!("by the program itself");
        });
    });
    for way in ["ask", "ask_by_name", "ask_started"] {
        // A plugin sees the program's span as the parent of its own,
        let line = only(&home, "answerer", &format!("chosen: answering {way} "));
        assert!(
            line.ends_with(" span=embedding:asker/asks:answers"),
            "{line}"
        );
        // and the program sees the plugins' below its own.
        let event = tree.only(&format!("answering {way}"));
        assert_eq!(event.level, tracing::Level::WARN);
        assert_eq!(event.path, "embedding:asks:answers");
        for (field, value) in [
            ("plugin", "answerer"),
            ("target", "chosen"),
            ("fields", "number=7"),
        ] {
            assert_eq!(
                event.fields.get(field).map(String::as_str),
                Some(value),
                "{event:?}"
            );
        }
        assert!(event.fields["file"].ends_with("src/lib.rs"), "{event:?}");
        assert!(event.fields["line"].parse::<u32>().is_ok(), "{event:?}");
        let event = tree.only(&format!("answered {way}"));
        assert_eq!(event.level, tracing::Level::ERROR);
        assert_eq!(
            (&*event.fields["target"], &*event.path),
            ("by_log", "embedding:asks:answers")
        );
    }
    assert_eq!(tree.only("plain in version 1").path, "embedding");
    let started = tree.only("answering embedder");
    assert_eq!(started.path, "embedding:answers");
    assert_eq!(tree.only("by the program itself").path, "embedding");
    let spans = tree.spans("answers");
    assert_eq!(spans.len(), 4);
    for span in spans {
        assert!(!span.open, "{span:?}");
        assert_eq!(span.fields["plugin"], "answerer");
        assert_eq!(span.fields["fields"], "shared=inner late=5");
    }
    assert!(
        tree.spans("asks")
            .iter()
            .all(|span| !span.open && span.fields["plugin"] == "asker")
    );
    host.shutdown();
}

#[test]
fn a_reload_ends_the_spans_of_the_old_version() {
    let home = TestHome::new();
    write_plugins(&home);
    let host = home.host();
    ready(&host);
    let pipe = home.path().join("pipe");
    let made = Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let tree = Tree::default();
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            with_default(tree.clone(), || {
                // A span that is never left does not stay around what comes after the call.
                host.call::<()>("answerer.leak", ()).expect("is run");
                host.call::<()>("answerer.plain", ()).expect("is run");
                host.call::<u32>("answerer.hold", (&pipe,))
            })
        });
        // Opens once the skill reads, in its span.
        let mut writer = File::create(&pipe).expect("is read");
        assert_eq!(only(&home, "answerer", "leaking"), "leaking span=leaked");
        assert_eq!(only(&home, "answerer", "plain in"), "plain in version 1");
        let next = ANSWERER.replace("VERSION: u32 = 1", "VERSION: u32 = 2");
        std::fs::write(home.source("answerer").join("src/lib.rs"), next).expect("is written");
        let status = host.reload("answerer", true).expect("is swapped");
        assert_eq!(status.state, State::Ready);
        // The new version is in none of the old one's spans.
        host.call::<()>("answerer.plain", ()).expect("is run");
        assert_eq!(
            only(&home, "answerer", "plain in version 2"),
            "plain in version 2"
        );
        assert!(tree.spans("holds")[0].open);
        assert!(
            tree.spans("leaked")[0].open,
            "as long as the old version is there"
        );
        writer.write_all(b"it").expect("is read");
        drop(writer);
        assert_eq!(held.join().expect("no panic"), Ok(1));
    });
    assert_eq!(
        only(&home, "answerer", "read: it"),
        "read: it version=1 span=holds"
    );
    assert_eq!(tree.only("read: it").path, "holds");
    assert!(!tree.spans("holds")[0].open);
    // What it has leaked goes with it.
    eventually("the end of the leaked span", || {
        (!tree.spans("leaked")[0].open).then_some(())
    });
    host.shutdown();
}

/// A subscriber that remembers what it is told.
#[derive(Clone, Default)]
struct Tree(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// The number of a span is its place here and one.
    spans: Vec<Seen>,
    entered: HashMap<ThreadId, Vec<u64>>,
    events: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    metadata: &'static Metadata<'static>,
    level: tracing::Level,
    fields: HashMap<String, String>,
    parent: u64,
    /// The names of the spans around it, the outermost first.
    path: String,
    handles: usize,
    open: bool,
}

impl Told {
    fn current(&self) -> u64 {
        let entered = self.entered.get(&thread::current().id());
        entered.and_then(|all| all.last().copied()).unwrap_or(0)
    }

    fn span(&mut self, id: &Id) -> &mut Seen {
        let place = usize::try_from(id.into_u64()).expect("is small") - 1;
        let span = &mut self.spans[place];
        assert!(span.open, "{span:?} is used after its end");
        span
    }

    fn see(
        &self,
        metadata: &'static Metadata<'static>,
        parent: Option<&Id>,
        is_root: bool,
    ) -> Seen {
        let parent = match parent {
            Some(parent) => parent.into_u64(),
            None if is_root => 0,
            None => self.current(),
        };
        let mut names = Vec::new();
        let mut next = parent;
        while next > 0 {
            let span = &self.spans[usize::try_from(next).expect("is small") - 1];
            names.insert(0, span.name());
            next = span.parent;
        }
        Seen {
            metadata,
            level: *metadata.level(),
            fields: HashMap::new(),
            parent,
            path: names.join(":"),
            handles: 1,
            open: true,
        }
    }
}

impl Seen {
    fn name(&self) -> String {
        let own = self.metadata.name().to_owned();
        self.fields.get("span_name").cloned().unwrap_or(own)
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields
            .insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields
            .insert(field.name().to_owned(), value.to_owned());
    }
}

impl Tree {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("no panic while held")
    }

    /// Returns the one event with this message.
    fn only(&self, message: &str) -> Seen {
        let told = self.lock();
        let mut found = told
            .events
            .iter()
            .filter(|event| event.fields["message"] == message);
        let first = found
            .next()
            .unwrap_or_else(|| panic!("no `{message}`: {:#?}", told.events));
        assert!(found.next().is_none(), "{message} twice");
        first.clone()
    }

    fn spans(&self, name: &str) -> Vec<Seen> {
        let told = self.lock();
        told.spans
            .iter()
            .filter(|span| span.name() == name)
            .cloned()
            .collect()
    }
}

impl Subscriber for Tree {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Its own, and those of no other test.
        ["aigis", module_path!()].contains(&metadata.target())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut told = self.lock();
        let mut span = told.see(
            attributes.metadata(),
            attributes.parent(),
            attributes.is_root(),
        );
        attributes.record(&mut span);
        told.spans.push(span);
        Id::from_u64(told.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(self.lock().span(span));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = self.lock();
        let mut seen = told.see(event.metadata(), event.parent(), event.is_root());
        event.record(&mut seen);
        told.events.push(seen);
    }

    fn enter(&self, span: &Id) {
        let mut told = self.lock();
        told.span(span);
        let entered = told.entered.entry(thread::current().id()).or_default();
        entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut told = self.lock();
        let entered = told.entered.entry(thread::current().id()).or_default();
        let place = entered.iter().rposition(|id| *id == span.into_u64());
        entered.remove(place.expect("was entered on this thread"));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.lock().span(span).handles += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut told = self.lock();
        let span = told.span(&span);
        span.handles -= 1;
        span.open = span.handles > 0;
        !span.open
    }

    fn current_span(&self) -> Current {
        let mut told = self.lock();
        match told.current() {
            0 => Current::none(),
            id => {
                let id = Id::from_u64(id);
                let metadata = told.span(&id).metadata;
                Current::new(id, metadata)
            }
        }
    }
}
