//! A core goes and the next one comes: what becomes of sessions, of their imports and of their calls.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;

use aigis_plugin_api::CallError;

use super::*;

aigis_plugin_api::import! {
    mod t {
        fn count(key: String) -> String;
        fn again(key: String) -> String;
        fn later(key: String) -> String;
    }
}

impl Core {
    fn go_down(&mut self) {
        self.server = None;
    }

    fn come_back(&mut self) {
        self.come_up(Limits::default());
    }
}

/// A call that was on its way, or came too late for the old core: who makes it again knows that it may.
fn insist<T, E: std::fmt::Debug>(mut call: impl FnMut() -> Result<T, CallError<E>>) -> T {
    let begin = std::time::Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(CallError::CoreGone { .. }) => assert!(begin.elapsed() < PATIENCE, "no core comes"),
            Err(other) => panic!("expected an answer, found {other:?}"),
        }
    }
}

fn assert_unknown(outcome: Result<String, CallError<impl std::fmt::Debug>>) {
    match outcome {
        Err(CallError::CoreGone { message, .. }) => {
            assert!(message.contains("ran is unknown"), "{message}");
        }
        other => panic!("expected a core that is gone, found {other:?}"),
    }
}

#[test]
fn the_same_session_and_imports_work_with_the_next_core() {
    let mut core = Core::start();
    let session = core.connect();
    session.scope(|| {
        for round in 0..5 {
            let key = format!("round {round}");
            assert_eq!(insist(|| t::again(key.clone())), key);
            assert_eq!(echo_insistently(&session, &key), key);
            core.go_down();
            core.come_back();
        }
        core.wait_for(&Event::Imported("t.again".to_owned()));
        assert_eq!(insist(|| t::count("last".to_owned())), "last");
    });
    assert_eq!(core.service.runs("last"), 1);
}

fn echo_insistently(session: &Session, text: &str) -> String {
    let (text,): (String,) = insist(|| session.call("t.echo", (text,)));
    text
}

#[test]
fn calls_made_meanwhile_wait_for_the_next_core() {
    let mut core = Core::start();
    let session = core.connect();
    session.scope(|| assert_eq!(t::count("before".to_owned()).expect("answers"), "before"));
    core.go_down();
    // Once it is noticed, nothing is sent to nobody any more.
    let noticed = loop {
        let short = Duration::from_millis(1);
        match session.call_within::<(String,)>("t.echo", ("a",), short) {
            Err(CallError::CoreGone { message, .. }) if message.contains("was not called") => {
                break message;
            }
            Err(_) => {}
            Ok(_) => panic!("nobody is there"),
        }
    };
    // Which of the two is noticed first is chance.
    let reasons = ["it said goodbye", "it closed the connection"];
    assert!(
        reasons.iter().any(|reason| noticed.contains(reason)),
        "{noticed}"
    );
    let (begins, begun) = mpsc::channel();
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (session, begins) = (session.clone(), begins.clone());
            thread::spawn(move || {
                let key = format!("meanwhile {caller}");
                begins.send(()).expect("is heard");
                if caller % 2 == 0 {
                    session
                        .scope(|| t::count(key))
                        .expect("the next core answers")
                } else {
                    let called = session.call("t.count", (key,));
                    called.expect("the next core answers")
                }
            })
        })
        .collect();
    for _ in 0..4 {
        begun.recv_timeout(PATIENCE).expect("a caller begins");
    }
    core.come_back();
    for (number, caller) in callers.into_iter().enumerate() {
        let key = format!("meanwhile {number}");
        assert_eq!(caller.join().expect("no panic"), key);
        assert_eq!(core.service.runs(&key), 1);
    }
}

#[test]
fn a_call_that_was_running_is_not_made_again() {
    let mut core = Core::start();
    let session = core.connect();
    // A skill that is idempotent is known to be so through an import.
    let by_name = ["t.count", "t.again"].map(|name| {
        let session = session.clone();
        thread::spawn(move || {
            let key = format!("wait {name}");
            assert_unknown(session.call::<String>(name, (key,)));
        })
    });
    let session_too = session.clone();
    let imported = thread::spawn(move || {
        assert_unknown(session_too.scope(|| t::count("wait imported".to_owned())));
    });
    let (tell, told) = mpsc::channel();
    let started = session.scope(|| t::start::count("wait started".to_owned()));
    started.on_done(move |outcome| tell.send(outcome.is_err()).expect("is heard"));
    let keys = [
        "wait t.count",
        "wait t.again",
        "wait imported",
        "wait started",
    ];
    let mut begun = 0;
    while begun < keys.len() {
        if let Event::Started(_) = core.events.recv_timeout(PATIENCE).expect("they start") {
            begun += 1;
        }
    }
    core.go_down();
    core.come_back();
    for caller in by_name {
        caller.join().expect("no panic");
    }
    imported.join().expect("no panic");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    let mut started = started;
    assert_unknown(started.wait(Duration::ZERO));
    keys.iter().for_each(|key| core.service.open(key));
    assert_eq!(echo_insistently(&session, "after"), "after");
    for key in keys {
        assert_eq!(core.service.runs(key), 1, "{key}");
    }
}

#[test]
fn a_call_that_may_run_twice_is_made_again_by_itself() {
    let mut core = Core::start();
    let session = core.connect();
    let callers = [0, 1, 2].map(|caller| {
        let session = session.clone();
        thread::spawn(move || session.scope(|| t::again(format!("wait {caller}"))))
    });
    for _ in &callers {
        // Each waits in its skill, and has been told what serves it before.
        while !matches!(core.events.recv_timeout(PATIENCE), Ok(Event::Started(_))) {}
    }
    core.go_down();
    core.come_back();
    for (number, caller) in callers.into_iter().enumerate() {
        let key = format!("wait {number}");
        let answer = caller.join().expect("no panic");
        assert_eq!(answer.expect("the second time it answers"), key);
        assert_eq!(core.service.runs(&key), 2, "{key}");
    }
}

/// What a session sends to a core that says nothing by itself.
struct Scripted {
    listener: UnixListener,
}

impl Scripted {
    fn at(home: &Path) -> Self {
        std::fs::create_dir_all(home.join("run")).expect("a home");
        let _ = std::fs::remove_file(home.join("run/core.sock"));
        let listener = UnixListener::bind(home.join("run/core.sock")).expect("a socket");
        Self { listener }
    }

    fn accept(&self) -> Raw {
        let (stream, _) = self.listener.accept().expect("a client comes");
        let mut raw = Raw::new(stream);
        let (header, body) = raw.read().expect("a hello");
        assert_eq!(header.kind, Kind::Hello);
        let hello: Hello = frame::decode_body(&body).expect("a hello");
        assert_eq!(hello.protocol, PROTOCOL);
        let welcome = Welcome {
            protocol: PROTOCOL,
            features: Vec::new(),
            session: 1,
            core_pid: CORE_PID,
        };
        let welcome = frame::encode_frame(Kind::Welcome, 0, 0, &welcome);
        let written = raw.stream.write_all(&welcome.expect("a frame"));
        written.expect("the client reads");
        raw
    }
}

/// Reads an import and a call of it; returns the number of the call.
fn read_imported_call(raw: &mut Raw, name: &str) -> u64 {
    let (header, body) = raw.read().expect("an import");
    assert_eq!(header.kind, Kind::Import);
    let import: Import = frame::decode_body(&body).expect("an import");
    assert_eq!(import.name, name);
    let number = u32::try_from(header.call).expect("a number");
    let (header, body) = raw.read().expect("a call");
    assert_eq!(header.kind, Kind::Call);
    let call = Call::read(&body).expect("a call");
    assert_eq!(call.target, Target::Import(number));
    header.call
}

fn reply(raw: &mut Raw, number: u64, text: &str) {
    let frame = frame::encode_frame(Kind::Reply, number, 0, &text).expect("a frame");
    raw.send(&frame);
}

/// A core that is killed says nothing; the next one is told of all imports before any call of them.
#[test]
fn a_core_that_falls_silent_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = Scripted::at(folder.path());
    let (tell, told) = mpsc::channel();
    let home = folder.path().to_owned();
    let client = thread::spawn(move || {
        let session = connect(&home).expect("the core lets us in");
        session.scope(|| {
            tell.send(t::count("a".to_owned())).expect("is heard");
            tell.send(t::count("b".to_owned())).expect("is heard");
            tell.send(t::count("c".to_owned())).expect("is heard");
        });
    });
    let mut raw = core.accept();
    let number = read_imported_call(&mut raw, "t.count");
    reply(&mut raw, number, "first");
    let first = told.recv_timeout(PATIENCE).expect("an outcome");
    assert_eq!(first.expect("an answer"), "first");
    let (header, _) = raw.read().expect("the second call");
    assert_eq!(header.kind, Kind::Call);
    drop(raw);
    let second = told.recv_timeout(PATIENCE).expect("an outcome");
    assert_unknown(second);
    let mut raw = core.accept();
    let number = read_imported_call(&mut raw, "t.count");
    reply(&mut raw, number, "third");
    let third = told.recv_timeout(PATIENCE).expect("an outcome");
    assert_eq!(third.expect("an answer"), "third");
    client.join().expect("no panic");
}

/// A call that was started at the last core is another one than any at the next, whatever its number.
#[test]
fn giving_up_a_call_of_the_last_core_gives_up_none_of_the_next() {
    let mut core = Core::start();
    let session = core.connect();
    for _ in 0..10 {
        assert_eq!(echo(&session, "counts"), "counts");
    }
    let lost = session.scope(|| t::start::later("lost".to_owned()));
    core.wait_for_start("lost");
    let (begins, begun) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    // It is not over for its caller before this returns.
    lost.on_done(move |_| {
        begins.send(()).expect("is heard");
        goes.recv_timeout(PATIENCE).expect("is let go");
    });
    core.go_down();
    core.come_back();
    begun.recv_timeout(PATIENCE).expect("it has failed");
    assert_eq!(echo_insistently(&session, "back"), "back");
    let next: Vec<_> = (0..20)
        .map(|number| {
            let key = format!("next {number}");
            let started = session.scope(|| t::start::later(key.clone()));
            core.wait_for_start(&key);
            (key, started)
        })
        .collect();
    lost.cancel();
    go.send(()).expect("it waits");
    for (key, mut started) in next {
        core.service.end(&key);
        assert_eq!(started.wait(PATIENCE).expect("it goes on"), key);
    }
}
