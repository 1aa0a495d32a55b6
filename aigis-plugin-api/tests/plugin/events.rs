//! Events of `tracing` and `log` reach the host.

use aigis_plugin_api::{Value, skills};

use crate::FakeHost;

#[skills]
pub mod eventful {
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

    pub fn not_kept() {
        tracing::trace!("not kept by tracing");
        log::trace!("not kept by log");
    }

    pub fn logged(text: &str) {
        log::error!("logged: {text}");
        log::debug!(target: "chosen", "logged: in detail");
    }

    pub fn without_spans() {
        tracing::error!("no span around");
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

#[test]
fn tracing_events_keep_level_target_fields_and_spans() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.traced", (7,)), Ok(()));
    let logged = host.logged("traced: 7");
    assert_eq!(logged.len(), 1, "{logged:?}");
    let event = &logged[0];
    assert_eq!((event.level, event.target.as_str()), (3, "chosen"));
    assert_eq!(event.message, "traced: 7");
    for (field, value) in [
        ("good", Value::from(true)),
        ("negative", Value::from(-1)),
        ("what", Value::from("text")),
        ("debugged", Value::from("Some(1)")),
        ("count", Value::from(7)),
        ("late", Value::from(1.5)),
        ("shared", Value::from("inner")),
        ("span", Value::from("outer:inner")),
    ] {
        assert_eq!(event.fields.get(field), Some(&value), "{field}: {event:?}");
    }
    let between = &host.logged("between the spans")[0];
    assert_eq!(between.level, 2);
    assert!(
        between.target.ends_with("events::eventful"),
        "{}",
        between.target
    );
    assert_eq!(between.fields.get("span"), Some(&Value::from("outer")));
    assert_eq!(between.fields.get("shared"), Some(&Value::from("outer")));
}

#[test]
fn events_that_the_host_does_not_keep_are_not_sent() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.not_kept", ()), Ok(()));
    assert!(host.logged("not kept by").is_empty());
}

#[test]
fn log_events_keep_level_and_target() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.logged", ("gas",)), Ok(()));
    let gas = &host.logged("logged: gas")[0];
    assert_eq!(gas.level, 4);
    assert!(gas.target.ends_with("events::eventful"));
    let detail = &host.logged("logged: in detail")[0];
    assert_eq!((detail.level, detail.target.as_str()), (1, "chosen"));
}

#[test]
fn an_event_without_spans_has_no_fields() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.without_spans", ()), Ok(()));
    let event = &host.logged("no span around")[0];
    assert_eq!(event.level, 4);
    assert!(event.fields.is_nil(), "{event:?}");
}

#[test]
fn threads_have_spans_of_their_own() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("eventful.of_a_thread", ()), Ok(()));
    assert!(host.logged("a thread has its own spans")[0].fields.is_nil());
    let moved = &host.logged("a span was moved")[0];
    assert_eq!(moved.fields.get("span"), Some(&Value::from("around:moved")));
}
