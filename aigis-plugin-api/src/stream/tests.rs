use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn nothing_is_made_that_was_not_asked_for() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let stream = Stream::produce(|mut sender| async move {
        loop {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            sender.send(n).await;
        }
    });
    assert_eq!(made.load(Ordering::SeqCst), 0);
    let taken: Vec<usize> = stream
        .take(3)
        .map(|item| item.expect("does not fail"))
        .collect();
    assert_eq!(taken, [0, 1, 2]);
    assert_eq!(made.load(Ordering::SeqCst), 3);
}

#[test]
fn what_is_encoded_is_handed_on_as_it_is() {
    let there = Stream::<u64>::from_items(Stream::of([1_u64, 300]).into_items());
    let back = Stream::<u64>::from_items(there.into_items());
    assert_eq!(back.collect::<Result<Vec<_>, _>>(), Ok(vec![1, 300]));
}

#[test]
fn an_item_of_another_type_ends_the_stream() {
    let mut stream = Stream::<u8>::from_items(Stream::of([1_u64, 300, 2]).into_items());
    assert_eq!(stream.next(), Some(Ok(1)));
    assert!(matches!(
        stream.next(),
        Some(Err(CallError::Unserializable { .. }))
    ));
    assert_eq!(stream.next(), None);
}

#[test]
fn a_thread_that_completes_calls_does_not_wait_for_items() {
    backend::without_blocking(|| {
        let mut stream = Stream::of([1]);
        assert!(matches!(
            stream.next(),
            Some(Err(CallError::WouldBlock { .. }))
        ));
    });
}
