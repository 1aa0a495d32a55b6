//! Skills whose values are made of memory, and an exact account of that memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use aigis_plugin_api::{CallError, skill_type, skills};

use crate::fake_host::FakeHost;

thread_local! {
    /// The blocks that this thread has allocated and not freed. The test runs on one thread; those of
    /// the test program's own are no concern of it.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts blocks of this thread.
pub fn count(blocks: isize) {
    LIVE.set(LIVE.get() + blocks);
}

static MADE_AT: AtomicUsize = AtomicUsize::new(0);

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    name: String,
    parts: Vec<Part>,
}

#[skill_type]
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Nothing,
    Text(String),
    Both {
        texts: Vec<String>,
        inner: Box<Result<String, Vec<u64>>>,
    },
}

#[skills]
pub mod post {
    use super::*;

    pub fn text(len: usize) -> String {
        let text = "x".repeat(len);
        MADE_AT.store(text.as_ptr().addr(), Ordering::SeqCst);
        text
    }

    pub fn send(parcel: Parcel, others: &[Parcel]) -> Vec<Parcel> {
        others.iter().cloned().chain([parcel]).collect()
    }

    pub fn refuse(parcel: Parcel) -> Result<Parcel, String> {
        Err(parcel.name)
    }
}

mod imported {
    use super::*;

    aigis_plugin_api::import! {
        pub mod post {
            fn text(len: usize) -> String;
            fn send(parcel: Parcel, others: &[Parcel]) -> Vec<Parcel>;
            fn refuse(parcel: Parcel) -> Result<Parcel, String>;
        }
    }
}

fn parcel() -> Parcel {
    let text = |text: &str| text.to_owned();
    Parcel {
        name: text("name"),
        parts: vec![
            Part::Nothing,
            Part::Text(text("part")),
            Part::Both {
                texts: vec![text(""), text("b")],
                inner: Box::new(Ok(text("c"))),
            },
            Part::Both {
                texts: vec![],
                inner: Box::new(Err(vec![1, 2])),
            },
        ],
    }
}

fn round() {
    let parcels = [parcel(), parcel()];
    let sent = imported::post::send(parcel(), &parcels).expect("returns");
    assert_eq!(sent, [parcel(), parcel(), parcel()]);
    assert_eq!(
        imported::post::refuse(parcel()),
        Err(CallError::Skill("name".to_owned()))
    );
}

/// Makes direct calls, and checks who owns their results and that every block is freed once.
pub fn check(adopted: bool) {
    let host = FakeHost::shared();
    for len in [1, 100, 100_000] {
        let mut text = imported::post::text(len).expect("returns");
        let same = text.as_ptr().addr() == MADE_AT.load(Ordering::SeqCst);
        assert_eq!(same, adopted, "a text of {len} bytes");
        text.push('y');
        assert_eq!(text.len(), len + 1);
    }
    round();
    let before = LIVE.get();
    for _ in 0..50 {
        round();
    }
    assert_eq!(LIVE.get(), before, "as many blocks as before");
    for name in ["post.text", "post.send", "post.refuse"] {
        assert!(host.entered(name) > 0, "{name} was called directly");
        assert_eq!(host.encoded(name), 0, "{name} was not encoded");
    }
}
