//! Deadlines, cancellation, limits, and clients that do not read.

use super::*;

use std::time::Instant;

/// Waits for a moment that the core waits for as well.
fn pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() <= time {
        std::thread::yield_now();
    }
}

#[test]
fn a_call_whose_time_is_over_in_the_queue_does_not_run() {
    let core = Core::with_threads(1);
    let mut raw = core.raw();
    // What comes at once is read at once, and only then run.
    let mut batch = call(1, 0, "t.wait", ("a",));
    batch.extend(call(2, 1, "t.wait", ("late",)));
    batch.extend(import(0, "read", signature("mark")));
    raw.send(&batch);
    core.wait_for(&Event::Imported("read".to_owned()));
    core.wait_for_start("a");
    pass(Duration::from_millis(1));
    core.service.open("a");
    assert_eq!(raw.read_text().0, 1);
    let failure = raw.read_failure(2);
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert_eq!(failure.skill, "t.wait");
    core.wait_for(&Event::Finished("a".to_owned()));
    assert!(core.events.try_recv().is_err(), "it did not start");
}

#[test]
fn at_its_deadline_a_call_is_answered_and_what_comes_later_is_dropped() {
    let core = Core::with_threads(1);
    let mut raw = core.raw();
    // Long enough for the call to begin in time on a busy machine.
    raw.send(&call(1, 300, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    // Its thread is still in it.
    assert_eq!(raw.read_failure(1).kind, FailureKind::TimedOut);
    core.service.open("a");
    raw.send(&call(2, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 2);
    // The number is free again.
    raw.send(&call(1, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 1);
}

#[test]
fn a_cancelled_call_is_not_answered_and_does_not_begin() {
    let core = Core::with_threads(2);
    let mut raw = core.raw();
    // One of them runs when it is cancelled, one waits.
    raw.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    let mut batch = call(2, 0, "t.wait", ("never",));
    batch.extend(cancel(2));
    batch.extend(cancel(1));
    // Nobody has ever heard of this one.
    batch.extend(cancel(77));
    batch.extend(call(3, 0, "t.left", ()));
    raw.send(&batch);
    assert_eq!(raw.read_text().0, 3);
    core.service.open("a");
    raw.send(&call(4, 0, "t.left", ()));
    assert_eq!(raw.read_text().0, 4);
    core.wait_for(&Event::Finished("a".to_owned()));
    assert!(core.events.try_recv().is_err(), "it did not start");
}

#[test]
fn calls_that_wait_take_no_thread_and_are_ended_when_they_are_given_up() {
    let core = Core::with_threads(1);
    let mut raw = core.raw();
    for number in 1..=3 {
        let key = format!("call {number}");
        raw.send(&call(number, 0, "t.later", (&key,)));
        core.wait_for(&Event::Started(key));
    }
    raw.send(&cancel(2));
    core.wait_for(&Event::GivenUp(1, "call 2".to_owned()));
    core.service.end("call 3");
    assert_eq!(raw.read_text(), (3, "call 3".to_owned()));
    drop(raw);
    core.wait_for(&Event::GivenUp(1, "call 1".to_owned()));
    // Too late: nobody hears of it, and nothing is left of it.
    core.service.end("call 2");
    core.service.end("call 1");
}

#[test]
fn the_client_gives_up_in_time() {
    let core = Core::start();
    let session = core.connect();
    let error = session
        .call_within::<String>("t.wait", ("a",), Duration::from_millis(20))
        .expect_err("nobody opens");
    assert!(
        matches!(error, aigis_plugin_api::CallError::TimedOut { .. }),
        "{error:?}"
    );
    assert_eq!(echo(&session, "alive"), "alive");
}

#[test]
fn a_session_with_too_many_calls_is_not_read_any_further() {
    let core = Core::within(Limits {
        calls_of_session: 2,
        ..Limits::default()
    });
    let mut raw = core.raw();
    // However they come, at once or one after the other.
    let mut batch = Vec::new();
    for key in ["a", "b", "c"] {
        let number = u64::from(key.as_bytes()[0]);
        batch.extend(call(number, 0, "t.wait", (key,)));
    }
    batch.extend(import(0, "behind", signature("mark")));
    raw.send(&batch);
    let mut started: Vec<Event> = (0..2)
        .map(|_| core.events.recv_timeout(PATIENCE).expect("two start"))
        .collect();
    started.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(
        started,
        [Event::Started("a".into()), Event::Started("b".into())]
    );
    core.assert_alive();
    core.wait_for_end();
    assert!(core.events.try_recv().is_err(), "the third is not read");
    core.service.open("a");
    core.wait_for(&Event::Finished("a".to_owned()));
    let mut then: Vec<Event> = (0..2)
        .map(|_| core.events.recv_timeout(PATIENCE).expect("it is read on"))
        .collect();
    then.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(
        then,
        [Event::Imported("behind".into()), Event::Started("c".into())]
    );
}

#[test]
fn a_client_that_leaves_while_it_is_not_read_is_noticed() {
    let core = Core::within(Limits {
        calls_of_session: 1,
        ..Limits::default()
    });
    let mut raw = core.raw();
    raw.send(&call(1, 0, "t.wait", ("a",)));
    raw.send(&call(2, 0, "t.wait", ("b",)));
    core.wait_for(&Event::Started("a".to_owned()));
    raw.hang_up();
    core.wait_for_end();
}

/// Nobody takes the last place alone.
#[test]
fn more_calls_than_the_core_takes_are_refused() {
    let core = Core::within(Limits {
        calls_in_all: 4,
        ..Limits::default()
    });
    let mut raw = core.raw();
    for number in 1..=3 {
        raw.send(&call(number, 0, "t.wait", ("a",)));
    }
    let failure = raw.read_failure(3);
    assert_eq!(failure.kind, FailureKind::Overloaded);
    let mut second = core.raw();
    second.send(&call(1, 0, "t.wait", ("a",)));
    second.send(&call(2, 0, "t.wait", ("a",)));
    assert_eq!(second.read_failure(2).kind, FailureKind::Overloaded);
    let mut third = core.raw();
    third.send(&call(1, 0, "t.wait", ("a",)));
    third.settle(&core, "read");
    let mut other = core.raw();
    other.send(&call(1, 0, "t.left", ()));
    assert_eq!(other.read_failure(1).kind, FailureKind::Overloaded);
    core.service.open("a");
    raw.read_text();
    raw.read_text();
    // An answer is sent a moment before its place is free.
    loop {
        other.send(&call(2, 0, "t.left", ()));
        let (header, _) = other.read().expect("an answer");
        if header.kind == Kind::Reply {
            break;
        }
    }
}

#[test]
fn a_client_that_does_not_read_delays_only_itself() {
    const BIG: usize = 1 << 20;
    let core = Core::within(Limits {
        bytes_of_session: 2 * BIG,
        calls_of_session: 1,
        ..Limits::default()
    });
    let mut lazy = core.raw();
    for number in 1..=50 {
        lazy.send(&call(number, 0, "t.big", (BIG,)));
    }
    lazy.send(&import(0, "behind", signature("mark")));
    let other = core.connect();
    for _ in 0..50 {
        assert_eq!(echo(&other, "quick"), "quick");
    }
    // It reads after all, and misses nothing.
    let answered: HashSet<u64> = (0..50)
        .map(|_| {
            let (header, body) = lazy.read().expect("an answer");
            assert_eq!((header.kind, body.len()), (Kind::Reply, BIG));
            header.call
        })
        .collect();
    assert_eq!(answered.len(), 50);
    core.wait_for(&Event::Imported("behind".to_owned()));
}

#[test]
fn a_client_that_never_reads_is_closed() {
    let core = Core::within(Limits {
        bytes_of_session: 1 << 20,
        calls_of_session: 1,
        stall: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut lazy = core.raw();
    for number in 1..=50 {
        lazy.send(&call(number, 0, "t.big", (1_usize << 20,)));
    }
    let mut started = 0;
    loop {
        match core.events.recv_timeout(PATIENCE).expect("an event") {
            Event::Started(_) => started += 1,
            Event::Ended(_) => break,
            other => panic!("nobody asked for {other:?}"),
        }
    }
    // One that is made, one that waits, and what the system takes.
    assert!(started < 6, "{started} answers were made that nobody reads");
    core.assert_alive();
}

#[test]
fn waiting_arguments_have_a_limit() {
    let core = Core::within(Limits {
        bytes_of_session: 1000,
        ..Limits::default()
    });
    let mut raw = core.raw();
    let key = "k".repeat(1000);
    raw.send(&call(1, 0, "t.wait", (&key,)));
    core.wait_for(&Event::Started(key.clone()));
    raw.send(&call(2, 0, "t.wait", ("b",)));
    raw.send(&import(0, "behind", signature("mark")));
    core.assert_alive();
    core.wait_for_end();
    assert!(core.events.try_recv().is_err(), "the second is not read");
    core.service.open(&key);
    core.wait_for(&Event::Finished(key));
    core.wait_for(&Event::Imported("behind".to_owned()));
}
