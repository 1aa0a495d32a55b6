use std::sync::mpsc::{Receiver, channel};

use aigis_plugin_api::__private::{BoxItems, begun, single};

use super::*;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process whose session goes on, and that is not called in these tests.
struct Idle;

impl Callee for Idle {
    fn is_there(&self) -> bool {
        true
    }

    fn call(&self, _: &str, _: &[u8], _: Option<Duration>) -> Result<Vec<u8>, Failure> {
        Ok(Vec::new())
    }

    fn start(&self, _: &str, _: &[u8], _: Option<Duration>, _: Done) -> Arc<dyn Underway> {
        struct Over;
        impl Underway for Over {
            fn give_up(&self) {}
        }
        Arc::new(Over)
    }

    fn open(&self, _: &str, _: &[u8], _: Vec<BoxItems>, _: Option<Duration>) -> BoxItems {
        begun(single(Vec::new()))
    }
}

/// A library without skills, whose process is still to say something.
fn isolated() -> Arc<Isolated> {
    let plugin: PluginName = "mill".parse().expect("a name");
    Arc::new(Isolated {
        instances: Instances::new(&plugin),
        plugin,
        number: 1,
        description: Description {
            skills: Vec::new(),
            cleanup: false,
            save: false,
            restore: false,
        },
        servings: Box::default(),
        life: Arc::new(Life::new(1, 0)),
        drain: DRAIN_TIMEOUT,
        exchange: Mutex::new(Exchange {
            stage: Stage::Coming,
            grant: None,
            report: None,
            reports: 0,
            waiting: None,
            order: None,
            offered: false,
            ended: None,
            now: Condition::of(State::Starting, None),
        }),
        changed: Condvar::new(),
        process: Mutex::default(),
        held: Mutex::default(),
        inner: Weak::new(),
    })
}

type Heard = Receiver<Result<Vec<u8>, Failure>>;

/// Has the process report; returns what it is told, and its call if that waits.
fn report(isolated: &Arc<Isolated>) -> (Heard, Option<Arc<dyn Underway>>) {
    let (sender, heard) = channel();
    let report = codec::to_vec(&Report::Serving).expect("can be encoded");
    let done = Box::new(move |order| sender.send(order).expect("the test listens"));
    (heard, isolated.reported(&report, done))
}

fn told(heard: &Heard) -> Order {
    let order = heard.recv_timeout(PATIENCE).expect("an order");
    codec::from_slice(&order.expect("no failure")).expect("can be decoded")
}

#[test]
fn a_report_that_was_answered_does_not_give_up_the_next() {
    let isolated = isolated();
    let (first, waits) = report(&isolated);
    let of_first = waits.expect("there is no order yet");
    isolated.order(Order::Save { limit_ms: 1 });
    assert!(matches!(told(&first), Order::Save { .. }));
    let (second, waits) = report(&isolated);
    let of_second = waits.expect("there is no order yet");
    // It hears only now that the first call is over.
    of_first.give_up();
    isolated.order(Order::End);
    assert!(matches!(told(&second), Order::End));
    of_second.give_up();
    // Its own it gives up, and the next report hears what was not heard.
    let (third, waits) = report(&isolated);
    waits.expect("there is no order yet").give_up();
    assert!(third.recv_timeout(PATIENCE).is_err());
    isolated.order(Order::End);
    let (fourth, waits) = report(&isolated);
    assert!(waits.is_none() && matches!(told(&fourth), Order::End));
}

#[test]
fn what_a_process_offers_that_has_ended_is_refused() {
    let isolated = isolated();
    let session = Arc::new(SessionInfo {
        id: 3,
        client: "mill".to_owned(),
        plugin: Some("mill".to_owned()),
        pid: 7,
    });
    let idle: Arc<dyn Callee> = Arc::new(Idle);
    let offer = Offer { skills: Vec::new() };
    let offered = || {
        let (sender, answered) = channel();
        let answer = Box::new(move |outcome| sender.send(outcome).expect("the test listens"));
        let taken = isolated.offered(&session, &offer, &idle, answer);
        (taken, answered.recv_timeout(PATIENCE).expect("an answer"))
    };
    // Its session may be told to have ended a little later than its process.
    assert!(!isolated.has_ended(&Exit::Signal(9)));
    let (taken, answer) = offered();
    let failure = answer.expect_err("it has ended");
    assert!(!taken && failure.message.contains("has ended"), "{failure}");
    assert!(!isolated.instances.is_served());
    assert_eq!(isolated.lock().stage, Stage::Coming);
    // The next launch is another matter.
    isolated.lock().ended = None;
    assert_eq!(offered(), (true, Ok(())));
    assert!(isolated.instances.is_served());
}
