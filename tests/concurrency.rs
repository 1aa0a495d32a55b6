//! Requests beside one another: what waits or works holds nobody else up.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::{CallError, Session, connect, skill_type};

use crate::support::core::Core;
use crate::support::home::TestHome;
use crate::support::{DEADLINE, Deadline, eventually, plugins};

const SHOP: &str = include_str!("fixtures/concurrency/shop.rs");
const STOCK: &str = include_str!("fixtures/concurrency/stock.rs");

/// What a quick call takes at most, most of the time.
const QUICK: Duration = Duration::from_millis(100);

#[skill_type]
#[derive(Debug)]
pub(crate) enum BuyError {
    SoldOut { left: u32 },
    Failed { why: String },
}

aigis_plugin_api::import! {
    mod shop {
        fn buy() -> Result<u32, BuyError>;
        fn spin() -> u64;
    }
}

/// Makes twenty quick calls, half of them in the session that has called what is slow.
fn quick_calls(sessions: [&Session; 2]) {
    let mut took: Vec<Duration> = (0..20_u32)
        .map(|number| {
            let begun = Instant::now();
            let session = sessions[number as usize % 2];
            assert_eq!(session.call("shop.quick", (number,)), Ok(number + 1));
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    assert!(took[10] < QUICK, "{took:?}");
}

/// S-25: an async skill waits for another service, and twenty quick calls are made meanwhile; the same with a
/// skill that keeps a core of the machine busy; then two requests at once each await a call that takes the last
/// item of a stock. The quick calls are quick in both cases; the item is taken once, and the other request gets
/// a typed error.
#[test]
fn what_waits_or_works_holds_nobody_up() {
    let _deadline = Deadline::begin(Duration::ZERO);
    let home = TestHome::new();
    plugins::core(&home, "shop", SHOP);
    plugins::internal(&home, "stock", STOCK);
    home.config("[core]\nshop = \"{sources}/shop\"\n\n[internal]\nstock = \"{sources}/stock\"\n");
    let core = Core::start(&home);
    // Whoever cannot be built is in there.
    assert!(!core.printed().contains("error"), "{}", core.printed());
    let slow = connect(home.path()).expect("the core runs");
    let other = connect(home.path()).expect("the core runs");

    let (sender, bought) = channel();
    let buy = |sender: &std::sync::mpsc::Sender<_>| {
        let (session, sender) = (slow.clone(), sender.clone());
        thread::spawn(move || {
            let outcome = session.scope(shop::buy);
            sender.send(outcome).expect("is received");
        })
    };
    let first = buy(&sender);
    assert_eq!(other.call("stock.awaited", (1,)), Ok(true));
    quick_calls([&slow, &other]);
    assert!(bought.try_recv().is_err(), "it waits on");

    let (session, (spun, rounds)) = (slow.clone(), channel());
    let spinning = thread::spawn(move || {
        spun.send(session.scope(shop::spin)).expect("is received");
    });
    eventually("a skill that spins", || {
        other
            .call::<bool>("shop.spins", ())
            .ok()
            .filter(|spins| *spins)
    });
    quick_calls([&slow, &other]);
    assert!(rounds.try_recv().is_err(), "it works on");
    assert_eq!(other.call("shop.enough", ()), Ok(()));
    let rounds = rounds.recv_timeout(DEADLINE).expect("it ends");
    assert!(rounds.expect("it was enough") > 0);

    // Both wait for the last item.
    let second = buy(&sender);
    assert_eq!(other.call("stock.awaited", (2,)), Ok(true));
    assert!(bought.try_recv().is_err(), "both wait on");
    assert_eq!(other.call("stock.open", ()), Ok(()));
    let both = [0, 1].map(|_| bought.recv_timeout(DEADLINE).expect("it ends"));
    let taken = both.iter().filter(|outcome| matches!(outcome, Ok(0)));
    assert_eq!(taken.count(), 1, "{both:?}");
    let sold_out = both.iter().filter(|outcome| {
        matches!(
            outcome,
            Err(CallError::Skill(BuyError::SoldOut { left: 0 }))
        )
    });
    assert_eq!(sold_out.count(), 1, "{both:?}");
    for thread in [first, second, spinning] {
        thread.join().expect("no panic");
    }
    core.signal("TERM");
    core.wait().exited(0);
}
