//! Spans: which a thread is in, and what a record shows of them.

use std::sync::Arc;
use std::thread;

use aigis_plugin_api::Value;

use crate::logging::Level;
use crate::logging::spans::{
    Around, Boundary, Carried, Fields, Opening, Owner, Span, current, enter, entered, exit,
};

fn open(owner: &Arc<Owner>, name: &str, fields: &[(&str, i64)]) -> Arc<Span> {
    open_in(owner, &Around::Current, name, fields)
}

fn open_in(owner: &Arc<Owner>, around: &Around, name: &str, fields: &[(&str, i64)]) -> Arc<Span> {
    let opening = Opening {
        level: Level::Info,
        target: "tests",
        name,
        fields: fields_of(fields),
        mark: 1,
    };
    Span::open(owner, around, opening)
}

fn fields_of(fields: &[(&str, i64)]) -> Fields {
    let all = fields.iter();
    all.map(|(key, value)| (Value::from(*key), Value::from(*value)))
        .collect()
}

/// Returns the names of what this thread is in, as the log of `a` shows them.
fn names() -> String {
    current().map_or_else(String::new, |span| span.names(Some("a")))
}

#[test]
fn a_span_shows_whose_it_is_and_all_fields_around() {
    let (a, b) = (Owner::new("a"), Owner::new("b"));
    let outer = open(&a, "outer", &[("x", 1), ("y", 1)]);
    enter(Arc::clone(&outer));
    let inner = open(&b, "inner", &[("y", 2)]);
    inner.record(fields_of(&[("z", 3), ("y", 4)]));
    assert_eq!(inner.names(Some("a")), "outer:b/inner");
    assert_eq!(inner.names(Some("b")), "a/outer:inner");
    assert_eq!(inner.names(None), "a/outer:b/inner");
    let mut all = fields_of(&[("x", 0)]);
    inner.add_fields(&mut all);
    assert_eq!(all, fields_of(&[("x", 0), ("z", 3), ("y", 4)]));
    assert_eq!((inner.mark_of(&b), inner.mark_of(&a)), (Some(1), None));
    let chosen = open_in(&a, &Around::Chosen(inner), "chosen", &[]);
    assert_eq!(chosen.names(Some("a")), "outer:b/inner:chosen");
    let alone = open_in(&a, &Around::Nothing, "alone", &[]);
    assert_eq!(alone.names(Some("a")), "alone");
    exit(outer.id());
    assert_eq!(names(), "");
}

#[test]
fn spans_are_left_in_any_order_and_entered_more_than_once() {
    let a = Owner::new("a");
    let (first, second) = (open(&a, "first", &[]), open(&a, "second", &[]));
    enter(Arc::clone(&first));
    enter(Arc::clone(&second));
    enter(Arc::clone(&first));
    exit(second.id());
    assert_eq!(names(), "first");
    exit(first.id());
    assert_eq!(names(), "first");
    exit(first.id());
    assert_eq!(names(), "");
    // Once too often.
    exit(first.id());
    assert!(entered(first.id()).is_none());
}

#[test]
fn what_a_call_leaves_entered_ends_with_it_and_with_its_owner() {
    let (a, b) = (Owner::new("a"), Owner::new("b"));
    let own = open(&a, "own", &[]);
    enter(Arc::clone(&own));
    {
        let _boundary = Boundary::here();
        enter(open(&b, "left", &[]));
        assert_eq!(names(), "own:b/left");
    }
    assert_eq!(names(), "own");
    enter(open(&b, "left again", &[]));
    enter(open(&b, "and again", &[]));
    b.end();
    assert_eq!(names(), "own");
    exit(own.id());
    assert_eq!(names(), "");
}

#[test]
fn another_thread_goes_on_in_the_same_span() {
    let a = Owner::new("a");
    let span = open(&a, "carried", &[]);
    enter(Arc::clone(&span));
    let carried = Carried::here();
    exit(span.id());
    drop(span);
    let (inside, after) = thread::spawn(move || (carried.run(names), names()))
        .join()
        .expect("no panic");
    assert_eq!((&*inside, &*after), ("carried", ""));
}

#[test]
fn spans_that_are_many_deep_end_on_a_small_stack() {
    let a = Owner::new("a");
    let ended = thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let mut innermost = open_in(&a, &Around::Nothing, "0", &[]);
        for _ in 0..100_000 {
            innermost = open_in(&a, &Around::Chosen(innermost), "below", &[]);
        }
        let watched = Arc::downgrade(&innermost);
        drop(innermost);
        watched.upgrade().is_none()
    });
    assert!(ended.expect("starts").join().expect("no panic"));
}
