//! Many threads and started calls on one session, and what they make of the one who reads.

use std::sync::mpsc;
use std::thread;

use aigis_plugin_api::CallError;

use super::*;

aigis_plugin_api::import! {
    mod t {
        fn echo(text: String) -> (String,);
        fn wait(key: String) -> String;
        fn later(key: String) -> String;
    }
}

/// Calls back to back from so many threads, and checks every answer.
fn hammer(sessions: &[Session], threads: usize, calls: usize) {
    thread::scope(|scope| {
        for thread in 0..threads {
            let session = &sessions[thread % sessions.len()];
            scope.spawn(move || {
                for number in 0..calls {
                    // Some of them too long for the ring's way of a short one.
                    let len = if number % 97 == 0 { 5_000 } else { number % 50 };
                    let text = format!("{thread}.{number}.{}", "x".repeat(len));
                    if number % 2 == 0 {
                        assert_eq!(echo(session, &text), text);
                    } else {
                        let answer = session.scope(|| t::echo(text.clone()));
                        assert_eq!(answer.expect("an echo").0, text);
                    }
                }
            });
        }
    });
}

#[test]
fn eight_threads_call_back_to_back() {
    let core = Core::start();
    hammer(&[core.connect()], 8, 1000);
}

#[test]
fn one_thread_calls_back_to_back() {
    let core = Core::start();
    hammer(&[core.connect()], 1, 5000);
}

#[test]
fn a_slow_skill_among_quick_ones_holds_nobody_up() {
    let core = Core::start();
    let session = core.connect();
    let sessions = [session.clone()];
    // So that the ring is there.
    hammer(&sessions, 2, 500);
    let slow = [0, 1, 2].map(|number| {
        let session = session.clone();
        thread::spawn(move || session.scope(|| t::wait(format!("slow {number}"))))
    });
    for _ in &slow {
        while !matches!(core.events.recv_timeout(PATIENCE), Ok(Event::Started(_))) {}
    }
    hammer(&sessions, 8, 400);
    for (number, slow) in slow.into_iter().enumerate() {
        assert!(!slow.is_finished());
        let key = format!("slow {number}");
        core.service.open(&key);
        let answer = slow.join().expect("no panic");
        assert_eq!(answer.expect("it is answered"), key);
        hammer(&sessions, 2, 100);
    }
}

#[test]
fn threads_call_three_cores_at_once() {
    let cores = [Core::start(), Core::start(), Core::start()];
    let sessions = cores.each_ref().map(Core::connect);
    hammer(&sessions, 9, 500);
}

#[test]
fn many_sessions_of_one_core_at_once() {
    let core = Core::start();
    let sessions: Vec<_> = (0..12).map(|_| core.connect()).collect();
    hammer(&sessions, 12, 300);
}

#[test]
fn started_calls_are_answered_while_other_threads_wait() {
    let core = Core::start();
    let session = core.connect();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // The first of them reads the socket, for everybody.
        let waiting = ["a", "b"].map(|key| {
            let session = &session;
            let caller = scope.spawn(move || session.scope(|| t::wait(key.to_owned())));
            core.wait_for_start(key);
            caller
        });
        for number in 0..300 {
            let tell = tell.clone();
            let text = format!("started {number}");
            let started = session.scope(|| t::start::echo(text.clone()));
            started.on_done(move |outcome| {
                let answered = matches!(outcome, Ok((answer,)) if *answer == text);
                tell.send(answered).expect("is heard");
            });
            if number % 10 == 0 {
                assert_eq!(echo(&session, "between"), "between");
            }
        }
        for _ in 0..300 {
            assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
        }
        for (key, caller) in ["a", "b"].into_iter().zip(waiting) {
            core.service.open(key);
            let answer = caller.join().expect("no panic");
            assert_eq!(answer.expect("it is answered"), key);
        }
    });
}

/// It may start calls, and may not wait for one: it runs where others are answered.
#[test]
fn a_callback_makes_calls() {
    let core = Core::start();
    let session = core.connect();
    let (tell, told) = mpsc::channel();
    let of_callback = session.clone();
    let first = session.scope(|| t::start::later("first".to_owned()));
    core.wait_for_start("first");
    first.on_done(move |_| {
        let waited = of_callback.scope(|| t::echo("waits".to_owned()));
        let tell_too = tell.clone();
        let second = of_callback.scope(|| t::start::echo("second".to_owned()));
        second.on_done(move |outcome| {
            let answer = outcome.as_ref().map(|(text,)| text.clone());
            tell_too.send(answer.unwrap_or_default()).expect("is heard");
        });
        let refused = matches!(waited, Err(CallError::WouldBlock { .. }));
        tell.send(format!("refused: {refused}")).expect("is heard");
    });
    core.service.end("first");
    let mut heard = [0, 1].map(|_| told.recv_timeout(PATIENCE).expect("both are heard"));
    heard.sort();
    assert_eq!(heard, ["refused: true", "second"]);
    assert_eq!(echo(&session, "alive"), "alive");
}

#[test]
fn who_reads_gives_up_in_time_and_another_goes_on_reading() {
    let core = Core::start();
    let session = core.connect();
    for round in 0..10 {
        let key = format!("round {round}");
        thread::scope(|scope| {
            let given_up = {
                let session = &session;
                scope.spawn(move || {
                    let short = Duration::from_millis(60);
                    session.call_within::<String>("t.wait", ("never",), short)
                })
            };
            core.wait_for_start("never");
            let waiting = {
                let (session, key) = (&session, key.clone());
                scope.spawn(move || session.call::<String>("t.wait", (key,)))
            };
            core.wait_for_start(&key);
            let outcome = given_up.join().expect("no panic");
            assert!(
                matches!(outcome, Err(CallError::TimedOut { .. })),
                "{outcome:?}"
            );
            core.service.open(&key);
            let answer = waiting.join().expect("no panic");
            assert_eq!(answer.expect("it is answered"), key);
        });
        assert_eq!(echo(&session, "after"), "after");
    }
}

#[test]
fn a_started_call_is_cancelled() {
    let core = Core::start();
    let session = core.connect();
    session.scope(|| {
        // One that waits at the core is ended there, one that blocks is not waited for.
        let mut later = t::start::later("later".to_owned());
        core.wait_for_start("later");
        let mut blocks = t::start::wait("blocks".to_owned());
        core.wait_for_start("blocks");
        for call in [&mut later, &mut blocks] {
            call.cancel();
            let outcome = call.wait(PATIENCE);
            assert!(
                matches!(outcome, Err(CallError::Cancelled { .. })),
                "{outcome:?}"
            );
            // It is over.
            call.cancel();
        }
        core.wait_for(&Event::GivenUp(1, "later".to_owned()));
        core.service.open("blocks");
        core.wait_for(&Event::Finished("blocks".to_owned()));
        assert_eq!(echo(&session, "alive"), "alive");
        core.service.end("later");
    });
}

/// More on its way in both directions than either side lets wait: nobody stops reading for ever.
#[test]
fn far_more_is_started_than_may_wait() {
    let core = Core::within(Limits {
        bytes_of_session: 1 << 20,
        ..Limits::default()
    });
    let session = core.connect();
    let text = "x".repeat(400 << 10);
    let started: Vec<_> = session.scope(|| {
        let all = 0..400;
        all.map(|_| t::start::echo(text.clone())).collect()
    });
    for mut call in started {
        let (answer,) = call.wait(PATIENCE).expect("it is answered");
        assert!(answer == text);
    }
}
