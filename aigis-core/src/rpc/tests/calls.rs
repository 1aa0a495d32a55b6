//! Calls, their answers and their failures.

use std::io::Write;

use super::*;

use aigis_plugin_api::CallError;

#[test]
fn answers_come_in_the_order_in_which_the_skills_end() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    raw.send(&call(2, 0, "t.wait", ("b",)));
    core.wait_for(&Event::Started("b".to_owned()));
    raw.send(&call(3, 0, "t.left", ()));
    assert_eq!(raw.read_text(), (3, "no limit".to_owned()));
    core.service.open("b");
    assert_eq!(raw.read_text(), (2, "b".to_owned()));
    core.service.open("a");
    assert_eq!(raw.read_text(), (1, "a".to_owned()));
}

#[test]
fn threads_share_one_session() {
    let core = Core::start();
    let session = core.connect();
    assert_eq!(session.core_pid(), CORE_PID);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let session = session.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    let text = format!("{thread}.{number}");
                    assert_eq!(echo(&session, &text), text);
                }
            });
        }
    });
}

#[test]
fn many_pipelined_calls_are_all_answered() {
    let core = Core::start();
    let mut raw = core.raw();
    let mut writer = raw.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        let frames: Vec<u8> = (1..=5000)
            .flat_map(|number| call(number, 0, "t.left", ()))
            .collect();
        writer.write_all(&frames).expect("the core reads");
    });
    let answered: HashSet<u64> = (0..5000).map(|_| raw.read_text().0).collect();
    assert_eq!(answered.len(), 5000);
    sender.join().expect("all was sent");
}

#[test]
fn a_slow_skill_delays_no_other_session() {
    let core = Core::start();
    let mut slow = core.raw();
    for number in 1..=100 {
        slow.send(&call(number, 0, "t.wait", ("slow",)));
    }
    for _ in 1..=100 {
        core.wait_for(&Event::Started("slow".to_owned()));
    }
    let quick = core.connect();
    for _ in 0..10 {
        assert_eq!(echo(&quick, "quick"), "quick");
    }
    core.service.open("slow");
    for _ in 1..=100 {
        assert_eq!(slow.read_text().1, "slow");
    }
}

#[test]
fn every_failure_arrives_as_it_was() {
    let core = Core::start();
    let mut raw = core.raw();
    for (number, kind) in (1..).zip(FailureKind::ALL) {
        raw.send(&call(number, 0, "t.fail", (kind,)));
        assert_eq!(raw.read_failure(number), failure(kind));
    }
    let error = core
        .connect()
        .call::<()>("t.fail", (FailureKind::Skill,))
        .expect_err("it fails");
    assert!(matches!(error, CallError::Skill(error) if error.type_name == "t::Error"));
}

#[test]
fn a_panic_is_an_internal_failure() {
    let core = Core::start();
    let session = core.connect();
    for _ in 0..20 {
        let error = session.call::<()>("t.panic", ()).expect_err("it panics");
        let CallError::Other(failure) = error else {
            panic!("expected an internal failure, found {error:?}");
        };
        assert_eq!(failure.kind, FailureKind::Internal);
        assert!(failure.message.contains("the service fell over"));
    }
    assert_eq!(echo(&session, "alive"), "alive");
}

#[test]
fn a_call_carries_what_was_imported() {
    let core = Core::start();
    let mut raw = core.raw();
    let signature = signature("name");
    raw.send(&import(7, "t.expects", signature.clone()));
    // Announced again, it is neither an error nor news.
    raw.send(&import(7, "t.expects", signature.clone()));
    raw.send(&call_of(1, 0, Target::Import(7), ()));
    assert_eq!(raw.read_text(), (1, signature.to_string()));
    raw.send(&call(2, 0, "t.expects", ()));
    assert_eq!(raw.read_text(), (2, "nothing".to_owned()));
    assert_eq!(raw.served.len(), 1, "told once");
    core.wait_for(&Event::Imported("t.expects".to_owned()));
    assert!(core.events.try_recv().is_err(), "announced once");
}

#[test]
fn the_time_that_is_left_travels() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&call(1, 3_600_000, "t.left", ()));
    assert_eq!(raw.read_text(), (1, "true".to_owned()));
}

#[test]
fn large_arguments_and_results_travel() {
    let core = Core::start();
    let session = core.connect();
    let text = "x".repeat(20 << 20);
    assert_eq!(echo(&session, &text), text);
}
