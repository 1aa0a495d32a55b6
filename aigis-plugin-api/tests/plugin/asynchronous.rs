//! Async skills: made by the library, polled and dropped by the host.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context as Polling, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use aigis_plugin_api::__private::FailureKind;
use aigis_plugin_api::abi::{Buffer, Status, TaskPoll};
use aigis_plugin_api::codec;
use aigis_plugin_api::{CallError, Context, JoinError, Logger, Value, skills};

use crate::FakeHost;
use crate::fake_host::Poller;

const LONG: Duration = Duration::from_secs(60);

/// Is ready when somebody opens it, from any thread.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Polling<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What the skills wait at, by its name; whoever asks first makes it.
static GATES: Mutex<Vec<(String, Gate)>> = Mutex::new(Vec::new());

fn gate(name: &str) -> Gate {
    let mut gates = GATES.lock().unwrap();
    if let Some((_, gate)) = gates.iter().find(|(known, _)| known == name) {
        return gate.clone();
    }
    let gate = Gate::default();
    gates.push((name.to_owned(), gate.clone()));
    gate
}

/// Tells when it is dropped.
struct Guard(Option<Sender<()>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(()).expect("is received");
        }
    }
}

static GUARDS: Mutex<Vec<(u8, Sender<()>)>> = Mutex::new(Vec::new());

fn guarded(number: u8) -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    GUARDS.lock().unwrap().push((number, sender));
    receiver
}

fn guard(number: u8) -> Guard {
    let mut guards = GUARDS.lock().unwrap();
    let place = guards.iter().position(|(guard, _)| *guard == number);
    Guard(place.map(|place| guards.swap_remove(place).1))
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a drop panics");
    }
}

pub struct Teahouse {
    served: AtomicUsize,
}

#[skills]
impl Teahouse {
    fn new() -> Self {
        Self {
            served: AtomicUsize::new(0),
        }
    }

    /// Borrows the state and its arguments over a wait.
    pub async fn serve(&self, guest: &str, cups: &[u8], again: Option<u8>) -> String {
        self.served.fetch_add(1, Ordering::SeqCst);
        gate(guest).await;
        format!(
            "{guest}: {cups:?}, {again:?}, {}",
            self.served.load(Ordering::SeqCst)
        )
    }
}

#[skills]
pub mod slow {
    use super::*;

    pub async fn at_once(number: u8) -> u8 {
        number + 1
    }

    pub async fn fails(limit: u8) -> Result<u8, String> {
        gate("fails").await;
        Err(format!("more than {limit}"))
    }

    pub async fn who(ctx: &Context, logger: &Logger) -> String {
        logger.info("an async skill logs");
        gate("who").await;
        ctx.plugin().to_owned()
    }

    pub async fn for_ever(number: u8) {
        let _guard = guard(number);
        pending::<()>().await;
    }

    pub async fn panics() {
        gate("panics").await;
        panic!("in a poll")
    }

    pub async fn panics_in_drop(number: u8) {
        let _guard = guard(number);
        let _panics = PanicsWhenDropped;
        pending::<()>().await;
    }

    pub async fn sleeps(ctx: &Context, milliseconds: u64) -> u64 {
        ctx.sleep(Duration::from_millis(milliseconds)).await;
        milliseconds
    }

    /// `None` when the time was over.
    pub async fn in_time(ctx: &Context, milliseconds: u64) -> Option<u8> {
        let opened = async {
            gate("in_time").await;
            7
        };
        ctx.timeout(Duration::from_millis(milliseconds), opened)
            .await
            .ok()
    }

    pub async fn spawns(ctx: &Context) -> Result<u32, JoinError> {
        let left = ctx.spawn(async {
            gate("spawns").await;
            20
        });
        let right = ctx.spawn_blocking(|| 22);
        Ok(left.await? + right.await?)
    }

    pub async fn messages_of_panics(ctx: &Context) -> Vec<String> {
        let task = ctx.spawn(async { panic!("in a task") });
        let work = ctx.spawn_blocking(|| panic!("in blocking work"));
        let outcomes: [Result<(), JoinError>; 2] = [task.await, work.await];
        let messages = outcomes.into_iter().map(|outcome| match outcome {
            Err(JoinError::Panicked { message, location }) => {
                assert!(location.expect("a place").contains("asynchronous.rs:"));
                message
            }
            other => format!("{other:?}"),
        });
        messages.collect()
    }

    pub async fn aborts(ctx: &Context, number: u8) -> bool {
        let guard = guard(number);
        let task = ctx.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        task.abort();
        task.await == Err(JoinError::Cancelled)
    }

    pub async fn asks_another() -> Result<u8, String> {
        let (first, second) = (imported::slow::at_once(1), imported::slow::at_once(2));
        let first = first.await.map_err(|error| error.to_string())?;
        let second = second.await.map_err(|error| error.to_string())?;
        Ok(first + second)
    }
}

mod imported {
    aigis_plugin_api::import! {
        pub mod slow {
            async fn at_once(number: u8) -> u8;
            async fn fails(limit: u8) -> Result<u8, String>;
            async fn for_ever(number: u8);
        }
    }

    pub mod waiting {
        aigis_plugin_api::import! {
            pub mod slow {
                fn at_once(number: u8) -> u8;
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Polling::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn an_async_skill_says_so_and_has_no_entry() {
    let host = FakeHost::shared();
    let (_, skill) = host.skill("slow.at_once").expect("a skill");
    assert!(skill.asynchronous);
    assert!(!host.is_direct("slow.at_once"));
    let (_, plain) = host.skill("gated.double").expect("a skill");
    assert!(!plain.asynchronous);
    // The caller's signature is the same for both.
    assert_eq!(skill.signature.to_string(), "fn(number: u8) -> u8");
}

#[test]
fn a_future_keeps_its_arguments_and_the_state_over_a_wait() {
    let host = FakeHost::shared();
    let arguments = codec::to_vec(&("mara", [1_u8, 2], None::<u8>)).expect("encodes");
    let task = host.begin("teahouse.serve", &arguments);
    // What was given is copied: the caller's bytes are free again.
    drop(arguments);
    let poller = Poller::new();
    thread::scope(|scope| {
        let (poller, task) = (&poller, task);
        let driven = scope.spawn(move || poller.drive(task));
        // Woken from another thread.
        gate("mara").open();
        let bytes = driven.join().expect("no panic").expect("is served");
        let text: String = codec::from_slice(&bytes).expect("a text");
        assert!(text.starts_with("mara: [1, 2], None, "), "{text}");
    });
    assert_eq!(poller.wakers(), 0, "every waker was given back");
}

#[test]
fn arguments_are_given_by_name_too_and_mistakes_name_them() {
    let host = FakeHost::shared();
    let named = Value::from_iter([("number", Value::from(4))]);
    assert_eq!(host.ask("slow.at_once", named), Ok(5_u8));
    let failure = host
        .ask::<u8>("slow.at_once", ("four",))
        .expect_err("is no number");
    assert_eq!(failure.kind, FailureKind::Arguments);
    assert!(failure.message.contains("argument `number`"), "{failure}");
    assert_eq!(failure.skill, "slow.at_once");
}

#[test]
fn context_and_logger_are_injected() {
    let host = FakeHost::shared();
    gate("who").open();
    assert_eq!(host.ask("slow.who", ()), Ok("tested".to_owned()));
    assert_eq!(host.logged("an async skill logs").len(), 1);
}

#[test]
fn an_error_is_the_authors_own() {
    FakeHost::shared();
    let call = imported::slow::fails(3);
    gate("fails").open();
    assert_eq!(
        block_on(call),
        Err(CallError::Skill("more than 3".to_owned()))
    );
}

#[test]
fn a_future_that_is_dropped_is_dropped_where_it_waits() {
    let host = FakeHost::shared();
    let dropped = guarded(1);
    let poller = Poller::new();
    let task = host.begin("slow.for_ever", &codec::to_vec(&(1,)).expect("encodes"));
    let mut out = Buffer::default();
    // SAFETY: the task is this test's alone, and the waker is good for the call.
    let polled = unsafe { (task.poll)(task.data, poller.waker(), &mut out) };
    assert_eq!(polled, TaskPoll::Pending);
    assert!(dropped.try_recv().is_err(), "it waits");
    // SAFETY: the task is dropped here, once.
    let status = unsafe { (task.drop)(task.data, &mut out) };
    assert_eq!(status, Status::Ok);
    dropped.try_recv().expect("is dropped");
}

#[test]
fn dropping_the_callers_future_gives_the_call_up() {
    FakeHost::shared();
    let dropped = guarded(2);
    let call = imported::slow::for_ever(2);
    // The guard is made by the first poll: wait until it is taken.
    while GUARDS
        .lock()
        .unwrap()
        .iter()
        .any(|(number, _)| *number == 2)
    {
        thread::yield_now();
    }
    drop(call);
    dropped.recv_timeout(LONG).expect("is dropped");
}

#[test]
fn a_waiting_import_of_an_async_skill_waits() {
    FakeHost::shared();
    assert_eq!(imported::waiting::slow::at_once(1), Ok(2));
}

#[test]
fn an_async_skill_awaits_others() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("slow.asks_another", ()), Ok(5_u8));
}

#[test]
fn a_panic_in_a_poll_is_a_failure_and_logged_once() {
    let host = FakeHost::shared();
    gate("panics").open();
    let failure = host.ask::<()>("slow.panics", ()).expect_err("panics");
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.message, "in a poll");
    assert_eq!(failure.skill, "slow.panics");
    let location = failure.location.expect("a place");
    assert!(location.contains("asynchronous.rs:"), "{location}");
    assert_eq!(host.logged("in a poll").len(), 1);
}

#[test]
fn a_panic_in_the_drop_of_a_future_is_a_failure_and_logged_once() {
    let host = FakeHost::shared();
    let dropped = guarded(3);
    let task = host.begin(
        "slow.panics_in_drop",
        &codec::to_vec(&(3,)).expect("encodes"),
    );
    let poller = Poller::new();
    let mut out = Buffer::default();
    // SAFETY: the task is this test's alone, and the waker is good for the call.
    let polled = unsafe { (task.poll)(task.data, poller.waker(), &mut out) };
    assert_eq!(polled, TaskPoll::Pending);
    // SAFETY: the task is dropped here, once.
    let status = unsafe { (task.drop)(task.data, &mut out) };
    assert_eq!(status, Status::Failed);
    let failure = aigis_plugin_api::Failure::decode(out.as_slice());
    assert_eq!(failure.kind, FailureKind::Panicked);
    assert_eq!(failure.message, "a drop panics");
    assert!(
        failure
            .location
            .expect("a place")
            .contains("asynchronous.rs:")
    );
    // What stood before it was dropped all the same.
    dropped.recv_timeout(LONG).expect("is dropped");
    assert_eq!(host.logged("a drop panics").len(), 1);
}

#[test]
fn sleeping_and_its_end() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("slow.sleeps", (0_u64,)), Ok(0_u64));
    assert_eq!(host.ask("slow.sleeps", (3_u64,)), Ok(3_u64));
    // Far more than a thread or a clock can take: it just never ends, and is given up.
    let task = host.begin(
        "slow.sleeps",
        &codec::to_vec(&(u64::MAX,)).expect("encodes"),
    );
    let poller = Poller::new();
    poller.abort();
    assert!(poller.drive(task).is_err());
}

#[test]
fn a_timeout_drops_what_was_too_slow() {
    let host = FakeHost::shared();
    assert_eq!(host.ask("slow.in_time", (1_u64,)), Ok(None::<u8>));
    gate("in_time").open();
    assert_eq!(host.ask("slow.in_time", (60_000_u64,)), Ok(Some(7_u8)));
}

#[test]
fn tasks_and_blocking_work_are_joined() {
    let host = FakeHost::shared();
    gate("spawns").open();
    assert_eq!(host.ask("slow.spawns", ()), Ok(42_u32));
}

#[test]
fn a_panic_of_a_task_is_told_to_whoever_joins_it() {
    let host = FakeHost::shared();
    let messages: Vec<String> = host.ask("slow.messages_of_panics", ()).expect("answers");
    assert_eq!(messages, ["in a task", "in blocking work"]);
    assert_eq!(host.logged("in a task").len(), 1);
    assert_eq!(host.logged("in blocking work").len(), 1);
}

#[test]
fn an_aborted_task_is_dropped_where_it_waits() {
    let host = FakeHost::shared();
    let dropped = guarded(4);
    assert_eq!(host.ask("slow.aborts", (4_u8,)), Ok(true));
    dropped.recv_timeout(LONG).expect("is dropped");
}
