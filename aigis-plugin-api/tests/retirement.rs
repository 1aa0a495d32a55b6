//! What is spawned is over before `cleanup` runs, and nothing new begins afterwards.

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the skills of a test are public for the test alone"
)]

mod fake_host;

use std::future::pending;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use aigis_plugin_api::{Context, JoinError, JoinHandle, skills};

use fake_host::FakeHost;

static EVENTS: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static HANDLE: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
static OPENS: Mutex<Option<Sender<()>>> = Mutex::new(None);
static BEGUN: OnceLock<Mutex<Receiver<()>>> = OnceLock::new();

fn note(event: &'static str) {
    EVENTS.lock().unwrap().push(event);
}

struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        note(self.0);
    }
}

pub struct Worker(Context);

#[skills]
impl Worker {
    fn new(ctx: &Context) -> Self {
        let own = ctx.clone();
        // Made here: the task may be cancelled before it was ever polled.
        let guard = Guard("a task is cancelled");
        let task = ctx.spawn(async move {
            let _guard = guard;
            loop {
                own.sleep(Duration::from_hours(1)).await;
            }
        });
        *HANDLE.lock().unwrap() = Some(task);
        Self(ctx.clone())
    }

    pub async fn block(&self) {
        let (begins, begun) = mpsc::channel();
        let (opens, opened) = mpsc::channel();
        BEGUN.set(Mutex::new(begun)).expect("once");
        *OPENS.lock().unwrap() = Some(opens);
        drop(self.0.spawn_blocking(move || {
            begins.send(()).expect("is awaited");
            opened.recv().expect("is opened");
            note("blocking work is over");
        }));
    }

    pub fn cleanup(self) {
        note("cleanup");
        drop(self.0.spawn(async {
            note("never");
            pending::<()>().await;
        }));
        let late = self.0.spawn_blocking(|| note("never"));
        assert!(late.is_finished());
        note("cleaned up");
    }
}

#[test]
fn tasks_are_cancelled_and_blocking_work_is_waited_for() {
    let host = FakeHost::new();
    host.open(None).expect("opens");
    assert_eq!(host.tasks.count(), 1, "the task of `new` runs");
    host.ask::<()>("worker.block", ()).expect("begins");
    let begun = BEGUN.get().expect("is set").lock().unwrap();
    begun.recv_timeout(Duration::from_secs(60)).expect("begins");

    let closing = std::thread::spawn(|| host.close());
    let task = HANDLE.lock().unwrap().take().expect("a task");
    while !task.is_finished() {
        std::thread::yield_now();
    }
    assert!(
        !EVENTS.lock().unwrap().contains(&"cleanup"),
        "the work blocks"
    );
    let opens = OPENS.lock().unwrap().take().expect("is set");
    opens.send(()).expect("is awaited");
    closing.join().expect("no panic").expect("closes");

    assert_eq!(
        *EVENTS.lock().unwrap(),
        [
            "a task is cancelled",
            "blocking work is over",
            "cleanup",
            "cleaned up"
        ]
    );
    assert_eq!(host.tasks.count(), 0);
    assert_eq!(
        host.tasks.timers(),
        0,
        "a sleep that is dropped is forgotten"
    );
    assert_eq!(block_on(task), Err(JoinError::Cancelled));
}

fn block_on<T>(future: JoinHandle<T>) -> Result<T, JoinError> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => panic!("the task is over"),
    }
}
