//! Streams, from the author's code through the library's descriptor to their consumer.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use aigis_plugin_api::signature::Shape;
use aigis_plugin_api::{CallError, Stream};

use crate::FakeHost;

const LONG: Duration = Duration::from_secs(60);

/// How many items of `river` are alive, the one that is counting included.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

mod offered {
    use super::{ALIVE, Alive, Ordering};

    #[aigis_plugin_api::skills]
    pub mod river {
        use super::{ALIVE, Alive, Ordering};
        use aigis_plugin_api::{CallError, Stream};

        pub fn count(to: u64) -> impl Iterator<Item = u64> {
            0..to
        }

        pub fn endless() -> Stream<u64> {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            let alive = Alive;
            Stream::of((0..).inspect(move |_| {
                let _ = &alive;
            }))
        }

        pub fn tried(works: bool) -> Result<impl Iterator<Item = u8>, String> {
            if works {
                Ok([1, 2].into_iter())
            } else {
                Err("dry".to_owned())
            }
        }

        pub fn breaks() -> impl Iterator<Item = Result<u64, String>> {
            [Ok(1), Err("broken".to_owned()), Ok(3)].into_iter()
        }

        pub fn panics() -> impl Iterator<Item = u64> {
            (0..).inspect(|n| assert!(*n < 1, "the river bursts"))
        }

        pub fn panics_at_once() -> Stream<u64> {
            panic!("no river")
        }

        pub fn sum(name: &str, items: Stream<u64>, add: Option<u64>) -> Result<String, CallError> {
            let sum = items.sum::<Result<u64, CallError>>()?;
            Ok(format!("{name}: {}", sum + add.unwrap_or(0)))
        }

        pub async fn zipped(
            mut a: Stream<u64>,
            mut b: Stream<String>,
        ) -> Result<Vec<String>, CallError> {
            let mut all = Vec::new();
            while let (Some(a), Some(b)) = (a.next_item().await, b.next_item().await) {
                all.push(format!("{}{}", a?, b?));
            }
            Ok(all)
        }

        pub async fn letters(text: &str) -> Stream<char> {
            let text = text.to_owned();
            Stream::produce(|mut sender| async move {
                for letter in text.chars() {
                    sender.send(letter).await;
                }
            })
        }
    }
}

aigis_plugin_api::import! {
    mod river {
        fn count(to: u64) -> Stream<u64>;
        fn endless() -> Stream<u64>;
        fn tried(works: bool) -> Result<Stream<u8>, String>;
        fn breaks() -> Stream<u64>;
        fn panics() -> Stream<u64>;
        fn panics_at_once() -> Stream<u64>;
        fn sum(name: &str, items: Stream<u64>, add: Option<u64>) -> Result<String, String>;
        async fn zipped(a: Stream<u64>, b: Stream<String>) -> Result<Vec<String>, String>;
        async fn letters(text: &str) -> Stream<char>;
        fn absent() -> Stream<u64>;
    }
}

mod mistaken {
    aigis_plugin_api::import! {
        pub(super) mod river {
            fn count(to: u64) -> Vec<u64>;
            #[skill(rename = "endless")]
            fn texts() -> Stream<String>;
        }
    }
    use aigis_plugin_api::Stream;
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_result_comes_item_by_item_and_its_producer_goes_with_it() {
    FakeHost::shared();
    let counted: Result<Vec<u64>, _> = river::count(5).expect("begins").collect();
    assert_eq!(counted, Ok(vec![0, 1, 2, 3, 4]));
    let mut endless = river::endless().expect("begins");
    assert_eq!(ALIVE.load(Ordering::SeqCst), 1);
    assert_eq!(
        endless.by_ref().take(3).collect::<Result<Vec<_>, _>>(),
        Ok(vec![0, 1, 2])
    );
    drop(endless);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    let mut started = river::start::tried(true);
    let items: Vec<_> = started.wait(LONG).expect("begins").collect();
    assert_eq!(items, [Ok(1), Ok(2)]);
}

#[test]
fn failures_are_typed_wherever_they_come() {
    FakeHost::shared();
    assert_eq!(
        river::tried(false).expect_err("is dry"),
        CallError::Skill("dry".to_owned())
    );
    let mut breaks = river::breaks().expect("begins");
    assert_eq!(breaks.next(), Some(Ok(1)));
    let Some(Err(CallError::Failed(failure))) = breaks.next() else {
        panic!("it breaks");
    };
    assert_eq!(
        (&*failure.skill, failure.downcast()),
        ("river.breaks", Some("broken".to_owned()))
    );
    assert_eq!(breaks.next(), None);
    let mut panics = river::panics().expect("begins");
    assert_eq!(panics.next(), Some(Ok(0)));
    assert!(
        matches!(panics.next(), Some(Err(CallError::Panicked { message, .. })) if message == "the river bursts")
    );
    assert!(matches!(
        river::panics_at_once(),
        Err(CallError::Panicked { .. })
    ));
    assert!(matches!(river::absent(), Err(CallError::NotFound { .. })));
    assert!(matches!(
        mistaken::river::texts(),
        Err(CallError::Mismatch { .. })
    ));
    let whole = mistaken::river::count(1).expect_err("is a stream");
    assert!(matches!(whole, CallError::Mismatch { .. }), "{whole}");
}

#[test]
fn arguments_come_item_by_item() {
    let host = FakeHost::shared();
    let sum = river::sum("sum", Stream::of(1..=10), Some(2));
    assert_eq!(sum, Ok("sum: 57".to_owned()));
    let panics = Stream::of((0..3).inspect(|n| assert!(*n < 1, "the caller's own")));
    let failed = river::sum("sum", panics, None).expect_err("its argument fails");
    assert!(failed.to_string().contains("the caller's own"), "{failed}");
    // Without types, a list will do, and by name as well.
    let sum: String = host.ask("river.sum", ("list", [1, 2, 3])).expect("sums");
    assert_eq!(sum, "list: 6");
    let none = host
        .ask::<String>("river.sum", ("none", ()))
        .expect_err("is missing");
    assert!(none.message.contains("a stream is missing"), "{none}");
}

#[test]
fn async_code_makes_and_takes_them_without_a_thread_that_waits() {
    FakeHost::shared();
    block_on(async {
        let words = Stream::of(["a", "b", "c"].map(str::to_owned));
        let zipped = river::zipped(Stream::of(7..9), words).await;
        assert_eq!(zipped, Ok(vec!["7a".to_owned(), "8b".to_owned()]));
        let mut letters = river::letters("xyz").await.expect("begins");
        let mut text = String::new();
        while let Some(letter) = letters.next_item().await {
            text.push(letter.expect("comes"));
        }
        assert_eq!(text, "xyz");
    });
}

#[test]
fn a_signature_shows_its_streams() {
    let (_, count) = FakeHost::shared().skill("river.count").expect("is offered");
    assert_eq!(count.signature.to_string(), "fn(to: u64) -> Stream<u64>");
    assert_eq!(count.signature.result, Shape::Stream(Box::new(Shape::U64)));
    let (_, sum) = FakeHost::shared().skill("river.sum").expect("is offered");
    let shown = "fn(name: &str, items: Stream<u64>, add: Option<u64>) -> Result<String, CallError>";
    assert_eq!(sum.signature.to_string(), shown);
    assert!(!FakeHost::shared().is_direct("river.sum"));
}
