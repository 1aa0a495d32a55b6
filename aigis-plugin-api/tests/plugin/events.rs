//! Events and spans of `tracing` and `log` reach the host.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use aigis_plugin_api::{Value, skills};

use crate::FakeHost;
use crate::fake_host::Logged;
use crate::fake_host::spans::{enter_elsewhere, exit_elsewhere};

/// How often a [`Counted`] was formatted.
static FORMATTED: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it is formatted.
#[derive(Debug)]
struct Counted;

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FORMATTED.fetch_add(1, Ordering::SeqCst);
        f.write_str("counted")
    }
}

#[skills]
pub mod eventful {
    use super::*;

    pub fn traced(count: u64) {
        let outer = tracing::info_span!("outer", count, shared = "outer");
        let _outer = outer.enter();
        let inner = tracing::debug_span!("inner", late = tracing::field::Empty, shared = "inner");
        inner.record("late", 1.5);
        inner.in_scope(|| {
            tracing::warn!(target: "chosen", good = true, negative = -1, what = "text", debugged = ?Some(1), "traced: {count}");
        });
        tracing::info!("between the spans");
    }

    /// Writes what is kept and what is not, from the same places each time.
    pub fn filtered() {
        let span = tracing::trace_span!("filtered", at = %Counted);
        let _entered = span.enter();
        tracing::trace!(at = %Counted, "not kept by tracing: {Counted}");
        log::trace!("not kept by log: {Counted}");
        tracing::debug!(at = %Counted, "kept by tracing");
        log::debug!("kept by log: {Counted}");
    }

    pub fn logged(text: &str) {
        log::error!("logged: {text}");
        log::debug!(target: "chosen", "logged: in detail");
    }

    pub fn without_spans() {
        tracing::error!("no span around");
    }

    pub fn chosen_parents() {
        let first = tracing::info_span!("first");
        let second = tracing::info_span!(parent: &first, "second");
        let _second = second.enter();
        let third = tracing::info_span!(parent: None, "third");
        tracing::info!(parent: &third, "below the third");
        tracing::info!(parent: None, "below nothing");
        third.in_scope(|| tracing::info!("in the third"));
        tracing::info!("in the second");
    }

    /// Leaves in another order than it entered, and enters one twice.
    pub fn crossed() {
        let first = tracing::info_span!("crossed_first");
        let second = tracing::info_span!("crossed_second");
        let in_first = first.enter();
        let in_second = second.enter();
        drop(in_first);
        tracing::info!("crossed: only in the second");
        first.in_scope(|| first.in_scope(|| tracing::info!("crossed: twice in the first")));
        drop(in_second);
        tracing::info!("crossed: in none");
    }

    pub fn of_somebody_else() -> Vec<String> {
        let around = tracing::Span::current();
        let name = around.metadata().expect("there is one").name().to_owned();
        std::thread::spawn(move || around.in_scope(|| tracing::info!("carried to a thread")))
            .join()
            .expect("no panic");
        let own = tracing::info_span!("own");
        let _own = own.enter();
        tracing::info!("own below another");
        let current = tracing::Span::current();
        assert_eq!(current.id(), own.id());
        let own = current.metadata().expect("there is one").name().to_owned();
        vec![name, own]
    }

    pub fn with_a_logger(logger: &aigis_plugin_api::Logger) {
        tracing::info_span!("logging").in_scope(|| logger.info("by the logger"));
        tracing::info_span!("logging").in_scope(|| log::info!("by log"));
    }

    pub fn panics_in_a_span() {
        let span = tracing::info_span!("panicking");
        let _entered = span.enter();
        panic!("in a span");
    }

    pub fn of_a_thread() {
        let span = tracing::info_span!("around");
        let _around = span.enter();
        std::thread::spawn(|| tracing::info!("a thread has its own spans"))
            .join()
            .expect("no panic");
        let moved = tracing::info_span!("moved");
        std::thread::spawn(move || moved.in_scope(|| tracing::info!("a span was moved")))
            .join()
            .expect("no panic");
    }
}

/// Returns the one event with this message.
fn only(text: &str) -> Logged {
    let mut logged = FakeHost::shared().logged(text);
    assert_eq!(logged.len(), 1, "{logged:?}");
    logged.remove(0)
}

/// Returns the names of the spans around the one event with this message.
fn around(text: &str) -> String {
    let names: Vec<String> = only(text).spans.into_iter().map(|span| span.name).collect();
    names.join(":")
}

#[test]
fn tracing_events_keep_level_target_fields_and_spans() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.traced", (7,)), Ok(()));
    let event = only("traced: 7");
    assert_eq!((event.level, event.target.as_str()), (3, "chosen"));
    assert_eq!(event.message, "traced: 7");
    assert!(event.file.ends_with("tests/plugin/events.rs"), "{event:?}");
    assert!(event.line > 0);
    for (field, value) in [
        ("good", Value::from(true)),
        ("negative", Value::from(-1)),
        ("what", Value::from("text")),
        ("debugged", Value::from("Some(1)")),
    ] {
        assert_eq!(event.fields.get(field), Some(&value), "{field}: {event:?}");
    }
    let [outer, inner] = event.spans.as_slice() else {
        panic!("{event:?}");
    };
    assert_eq!((outer.name.as_str(), outer.level), ("outer", 2));
    assert!(outer.target.ends_with("events::eventful"), "{outer:?}");
    assert_eq!(outer.fields.get("count"), Some(&Value::from(7)));
    assert_eq!(outer.fields.get("shared"), Some(&Value::from("outer")));
    assert_eq!((inner.name.as_str(), inner.level), ("inner", 1));
    assert_eq!(inner.fields.get("late"), Some(&Value::from(1.5)));
    assert_eq!(inner.fields.get("shared"), Some(&Value::from("inner")));
    let between = only("between the spans");
    assert_eq!(between.level, 2);
    assert!(between.target.ends_with("events::eventful"));
    assert_eq!(around("between the spans"), "outer");
    assert_eq!(host.open_spans_named("outer"), 0, "each is closed");
    assert_eq!(host.open_spans_named("inner"), 0);
}

#[test]
fn what_the_host_does_not_keep_is_not_formatted() {
    let host = FakeHost::shared();
    for round in 1..=2 {
        assert_eq!(host.ask("eventful.filtered", ()), Ok(()));
        assert_eq!(FORMATTED.load(Ordering::SeqCst), 2 * round);
        assert_eq!(host.logged("kept by tracing").len(), round);
        assert_eq!(host.logged("kept by log").len(), round);
    }
    assert!(host.logged("not kept by").is_empty());
}

#[test]
fn log_events_keep_level_and_target() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.logged", ("gas",)), Ok(()));
    let gas = only("logged: gas");
    assert_eq!(gas.level, 4);
    assert!(gas.target.ends_with("events::eventful"));
    assert!(gas.file.ends_with("tests/plugin/events.rs"), "{gas:?}");
    let detail = only("logged: in detail");
    assert_eq!((detail.level, detail.target.as_str()), (1, "chosen"));
    assert_eq!(host.ask("eventful.with_a_logger", ()), Ok(()));
    assert_eq!(around("by the logger"), "logging");
    assert_eq!(around("by log"), "logging");
}

#[test]
fn an_event_without_spans_has_no_fields() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.without_spans", ()), Ok(()));
    let event = only("no span around");
    assert_eq!(event.level, 4);
    assert!(event.fields.is_nil() && event.spans.is_empty(), "{event:?}");
}

#[test]
fn threads_have_spans_of_their_own() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.of_a_thread", ()), Ok(()));
    assert_eq!(around("a thread has its own spans"), "");
    assert_eq!(around("a span was moved"), "around:moved");
}

#[test]
fn a_parent_can_be_chosen() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.chosen_parents", ()), Ok(()));
    assert_eq!(around("below the third"), "third");
    assert_eq!(around("below nothing"), "");
    assert_eq!(around("in the third"), "third");
    assert_eq!(around("in the second"), "first:second");
}

#[test]
fn spans_are_left_in_any_order() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.crossed", ()), Ok(()));
    assert_eq!(around("crossed: only in the second"), "crossed_second");
    assert_eq!(around("crossed: twice in the first"), "crossed_first");
    assert_eq!(around("crossed: in none"), "");
}

#[test]
fn spans_of_somebody_else_are_parents_and_can_be_carried() {
    let host = FakeHost::shared();
    let theirs = enter_elsewhere(host, "theirs");
    let names: Vec<String> = host.ask("eventful.of_somebody_else", ()).expect("answers");
    assert_eq!(names, ["elsewhere", "own"]);
    assert_eq!(around("own below another"), "theirs:own");
    assert_eq!(around("carried to a thread"), "theirs");
    assert!(exit_elsewhere(host, theirs).is_some(), "is still open");
}

#[test]
fn a_panic_leaves_its_spans() {
    let host = FakeHost::shared();
    host.ask::<()>("eventful.panics_in_a_span", ())
        .expect_err("panics");
    assert_eq!(host.open_spans_named("panicking"), 0);
    let panic = only("in a span");
    assert!(panic.message.contains("events.rs:"), "{panic:?}");
}
