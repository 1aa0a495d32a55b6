//! Each model is a few threads that do what those of two processes do with one way of a ring.

use std::iter;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::lane::{Indices, Lane, Reader, Writer};
use super::sync::{AtomicU64, Ordering};

/// Both ends, and the memory between them. It has room for two messages of a word each.
struct Way {
    indices: Indices,
    words: Vec<AtomicU64>,
    writer: Writer,
    reader: Reader,
    /// The reader was told over the socket to look.
    told: AtomicBool,
    /// How many messages were taken.
    taken: AtomicU64,
}

impl Way {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            indices: Indices::default(),
            words: iter::repeat_with(|| AtomicU64::new(0)).take(4).collect(),
            writer: Writer::new(),
            reader: Reader::new(),
            told: AtomicBool::new(false),
            taken: AtomicU64::new(0),
        })
    }

    fn lane(&self) -> Lane<'_> {
        Lane {
            indices: &self.indices,
            words: &self.words,
        }
    }

    fn push(&self, number: u64) -> Option<u64> {
        let bytes = number.to_ne_bytes();
        let (first, second) = bytes.split_at(3);
        self.writer.push(self.lane(), &[first, second]).unwrap()
    }

    fn pop(&self) -> Option<u64> {
        let mut found = Vec::new();
        let is_there = self.reader.pop(self.lane(), &mut found).unwrap();
        is_there.then(|| u64::from_ne_bytes(found.try_into().unwrap()))
    }

    /// Puts a message, and tells of it if nobody attends.
    fn send(&self, number: u64) {
        self.push(number).expect("there is room");
        if !self.writer.is_attended(self.lane()) {
            self.told.store(true, Ordering::Relaxed);
        }
    }

    /// Takes all that there is, as a thread does before it sleeps.
    fn drain(&self) {
        while self.pop().is_some() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks for a while, then goes to sleep.
    fn look(&self) {
        self.reader.attend(self.lane());
        if self.reader.has_message(self.lane()) {
            self.drain();
        }
        if self.reader.leave(self.lane()) {
            self.drain();
        }
    }

    /// Now all threads sleep: a message that is still there is one that the reader was told of.
    fn is_not_forgotten(&self, sent: u64) {
        let taken = self.taken.load(Ordering::Relaxed);
        assert!(
            taken == sent || self.told.load(Ordering::Relaxed),
            "{taken} of {sent} taken, and everybody sleeps"
        );
        self.drain();
        assert_eq!(self.taken.load(Ordering::Relaxed), sent);
    }
}

fn spawn(way: &Arc<Way>, body: impl FnOnce(&Way) + 'static) -> thread::JoinHandle<()> {
    let way = Arc::clone(way);
    thread::spawn(move || body(&way))
}

/// The writer finds that nobody attends, or the reader that leaves finds the message.
#[test]
fn no_message_is_slept_over() {
    loom::model(|| {
        let way = Way::new();
        let reader = spawn(&way, Way::look);
        way.send(1);
        reader.join().unwrap();
        way.is_not_forgotten(1);
    });
}

/// As above, with a reader that comes back, and a second message.
#[test]
fn no_message_is_slept_over_by_who_comes_back() {
    loom::model(|| {
        let way = Way::new();
        let reader = spawn(&way, |way| {
            way.look();
            way.look();
        });
        way.send(1);
        way.send(2);
        reader.join().unwrap();
        way.is_not_forgotten(2);
    });
}

/// Two threads look, and leave one after the other.
#[test]
fn no_message_is_slept_over_by_the_last_of_two() {
    loom::model(|| {
        let way = Way::new();
        let readers = [(); 2].map(|()| spawn(&way, Way::look));
        way.send(1);
        readers.into_iter().for_each(|r| r.join().unwrap());
        way.is_not_forgotten(1);
    });
}

/// A thread that was told of the message before takes all there is without attending, and finds
/// nothing; just then the message comes, and the one that attends leaves.
#[test]
fn no_message_is_slept_over_between_two_that_take() {
    loom::model(|| {
        let way = Way::new();
        let readers = [spawn(&way, Way::look), spawn(&way, Way::drain)];
        way.send(1);
        readers.into_iter().for_each(|r| r.join().unwrap());
        way.is_not_forgotten(1);
    });
}

/// More messages than there is room for: each comes out once, whole and in order, and one whose position
/// is taken is out.
#[test]
fn messages_come_out_as_they_went_in() {
    loom::model(|| {
        let way = Way::new();
        let reader = spawn(&way, |way| {
            let mut taken = 0;
            for _ in 0..4 {
                match way.pop() {
                    Some(number) => {
                        taken += 1;
                        assert_eq!(number, taken);
                        way.taken.store(taken, Ordering::Relaxed);
                    }
                    None => thread::yield_now(),
                }
            }
        });
        let mut sent = 0;
        let mut last = None;
        for _ in 0..4 {
            match way.push(sent + 1) {
                Some(position) => {
                    sent += 1;
                    last = Some(position);
                }
                None => thread::yield_now(),
            }
        }
        let last = last.expect("the first two find room");
        let is_taken = way.writer.is_taken(way.lane(), last);
        reader.join().unwrap();
        let mut taken = way.taken.load(Ordering::Relaxed);
        assert!(taken == sent || !is_taken, "{taken} of {sent} taken");
        while let Some(number) = way.pop() {
            taken += 1;
            assert_eq!(number, taken);
        }
        assert_eq!(taken, sent);
        assert!(way.writer.is_taken(way.lane(), last));
    });
}

/// Two writers: both messages come out, once.
#[test]
fn writers_do_not_overwrite_each_other() {
    loom::model(|| {
        let way = Way::new();
        let writer = spawn(&way, |way| {
            way.push(1).expect("there is room");
        });
        way.push(2).expect("there is room");
        writer.join().unwrap();
        let found = [way.pop().unwrap(), way.pop().unwrap()];
        assert!(found == [1, 2] || found == [2, 1]);
        assert_eq!(way.pop(), None);
    });
}
