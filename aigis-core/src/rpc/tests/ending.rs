//! How sessions end.

use super::*;

use aigis_plugin_api::CallError;

fn assert_gone(error: &CallError<impl std::fmt::Debug>, why: &str) {
    match error {
        CallError::CoreGone { message, .. } => assert!(message.contains(why), "{message}"),
        other => panic!("expected a core that is gone, found {other:?}"),
    }
}

#[test]
fn a_shutdown_says_goodbye() {
    let core = Core::start();
    let session = core.connect();
    let idle = core.connect();
    let caller = std::thread::spawn(move || session.call::<String>("t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    core.shut_down(Duration::ZERO);
    let error = caller.join().expect("no panic").expect_err("no answer");
    assert_gone(&error, "goodbye");
    core.wait_for_end();
    core.wait_for_end();
    // The session looks for the next core as long as the caller lets it. Whether the goodbye or the
    // closed connection is noticed first, before or after the call is sent, is chance.
    let error = idle
        .call_within::<()>("t.echo", (), Duration::from_millis(50))
        .expect_err("nobody is there");
    assert_gone(&error, "");
    assert!(!core.server().path().exists());
    let error = connect(&core.home).expect_err("nobody is there");
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
    // Asked again, it has nothing left to do.
    core.shut_down(Duration::ZERO);
}

#[test]
fn a_shutdown_lets_running_calls_be_answered() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    let server = core.server();
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| server.shutdown(PATIENCE));
        // The socket goes first.
        let begin = std::time::Instant::now();
        while server.path().exists() {
            assert!(begin.elapsed() < PATIENCE, "the socket is still there");
            std::thread::yield_now();
        }
        assert!(!ending.is_finished(), "it waits for the answer");
        core.service.open("a");
    });
    assert_eq!(raw.read_text(), (1, "a".to_owned()));
    assert_eq!(raw.read().expect("a goodbye").0.kind, Kind::Goodbye);
    assert!(raw.read().is_none());
}

#[test]
fn a_shutdown_does_not_wait_for_clients_that_left_or_do_not_read() {
    let core = Core::start();
    let mut gone = core.raw();
    gone.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    let mut lazy = core.raw();
    for number in 1..=10 {
        lazy.send(&call(number, 0, "t.big", (1_usize << 20,)));
    }
    // Neither one that has said nothing.
    let _stranger = core.stranger();
    gone.hang_up();
    core.wait_for_end();
    core.shut_down(Duration::from_millis(50));
    core.wait_for_end();
}

#[test]
fn a_dropped_server_ends_its_sessions() {
    let mut core = Core::start();
    let mut raw = core.raw();
    let elsewhere = core.home.join("run/other.sock");
    let service = Arc::clone(&core.service) as Arc<dyn Service>;
    let other =
        Server::bind(&core.reactor, &elsewhere, service, CORE_PID).expect("a second socket");
    let first = core.server.replace(other).expect("it is up");
    let path = first.path().to_owned();
    drop(first);
    assert_eq!(raw.read().expect("a goodbye").0.kind, Kind::Goodbye);
    assert!(raw.read().is_none());
    assert!(!path.exists());
}

#[test]
fn a_client_that_leaves_ends_its_session_at_once() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for(&Event::Started("a".to_owned()));
    raw.hang_up();
    core.wait_for_end();
    // What it called goes on, and nobody hears of the answer.
    core.assert_alive();
    core.service.open("a");
    core.wait_for(&Event::Finished("a".to_owned()));
    core.assert_alive();
}

#[test]
fn a_goodbye_ends_the_session() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&frame::frame(Kind::Goodbye, 0, 0, &[]).expect("a frame"));
    assert!(raw.read().is_none());
    core.wait_for_end();
}

#[test]
fn a_session_whose_connection_ended_as_it_began_ends_too() {
    let core = Core::start();
    let mut raw = core.stranger();
    raw.say_hello(&Hello {
        client: LINGERS.to_owned(),
        ..hello()
    });
    core.wait_for(&Event::Admitted(1));
    core.shut_down(Duration::ZERO);
    assert_eq!(raw.read().expect("a goodbye").0.kind, Kind::Goodbye);
    assert!(raw.read().is_none());
    core.service.open(LINGERS);
    core.wait_for(&Event::Ended(1));
}

#[test]
fn calls_that_outlive_their_sessions_do_not_keep_the_service() {
    let mut core = Core::start();
    let mut raw = core.raw();
    raw.send(&call(1, 0, "t.wait", ("a",)));
    core.wait_for_start("a");
    raw.hang_up();
    core.wait_for_end();
    assert_eq!(core.server().overdue().len(), 1);
    // Another one takes the service's place here: only the server and its sessions have the first.
    let mut other = Core::start();
    std::mem::swap(&mut core.service, &mut other.service);
    drop(core.server.take());
    other.service.open("a");
    core.wait_for(&Event::Finished("a".to_owned()));
    drop(other);
    // Nothing can be told any more when the service is gone.
    let error = core.events.recv_timeout(PATIENCE);
    assert_eq!(error, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn every_session_ends_once() {
    let core = Core::start();
    for _ in 0..20 {
        drop(core.connect());
    }
    let mut ended: Vec<u64> = Vec::new();
    while ended.len() < 20 {
        match core.events.recv_timeout(PATIENCE).expect("an event") {
            Event::Ended(id) => ended.push(id),
            Event::Admitted(_) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }
    core.shut_down(Duration::ZERO);
    assert!(core.events.try_recv().is_err());
    ended.sort_unstable();
    assert_eq!(ended, (1..=20).collect::<Vec<u64>>());
}

#[test]
fn sessions_that_ended_leave_nothing_behind() {
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/self/{what}"))
            .expect("the system tells")
            .count()
    };
    let core = Core::start();
    let cycle = || assert_eq!(echo(&core.connect(), "hello"), "hello");
    cycle();
    core.wait_for_end();
    let before = (count("fd"), count("task"));
    for _ in 0..1000 {
        cycle();
        core.wait_for_end();
    }
    let after = (count("fd"), count("task"));
    // The other tests of this process come and go meanwhile.
    assert!(after.0 < before.0 + 300, "{before:?} {after:?}");
    assert!(after.1 < before.1 + 300, "{before:?} {after:?}");
}
