//! Streams that a library consumes: the results of its calls, and the arguments of calls of its skills.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, Next, failed, lazily, over};
use aigis_plugin_api::abi::{
    Buffer, Bytes, Completion, Produced, Producer, Request, Slice, Status,
};
use aigis_plugin_api::session::turns::Turns;

use super::generation::Generation;
use super::guard::seats::{self, Stay};
use super::host_api::{HostContext, context_of, guard, link_of};
use super::task::Frame;
use super::{Link, Services, lock};
use crate::logging::spans::Carried;

/// The streams that a generation consumes, by their numbers.
#[derive(Default)]
pub(super) struct Pulls {
    state: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, Arc<Pulling>>,
    /// Nothing is taken any more.
    closed: bool,
}

impl Pulls {
    fn find(&self, number: u64) -> Option<Arc<Pulling>> {
        lock(&self.state).streams.get(&number).cloned()
    }

    /// Gives up what is left, and takes nothing more.
    pub(super) fn close(&self) {
        let left = {
            let mut open = lock(&self.state);
            open.closed = true;
            std::mem::take(&mut open.streams)
        };
        for pulling in left.into_values() {
            pulling.close();
        }
    }
}

impl HostContext {
    /// Numbers a stream that this generation is to consume.
    pub(super) fn number(&self, items: BoxItems) -> u64 {
        let pulling = Arc::new(Pulling::new(items, self));
        let mut open = lock(&self.pulls.state);
        open.last += 1;
        let number = open.last;
        if !open.closed {
            open.streams.insert(number, pulling);
            return number;
        }
        drop(open);
        drop(pulling);
        number
    }
}

/// A stream that a library asks for items.
struct Pulling {
    /// Locked by whoever asks; none once it is over.
    items: Mutex<Option<BoxItems>>,
    turns: Turns,
    asked: Mutex<Option<Asked>>,
    closed: AtomicBool,
    /// Who waits on a thread of its own.
    waiter: Mutex<Option<Arc<Waiter>>>,
    services: Weak<dyn Services>,
    /// Names the generation that asks, where its code hears the answer.
    frame: Frame,
    /// Names it while an item is made, which is no call of its.
    of_pulls: Frame,
}

/// A thread that waits for an item.
#[derive(Default)]
struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Waiter {
    fn sleep(&self) {
        let asleep = |woken: &mut bool| !*woken;
        let woken = self.changed.wait_while(lock(&self.woken), asleep);
        *woken.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// A question that has not been answered.
struct Asked {
    done: Completion,
    /// The answer is heard by code of the generation, which therefore stays. It is no call: neither a
    /// hand-over nor the end of the generation waits for it, which answers it.
    _stay: Option<Stay>,
}

fn unknown(number: u64) -> Failure {
    Failure::new(
        FailureKind::Internal,
        format!("there is no stream of number {number}, or it has been given up"),
    )
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the stream was given up")
}

impl Pulling {
    fn new(items: BoxItems, context: &HostContext) -> Self {
        let turns = Turns::default();
        // Nobody has asked yet.
        let _ = turns.begin() && turns.pause();
        Self {
            items: Mutex::new(Some(items)),
            turns,
            asked: Mutex::new(None),
            closed: AtomicBool::new(false),
            waiter: Mutex::new(None),
            services: context.weak_services(),
            frame: context.frame(),
            of_pulls: context.pull_frame(),
        }
    }

    /// Asks and waits, on this thread.
    fn wait(&self) -> Next {
        let mut items = lock(&self.items);
        let next = match &mut *items {
            Some(items) => self.wait_for(items),
            None => Err(over()),
        };
        if !matches!(next, Ok(Some(_))) || self.closed.load(Ordering::SeqCst) {
            *items = None;
        }
        next
    }

    fn wait_for(&self, items: &mut BoxItems) -> Next {
        let waiter = Arc::new(Waiter::default());
        let waker = Waker::from(Arc::clone(&waiter));
        *lock(&self.waiter) = Some(Arc::clone(&waiter));
        let next = loop {
            // Whoever closes it says so before it wakes.
            if self.closed.load(Ordering::SeqCst) {
                break Err(cancelled());
            }
            if let Poll::Ready(next) = items.poll_next(&mut Context::from_waker(&waker)) {
                break next;
            }
            items.before_sleeping();
            waiter.sleep();
        };
        *lock(&self.waiter) = None;
        next
    }

    /// Asks; the answer is heard later.
    fn ask(self: &Arc<Self>, asked: Asked) {
        let before = lock(&self.asked).replace(asked);
        if let Some(before) = before {
            // Two questions at once: no library of ours does that.
            self.answer(before, Err(cancelled()));
        }
        if self.turns.wake() {
            self.schedule();
        }
        // Whoever has ended it may have looked for a question before this one was there.
        if self.closed.load(Ordering::SeqCst) || self.turns.are_over() {
            self.tell(Err(cancelled()));
        }
    }

    /// No more turns come, and nothing is made any more; for whoever has the turn.
    fn end(&self) {
        self.turns.end();
        // A thread that waits for an item drops them when it has it.
        let left = self
            .items
            .try_lock()
            .ok()
            .and_then(|mut items| items.take());
        drop(left);
    }

    fn schedule(self: &Arc<Self>) {
        /// One turn; that of a host which is closing is dropped instead.
        struct Turn(Option<Arc<Pulling>>);

        impl Drop for Turn {
            fn drop(&mut self) {
                if let Some(pulling) = self.0.take() {
                    pulling.end();
                    pulling.tell(Err(Failure::new(
                        FailureKind::Overloaded,
                        "no item was asked for: the core is shutting down, or has no thread for it",
                    )));
                }
            }
        }

        let mut turn = Turn(Some(Arc::clone(self)));
        if let Some(services) = self.services.upgrade() {
            services.run(Box::new(move || {
                if let Some(pulling) = turn.0.take() {
                    pulling.run();
                }
            }));
        }
    }

    fn run(self: &Arc<Self>) {
        if !self.turns.begin() {
            return;
        }
        let polled = self.poll();
        if self.closed.load(Ordering::SeqCst) {
            self.end();
            self.tell(Err(cancelled()));
            return;
        }
        // Before the answer is told, with which the next question may come at once.
        let again = !self.turns.pause();
        if let Poll::Ready(next) = polled {
            self.tell(next);
        }
        if again {
            self.schedule();
        }
    }

    fn poll(self: &Arc<Self>) -> Poll<Next> {
        let asked = lock(&self.asked);
        if asked.is_none() {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let mut items = lock(&self.items);
        let polled = match &mut *items {
            Some(items) => seats::within(self.of_pulls.get(), || {
                // From here on the frame keeps the generation, and no longer what waits for the answer.
                drop(asked);
                let poll = || items.poll_next(&mut context);
                // Its calls count as those of whoever asks.
                guard(|failure| Poll::Ready(Err(failure)), poll)
            }),
            None => Poll::Ready(Err(over())),
        };
        if matches!(polled, Poll::Ready(Ok(None) | Err(_))) {
            *items = None;
        }
        polled
    }

    /// Tells whoever has asked.
    fn tell(&self, next: Next) {
        let asked = lock(&self.asked).take();
        if let Some(asked) = asked {
            self.answer(asked, next);
        }
    }

    fn answer(&self, asked: Asked, next: Next) {
        let Asked { done, _stay } = asked;
        let encoded;
        let (status, bytes) = match next {
            Ok(Some(item)) => {
                encoded = item;
                (Status::Ok, Bytes::of(&encoded))
            }
            Ok(None) => (Status::Absent, Bytes::of(&[])),
            Err(failure) => {
                encoded = failure.encode();
                (Status::Failed, Bytes::of(&encoded))
            }
        };
        seats::within(self.frame.get(), || {
            // SAFETY: the completion is consumed, so this is its one call; the contract of
            // `HostApi::pull` lets it be made from any thread. `_stay` keeps the library.
            unsafe { (done.complete)(done.data, status, bytes) }
        });
    }

    /// Gives the stream up.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.tell(Err(cancelled()));
        if self.turns.take() {
            self.end();
        }
        let waiter = lock(&self.waiter).take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl Wake for Pulling {
    fn wake(self: Arc<Self>) {
        if self.turns.wake() {
            self.schedule();
        }
    }
}

pub(super) unsafe extern "C" fn open(
    context: *const c_void,
    request: Request<'_>,
    streams: Slice<'_, Producer>,
) -> u64 {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    // SAFETY: a request's link is null or came from `link`; links live as long as the context.
    let link: Option<&'static Link> = unsafe { link_of(request.link) };
    let producers = streams.as_slice().iter();
    // SAFETY: it is the contract of `HostApi::open` that they are handed over: the library does not
    // look at them again.
    let producers = producers.map(|producer| unsafe { std::ptr::read(producer) });
    let frame = context.frame();
    let of_streams = context.stream_frame();
    let taken: Vec<BoxItems> = producers
        .map(|producer| context.streams.take(producer, of_streams, of_streams))
        .collect();
    let name = request.name.as_str().to_owned();
    let arguments = request.arguments.as_slice().to_vec();
    guard(
        |_| 0,
        || {
            let carried = Carried::here();
            context.number(lazily(move || {
                let services = match context.services() {
                    Ok(services) => services,
                    Err(failure) => return failed(failure),
                };
                carried.run(|| {
                    seats::within(frame.get(), || {
                        services.open(context.route(link, &name), &arguments, taken)
                    })
                })
            }))
        },
    )
}

pub(super) unsafe extern "C" fn next(
    context: *const c_void,
    stream: u64,
    out: &mut Buffer,
) -> Produced {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let next = guard(Err, || match context.pulls.find(stream) {
        Some(pulling) => pulling.wait(),
        None => Err(unknown(stream)),
    });
    match next {
        Ok(Some(item)) => {
            *out = item.into();
            Produced::Item
        }
        Ok(None) => Produced::End,
        Err(failure) => {
            *out = failure.encode().into();
            Produced::Failed
        }
    }
}

pub(super) unsafe extern "C" fn pull(context: *const c_void, stream: u64, done: Completion) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    let generation = context.generation();
    let asked = Asked {
        done,
        _stay: generation.as_deref().map(Generation::stay_for_pull),
    };
    match context.pulls.find(stream) {
        Some(pulling) => guard(drop, || pulling.ask(asked)),
        None => {
            let none = Pulling::new(failed(unknown(stream)), context);
            none.answer(asked, Err(unknown(stream)));
        }
    }
}

pub(super) unsafe extern "C" fn close_stream(context: *const c_void, stream: u64) {
    // SAFETY: the library passes the context of its table.
    let context = unsafe { context_of(context) };
    guard(drop, || {
        let pulling = lock(&context.pulls.state).streams.remove(&stream);
        if let Some(pulling) = pulling {
            pulling.close();
        }
    });
}
