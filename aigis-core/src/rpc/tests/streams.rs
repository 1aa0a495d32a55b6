//! Streams over a session: order, credit, and every way to end.

use aigis_plugin_api::__private::{BEGUN, Items, Next, Outflow as _, begun, failed, seen, single};
use aigis_plugin_api::session::frame::{Credit, Open};
use aigis_plugin_api::{CallError, Stream};

use super::*;

/// How far a producer may be ahead of its consumer: the window, and what is on its way into it.
const AHEAD: u64 = 64 + 2;

/// Tells when it is dropped.
struct Dropped {
    session: u64,
    key: &'static str,
    events: Sender<Event>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let event = Event::GivenUp(self.session, self.key.to_owned());
        let _ = self.events.send(event);
    }
}

impl Answers {
    fn dropped(&self, session: u64, key: &'static str) -> Dropped {
        let events = self.events.lock().expect("not poisoned").clone();
        Dropped {
            session,
            key,
            events,
        }
    }

    /// Opens a call of `t.*`.
    pub(super) fn stream(
        &self,
        session: u64,
        name: &str,
        arguments: &[u8],
        mut streams: Vec<BoxItems>,
    ) -> BoxItems {
        let items = match name {
            "t.numbers" => {
                let to: u64 = argument(arguments).expect("a number");
                let dropped = self.dropped(session, "numbers");
                let made = Arc::clone(&self.made);
                Stream::of((0..to).inspect(move |_| {
                    let _ = &dropped;
                    made.fetch_add(1, Ordering::SeqCst);
                }))
                .into_items()
            }
            "t.held" => {
                let key: String = argument(arguments).expect("a key");
                let dropped = self.dropped(session, "held");
                let me = self.me.upgrade().expect("it is asked");
                Stream::of(std::iter::once_with(move || {
                    let _ = &dropped;
                    me.tell(Event::Started(key.clone()));
                    me.wait(&key);
                    key
                }))
                .into_items()
            }
            "t.never" => {
                let dropped = self.dropped(session, "never");
                Stream::<u64>::poll_fn(move |_| {
                    let _ = &dropped;
                    std::task::Poll::Pending
                })
                .into_items()
            }
            "t.breaks" => Stream::of([Ok(1), Err("it broke".to_owned()), Ok(3)])
                .until_error()
                .into_items(),
            "t.falls" => {
                Stream::of((0..3_u64).inspect(|n| assert!(*n < 1, "it fell"))).into_items()
            }
            "t.sum" => Ok(sum(streams.remove(0))),
            "t.hold" => {
                let dropped = self.dropped(session, "hold");
                Ok(seen(begun(failed_later()), (dropped, streams), |failure| {
                    failure
                }))
            }
            "t.copy" => Ok(streams.remove(0)),
            other => Err(Failure::new(FailureKind::NotFound, other)),
        };
        items.map_or_else(failed, begun)
    }
}

/// Items that never come.
fn failed_later() -> BoxItems {
    Stream::<u64>::poll_fn(|_| std::task::Poll::Pending)
        .into_items()
        .expect("a stream")
}

/// Adds what comes, when the sum is asked for.
fn sum(mut items: BoxItems) -> BoxItems {
    aigis_plugin_api::__private::lazily(move || {
        let mut sum = 0_u64;
        loop {
            match items.wait_next() {
                Ok(Some(item)) => sum += codec::from_slice::<u64>(&item).expect("a number"),
                Ok(None) => return single(codec::to_vec(&sum).expect("encodes")),
                Err(failure) => return failed(failure),
            }
        }
    })
}

fn numbers(session: &Session, to: u64) -> Stream<u64> {
    session.stream("t.numbers", (to,)).expect("begins")
}

#[test]
fn a_million_items_come_in_their_order() {
    let core = Core::start();
    let session = core.connect();
    let mut expected = 0;
    for item in numbers(&session, 1_000_000) {
        assert_eq!(item, Ok(expected));
        expected += 1;
    }
    assert_eq!(expected, 1_000_000);
    core.wait_for(&Event::GivenUp(1, "numbers".to_owned()));
}

#[test]
fn nothing_is_made_before_it_is_asked_for_and_little_ahead() {
    let core = Core::start();
    let session = core.connect();
    let made = || core.service.made.load(Ordering::SeqCst);
    let mut stream = numbers(&session, u64::MAX);
    echo(&session, "a round trip");
    assert_eq!(made(), 0, "nothing was asked for");
    for taken in 1..=500 {
        assert_eq!(stream.next(), Some(Ok(taken - 1)));
        // The producer has all the time it wants.
        echo(&session, "a round trip");
        assert!(made() <= taken + AHEAD, "{} for {taken}", made());
    }
    drop(stream);
    core.wait_for(&Event::GivenUp(1, "numbers".to_owned()));
    let ahead = made();
    echo(&session, "a round trip");
    assert_eq!(made(), ahead, "nobody makes any more");
}

#[test]
fn a_large_item_uses_up_the_bytes_that_may_be_ahead() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.numbers", 0, (u64::MAX,)));
    assert_begins(&mut raw, 1);
    // The first number has one byte: it is over the limit, and the last for now.
    raw.send(&more(1, 0, 1000, 1));
    assert_eq!(item(&mut raw, 1), 0);
    raw.send(&call(2, 0, "t.echo", ("mark",)));
    assert_answered(&mut raw, 2);
    raw.send(&more(1, 0, 0, 2));
    assert_eq!((item(&mut raw, 1), item(&mut raw, 1)), (1, 2));
    assert_eq!(core.service.made.load(Ordering::SeqCst), 3);
}

#[test]
fn an_error_in_the_middle_is_the_last_item() {
    let core = Core::start();
    let session = core.connect();
    let mut stream: Stream<u64> = session.stream("t.breaks", ()).expect("begins");
    assert_eq!(stream.next(), Some(Ok(1)));
    let Some(Err(CallError::Failed(failure))) = stream.next() else {
        panic!("it breaks");
    };
    assert_eq!(failure.downcast::<String>(), Some("it broke".to_owned()));
    assert_eq!(failure.skill, "t.breaks");
    assert_eq!(stream.next(), None);
    let nobody = session.stream::<u64>("t.nobody", ());
    assert!(
        matches!(nobody, Err(CallError::NotFound { .. })),
        "{nobody:?}"
    );
    // A part of the core that falls over takes nothing with it.
    let mut falls: Stream<u64> = session.stream("t.falls", ()).expect("begins");
    assert_eq!(falls.next(), Some(Ok(0)));
    let Some(Err(CallError::Other(failure))) = falls.next() else {
        panic!("it falls");
    };
    assert_eq!(failure.kind, FailureKind::Internal);
    assert!(failure.message.contains("it fell"), "{failure}");
    core.assert_alive();
}

#[test]
fn the_time_of_a_caller_ends_a_stream() {
    let core = Core::start();
    let session = core.connect();
    let soon = Duration::from_millis(50);
    let mut never = session
        .stream_within::<u64>("t.never", (), soon)
        .expect("begins");
    let late = never.next();
    assert!(
        matches!(&late, Some(Err(CallError::TimedOut { after, .. })) if *after == soon),
        "{late:?}"
    );
    assert_eq!(never.next(), None);
    core.wait_for(&Event::GivenUp(1, "never".to_owned()));
    // Who has no clock is told.
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 20, "t.never", 0, ()));
    assert_begins(&mut raw, 1);
    raw.send(&more(1, 0, 1, 1));
    assert_eq!(raw.read_failure(1).kind, FailureKind::TimedOut);
    core.wait_for(&Event::GivenUp(2, "never".to_owned()));
}

#[test]
fn streams_end_with_their_connection_on_both_sides() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.never", 0, ()));
    assert_begins(&mut raw, 1);
    raw.hang_up();
    core.wait_for(&Event::GivenUp(1, "never".to_owned()));

    let session = core.connect();
    let mut stream = numbers(&session, u64::MAX);
    assert_eq!(stream.next(), Some(Ok(0)));
    core.shut_down(Duration::ZERO);
    let gone = stream.find_map(Result::err).expect("it ends");
    assert!(matches!(gone, CallError::CoreGone { .. }), "{gone}");
}

#[test]
fn an_argument_is_asked_for_item_by_item() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.sum", 1, ((),)));
    assert_begins(&mut raw, 1);
    raw.send(&more(1, 0, 64, 1 << 20));
    let mut granted = 0;
    for n in 1..=100_u64 {
        while granted == 0 {
            let (header, body) = raw.read().expect("it asks");
            assert_eq!(
                (header.kind, header.call, header.timeout_ms),
                (Kind::More, 1, 1)
            );
            granted += frame::decode_body::<Credit>(&body).expect("credit").items;
            assert!(granted <= 64, "{granted}");
        }
        granted -= 1;
        let n = codec::to_vec(&n).expect("encodes");
        raw.send(&frame::frame(Kind::Item, 1, 1, &n).expect("a frame"));
    }
    raw.send(&frame::frame(Kind::End, 1, 1, &[]).expect("a frame"));
    // What it asks for more than there is may come between.
    let mut sum = None;
    loop {
        let (header, body) = raw.read().expect("an answer");
        match header.kind {
            Kind::More => {}
            Kind::Item => sum = Some(codec::from_slice::<u64>(&body).expect("a number")),
            _ => {
                assert_eq!(
                    (header.kind, header.call, body),
                    (Kind::Reply, 1, vec![0xc0])
                );
                break;
            }
        }
    }
    assert_eq!(sum, Some(5050));

    // One that fails, and one that nobody wants.
    raw.send(&open(2, 0, "t.copy", 1, ((),)));
    assert_begins(&mut raw, 2);
    raw.send(&more(2, 0, 1, 1));
    let failure = Failure::new(FailureKind::Panicked, "in the caller").encode();
    raw.send(&frame::frame(Kind::End, 2, 1, &failure).expect("a frame"));
    let failure = loop {
        let (header, body) = raw.read().expect("an answer");
        // It may have asked for an item before it heard that there is none.
        if header.kind != Kind::More {
            assert_eq!((header.kind, header.call), (Kind::Error, 2));
            break Failure::decode(&body);
        }
    };
    assert_eq!(failure.message, "in the caller");
    raw.send(&open(3, 0, "t.numbers", 1, (5, ())));
    let (header, _) = raw.read().expect("an answer");
    assert_eq!(
        (header.kind, header.call, header.timeout_ms),
        (Kind::Cancel, 3, 1)
    );
}

#[test]
fn an_item_that_was_not_asked_for_ends_the_session() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.hold", 1, ((),)));
    assert_begins(&mut raw, 1);
    raw.send(&frame::frame(Kind::Item, 1, 1, &[7]).expect("a frame"));
    raw.assert_refused("an item came that was not asked for");
    core.wait_for(&Event::GivenUp(1, "hold".to_owned()));
    core.assert_alive();
}

#[test]
fn broken_rules_of_streams() {
    let check = |features: &[&str], bytes: &[u8], expected: &str| {
        let core = Core::start();
        let mut raw = core.raw_with(features);
        raw.send(bytes);
        let failure = loop {
            let (header, body) = raw.read().expect("a refusal");
            // A call may have begun before.
            if header.kind != Kind::Item {
                assert_eq!((header.kind, header.call), (Kind::Error, 0));
                break Failure::decode(&body);
            }
        };
        assert!(
            failure.message.contains(expected),
            "{expected:?} in {failure}"
        );
        assert!(raw.read().is_none(), "the connection is closed");
        core.assert_alive();
    };
    let known = &[feature::STREAMS][..];
    check(&[], &open(1, 0, "t.never", 0, ()), "the feature `streams`");
    check(known, &open(0, 0, "t.never", 0, ()), "numbered from 1");
    check(known, &open(1, 0, "t.hold", 9, ()), "at most 8 streams");
    check(known, &more_of(1, 0, &[0xc0]), "malformed frame");
    let end = frame::frame(Kind::End, 1, 0, &[]).expect("a frame");
    check(known, &end, "numbered from 1");
    let twice = [open(1, 0, "t.never", 0, ()), open(1, 0, "t.never", 0, ())];
    check(known, &twice.concat(), "is open already");
    let empty = [
        open(1, 0, "t.hold", 1, ((),)),
        frame::frame(Kind::Item, 1, 1, &[]).expect("one"),
    ];
    check(known, &empty.concat(), "an item is empty");
}

#[test]
fn too_many_streams_are_refused_and_nothing_else() {
    const MOST: u64 = 256;
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    for number in 1..=MOST + 1 {
        raw.send(&open(number, 0, "t.never", 0, ()));
    }
    let mut begun = 0;
    let mut refused = Vec::new();
    while begun + refused.len() < 257 {
        let (header, body) = raw.read().expect("an answer");
        match header.kind {
            Kind::Item => begun += 1,
            _ => refused.push((header.call, Failure::decode(&body).kind)),
        }
    }
    assert_eq!(refused, [(MOST + 1, FailureKind::Overloaded)]);
    // Calls have their own room.
    raw.send(&call(1000, 0, "t.echo", ("still",)));
    assert_answered(&mut raw, 1000);
    raw.send(&cancel(1));
    core.wait_for(&Event::GivenUp(1, "never".to_owned()));
    raw.send(&open(1001, 0, "t.never", 0, ()));
    assert_begins(&mut raw, 1001);
}

/// What was given up may end long after its number is that of another.
#[test]
fn a_number_that_is_used_again_is_that_of_the_newer_call() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.held", 0, ("gate",)));
    assert_begins(&mut raw, 1);
    raw.send(&more(1, 0, 1, 1));
    core.wait_for(&Event::Started("gate".to_owned()));
    raw.send(&cancel(1));
    raw.send(&open(1, 0, "t.never", 0, ()));
    assert_begins(&mut raw, 1);
    core.service.open("gate");
    core.wait_for(&Event::GivenUp(1, "held".to_owned()));
    // Neither an item nor the end of the old one is told.
    raw.send(&call(2, 0, "t.echo", ("mark",)));
    assert_answered(&mut raw, 2);
    raw.send(&cancel(1));
    core.wait_for(&Event::GivenUp(1, "never".to_owned()));
}

#[test]
fn opened_calls_are_among_all_that_may_run_and_their_arguments_are_counted() {
    let core = Core::within(Limits {
        calls_in_all: 4,
        ..Limits::default()
    });
    let mut raw = core.raw_with(&[feature::STREAMS]);
    let mut others = core.raw_with(&[feature::STREAMS]);
    let refused = |raw: &mut Raw, number| {
        let failure = raw.read_failure(number);
        assert_eq!(failure.kind, FailureKind::Overloaded, "{failure}");
    };
    // As many as there is room for others.
    for number in [1, 2] {
        raw.send(&open(number, 0, "t.never", 0, ()));
        assert_begins(&mut raw, number);
    }
    raw.send(&open(3, 0, "t.never", 0, ()));
    refused(&mut raw, 3);
    others.send(&open(1, 0, "t.never", 0, ()));
    assert_begins(&mut others, 1);
    drop((raw, others));
    // One more frame may exceed the bytes.
    let core = Core::within(Limits {
        bytes_of_session: 1 << 10,
        ..Limits::default()
    });
    let mut raw = core.raw_with(&[feature::STREAMS]);
    let long = "x".repeat(1 << 10);
    raw.send(&open(1, 0, "t.never", 0, (&long,)));
    assert_begins(&mut raw, 1);
    raw.send(&open(2, 0, "t.never", 0, ()));
    refused(&mut raw, 2);
    raw.send(&call(3, 0, "t.echo", ("still",)));
    assert_answered(&mut raw, 3);
}

/// A consumer that grants without end and reads nothing: what waits for it is bounded all the same.
#[test]
fn credit_without_end_does_not_fill_the_memory() {
    let core = Core::start();
    let mut raw = core.raw_with(&[feature::STREAMS]);
    raw.send(&open(1, 0, "t.numbers", 0, (u64::MAX,)));
    raw.send(&more(1, 0, u64::MAX, u64::MAX));
    // The system holds some megabytes of frames, of at least 18 bytes each.
    let most = (32 << 20) / 18;
    let made = || core.service.made.load(Ordering::SeqCst);
    // Without a bound it would never be quiet.
    let (mut before, mut quiet) = (0, 0);
    while quiet < 50 {
        core.assert_alive();
        quiet = if made() == before { quiet + 1 } else { 0 };
        before = made();
        assert!(before < most, "{before}");
    }
    // When it reads on, they come on.
    assert_begins(&mut raw, 1);
    for n in 0..before + 1000 {
        assert_eq!(item(&mut raw, 1), n);
    }
}

fn open(number: u64, timeout: u64, name: &str, streams: u32, arguments: impl Serialize) -> Vec<u8> {
    let arguments = match codec::to_vec(&arguments).expect("arguments") {
        nil if nil == [0xc0] => vec![0x90],
        arguments => arguments,
    };
    let call = Call {
        target: Target::Name(name),
        arguments: &arguments,
    };
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout));
    let open = Open { call, streams };
    open.head(number, timeout, 0).expect("a frame")
}

fn more(number: u64, stream: u32, items: u64, bytes: u64) -> Vec<u8> {
    let credit = codec::to_vec(&Credit { items, bytes }).expect("encodes");
    more_of(number, stream, &credit)
}

fn more_of(number: u64, stream: u32, body: &[u8]) -> Vec<u8> {
    frame::frame(Kind::More, number, stream, body).expect("a frame")
}

/// The next frame says that the call has begun.
fn assert_begins(raw: &mut Raw, number: u64) {
    let (header, body) = raw.read().expect("it begins");
    assert_eq!(
        (header.kind, header.call),
        (Kind::Item, number),
        "{:?}",
        Failure::decode(&body)
    );
    assert_eq!(body, BEGUN);
}

/// The next frame is an item of this call.
fn item(raw: &mut Raw, number: u64) -> u64 {
    let (header, body) = raw.read().expect("an item");
    assert_eq!(
        (header.kind, header.call, header.timeout_ms),
        (Kind::Item, number, 0)
    );
    codec::from_slice(&body).expect("a number")
}

/// The next frame answers a call; no item came before it.
fn assert_answered(raw: &mut Raw, number: u64) {
    let (header, _) = raw.read().expect("an answer");
    assert_eq!((header.kind, header.call), (Kind::Reply, number));
}

/// What is not asked on is not polled on.
#[test]
fn nothing_comes_after_the_end() {
    let mut items: Box<dyn Items> = single(vec![1]);
    let next: Next = items.wait_next();
    assert_eq!(next, Ok(Some(vec![1])));
    assert_eq!(items.wait_next(), Ok(None));
}
