//! Many generations under threads that live through all of them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use nix::libc;

use super::super::{Opened, run_here};
use super::fixture::{Calls as _, DEADLINE, Folder, counter, gone, rust};

/// How many generations there are.
const GENERATIONS: usize = 300;

/// What `statm` counts in.
const PAGE: usize = 4096;

/// When the memory is measured first: what is made once is there by then.
const WARM: usize = 50;

/// A thread that calls what it is given, and leaves what it had before.
struct Caller {
    turn: Sender<Arc<Opened>>,
    done: Receiver<()>,
}

fn caller(number: usize) -> (Caller, thread::JoinHandle<()>) {
    let (turn, turns) = mpsc::channel::<Arc<Opened>>();
    let (did, done) = mpsc::channel();
    let thread = thread::Builder::new().name(format!("caller-{number}"));
    let thread = thread.spawn(move || {
        for library in turns {
            // The one before has been left: this thread is outside of it.
            run_here(|followed| !Arc::ptr_eq(followed, library.followed()));
            for _ in 0..3 {
                assert_eq!(library.ask("work", 0), 4);
            }
            drop(library);
            did.send(()).expect("is heard");
        }
    });
    (Caller { turn, done }, thread.expect("starts"))
}

#[test]
fn three_hundred_generations_under_two_threads_leave_nothing() {
    let folder = Folder::new();
    let bytes = rust();
    let (callers, threads): (Vec<_>, Vec<_>) = (0..2).map(caller).unzip();
    let mut serving: Option<(Arc<Opened>, Arc<AtomicUsize>)> = None;
    let mut warm = (0, 0);
    for generation in 1..=GENERATIONS {
        let library = Arc::new(folder.open(&bytes));
        let drops = counter(&library, "count_in");
        for caller in &callers {
            caller.turn.send(Arc::clone(&library)).expect("lives");
        }
        for caller in &callers {
            caller.done.recv_timeout(DEADLINE).expect("has called");
        }
        if let Some((old, drops)) = serving.replace((library, drops)) {
            end(&old, &drops);
        }
        if generation == WARM {
            warm = memory();
        }
    }
    let (heap, pages) = memory();
    let of_each = |now: usize, then: usize| now.saturating_sub(then) / (GENERATIONS - WARM);
    let (heap, pages) = (of_each(heap, warm.0), of_each(pages, warm.1));
    println!("a generation leaves {heap} bytes of heap and {pages} of resident memory");
    // Other tests allocate meanwhile; the library alone would be several times as much. Resident
    // memory says nothing when a sanitizer keeps what was freed.
    assert!(heap < 64 * 1024, "{heap} bytes a generation");
    let mapped = fs::read_to_string("/proc/self/maps").expect("readable");
    let folder_name = folder.path().to_str().expect("plain");
    let left = mapped.lines().filter(|line| line.contains(folder_name));
    let mut left: Vec<&str> = left
        .filter_map(|line| line.split("/library ").nth(1))
        .collect();
    left.dedup();
    assert_eq!(left.len(), 1, "only the last one: {left:?}");

    drop(callers);
    for thread in threads {
        thread.join().expect("no panic");
    }
    let (last, drops) = serving.expect("there were some");
    end(&last, &drops);
}

/// One drop for each of the two callers and for each of the twelve threads of their six calls.
fn end(library: &Opened, drops: &AtomicUsize) {
    let deadline = Instant::now() + DEADLINE;
    assert_eq!(library.followed().wait_clear(Some(deadline)), Ok(()));
    assert_eq!(drops.load(SeqCst), 2 + 12);
    gone(library);
    assert_eq!(drops.load(SeqCst), 2 + 12);
}

/// Returns how many bytes of the heap are in use, and how many of this process are resident.
fn memory() -> (usize, usize) {
    // SAFETY: a plain question to the allocator.
    let heap = unsafe { libc::mallinfo2() };
    let status = fs::read_to_string("/proc/self/statm").expect("readable");
    let mut pages = status.split(' ').map(|pages| pages.parse::<usize>());
    let resident = pages.nth(1).expect("is there").expect("a number");
    (heap.uordblks + heap.hblkhd, resident * PAGE)
}
