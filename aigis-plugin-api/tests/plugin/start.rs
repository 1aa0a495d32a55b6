//! Started calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use aigis_plugin_api::{Call, CallError};

use crate::FakeHost;

const LONG: Duration = Duration::from_secs(60);

/// What `gated.pass` waits for, by its number.
static GATES: Mutex<Vec<(u8, Receiver<()>)>> = Mutex::new(Vec::new());

fn gate(number: u8) -> Sender<()> {
    let (sender, receiver) = mpsc::channel();
    GATES.lock().unwrap().push((number, receiver));
    sender
}

mod offered {
    #[aigis_plugin_api::skills]
    pub mod gated {
        pub fn double(number: u8) -> Result<u8, String> {
            number.checked_mul(2).ok_or_else(|| "too large".to_owned())
        }

        pub fn text(text: &str) -> String {
            text.to_uppercase()
        }

        /// Waits until its gate is opened.
        pub fn pass(number: u8) -> u8 {
            let mut gates = super::super::GATES.lock().unwrap();
            let place = gates.iter().position(|(gate, _)| *gate == number);
            let (_, gate) = gates.swap_remove(place.expect("a gate"));
            drop(gates);
            gate.recv().expect("is opened");
            number
        }

        pub fn panics() -> u8 {
            panic!("a started call panics")
        }

        pub const NUMBER: u8 = 5;
    }
}

aigis_plugin_api::import! {
    mod gated {
        fn double(number: u8) -> Result<u8, String>;
        fn text(text: &str) -> String;
        fn pass(number: u8) -> u8;
        fn panics() -> u8;
        fn absent();
        const NUMBER: u8;
    }
}

fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        match Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_started_call_is_waited_for() {
    FakeHost::shared();
    assert_eq!(gated::start::double(4).wait(LONG), Ok(8));
    assert_eq!(
        gated::start::double(200).wait(LONG),
        Err(CallError::Skill("too large".to_owned()))
    );
    assert_eq!(gated::start::NUMBER().wait(LONG), Ok(5));
    // What was lent is not needed any more once the call is started.
    let mut call = {
        let text = "lent".to_owned();
        gated::start::text(&text)
    };
    assert_eq!(call.wait(LONG), Ok("LENT".to_owned()));
}

#[test]
fn a_timeout_leaves_the_call_running() {
    FakeHost::shared();
    let open = gate(1);
    let mut call = gated::start::pass(1);
    let error = call.wait(Duration::from_millis(1)).expect_err("is waiting");
    assert_eq!(
        error,
        CallError::TimedOut {
            skill: "gated.pass".to_owned(),
            after: Duration::from_millis(1)
        }
    );
    assert!(!call.is_done());
    open.send(()).expect("is waiting");
    assert_eq!(call.wait(LONG), Ok(1));
}

#[test]
fn results_are_passed_on() {
    FakeHost::shared();
    let mut call: Call<String, String> = gated::start::double(4)
        .then(|n| Ok(n + 1))
        .then(|n| Ok(n.to_string()));
    assert_eq!(call.wait(LONG), Ok("9".to_owned()));
    let mut failing = gated::start::double(200).then(|_| Ok(()));
    assert!(matches!(failing.wait(LONG), Err(CallError::Skill(_))));
}

#[test]
fn callbacks_see_the_outcome() {
    FakeHost::shared();
    let open = gate(2);
    let (sender, receiver) = mpsc::channel();
    let call = gated::start::pass(2);
    call.on_done(move |outcome| sender.send(outcome.clone()).expect("is received"));
    open.send(()).expect("is waiting");
    assert_eq!(receiver.recv_timeout(LONG), Ok(Ok(2)));
}

#[test]
fn a_call_can_be_awaited() {
    FakeHost::shared();
    assert_eq!(block_on(gated::start::double(21)), Ok(42));
    let both = Box::pin(async {
        let (a, b) = (gated::start::double(1), gated::start::text("b"));
        (a.await, b.await)
    });
    assert_eq!(block_on(both), (Ok(2), Ok("B".to_owned())));
}

#[test]
fn a_cancelled_call_ends_at_once() {
    FakeHost::shared();
    let open = gate(3);
    let mut call = gated::start::pass(3);
    call.cancel();
    assert_eq!(
        call.wait(LONG),
        Err(CallError::Cancelled {
            skill: "gated.pass".to_owned()
        })
    );
    call.cancel();
    // The skill goes on; its result is thrown away.
    open.send(()).expect("is still waiting");
    FakeHost::shared().wait_until_idle();
}

#[test]
fn failures_reach_a_started_call() {
    let host = FakeHost::shared();
    assert!(matches!(
        gated::start::panics().wait(LONG),
        Err(CallError::Panicked { .. })
    ));
    assert!(matches!(
        gated::start::absent().wait(LONG),
        Err(CallError::NotFound { .. })
    ));
    assert_eq!(host.logged("a started call panics").len(), 1);
}

#[test]
fn a_callback_that_panics_is_logged_and_harms_nobody() {
    let host = FakeHost::shared();
    let open = gate(4);
    let call = gated::start::pass(4);
    call.on_done(|_| panic!("a callback panics"));
    open.send(()).expect("is waiting");
    host.wait_until_idle();
    assert_eq!(host.logged("a callback panics").len(), 1);
    assert_eq!(gated::start::double(1).wait(LONG), Ok(2));
}

#[test]
fn a_callback_cannot_wait() {
    FakeHost::shared();
    let open = gate(5);
    let (sender, receiver) = mpsc::channel();
    let call = gated::start::pass(5);
    call.on_done(move |_| {
        let _kept_closed = gate(6);
        let waited = gated::start::pass(6).wait(LONG);
        sender.send(waited).expect("is received");
    });
    open.send(()).expect("is waiting");
    assert_eq!(
        receiver.recv_timeout(LONG),
        Ok(Err(CallError::WouldBlock {
            skill: "gated.pass".to_owned()
        }))
    );
}
