//! Real libraries, real threads: what stays, what goes, and what is said about it.

mod cycles;
mod fixture;
mod gaps;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use super::{Followed, holds_here, run_here};
use fixture::{Calls as _, DEADLINE, Folder, close, counter, gone, retained};

/// Runs a body on a thread of this name and waits for its end.
fn on_thread<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    thread.expect("starts").join().expect("no panic")
}

fn run_only(followed: &Arc<Followed>) {
    run_here(|other| Arc::ptr_eq(other, followed));
}

#[test]
fn what_plugins_do_is_undone_on_the_thread_that_called() {
    on_thread("caller", || {
        let folder = Folder::new();
        let library = folder.rust();
        let drops = counter(&library, "count_in");
        assert!(!holds_here());
        for _ in 0..3 {
            assert_eq!(library.ask("work", 0), 4);
        }
        let followed = Arc::clone(library.followed());
        // Its own threads were joined, this one is still there.
        assert_eq!((drops.load(SeqCst), followed.threads()), (6, 0));
        assert!(holds_here());
        let reason = retained(&library);
        assert!(
            reason.starts_with("thread `caller` still holds"),
            "{reason}"
        );
        run_only(&followed);
        assert_eq!((drops.load(SeqCst), followed.pending()), (7, 0));
        assert!(!holds_here());
        gone(&library);
        // Closing again only looks again.
        gone(&library);
        assert!(library.symbol(b"work").is_err());
    });
}

#[test]
fn only_the_named_library_is_run() {
    on_thread("caller", || {
        let folder = Folder::new();
        let (one, other) = (folder.rust(), folder.rust());
        let (drops, others) = (counter(&one, "count_in"), counter(&other, "count_in"));
        one.call("touch");
        other.call("touch");
        one.call("chain");
        run_only(one.followed());
        assert_eq!((drops.load(SeqCst), others.load(SeqCst)), (3, 0));
        gone(&one);
        other.call("touch");
        assert!(retained(&other).contains("`caller`"));
        run_only(other.followed());
        assert_eq!(others.load(SeqCst), 1);
        gone(&other);
    });
}

#[test]
fn the_end_of_a_thread_undoes_what_it_holds() {
    let folder = Folder::new();
    let library = Arc::new(folder.rust());
    let drops = counter(&library, "count_in");
    let (ready, is_ready) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let ending = thread::Builder::new().name("ends-later".into()).spawn({
        let library = Arc::clone(&library);
        move || {
            library.call("touch");
            library.call("chain");
            ready.send(()).expect("is heard");
            assert!(released.recv().is_err());
        }
    });
    let ending = ending.expect("starts");
    is_ready.recv_timeout(DEADLINE).expect("is ready");
    let reason = retained(&library);
    assert!(
        reason.contains("thread `ends-later` still holds"),
        "{reason}"
    );
    assert!(library.followed().wait_clear(Some(Instant::now())).is_err());
    drop(release);
    let deadline = Instant::now() + DEADLINE;
    assert_eq!(library.followed().wait_clear(Some(deadline)), Ok(()));
    assert_eq!(drops.load(SeqCst), 3);
    gone(&library);
    ending.join().expect("no panic");
}

#[test]
fn a_thread_may_end_long_after_the_library() {
    let folder = Folder::new();
    let library = Arc::new(folder.rust());
    let drops = counter(&library, "count_in");
    let (ready, is_ready) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let ending = thread::spawn({
        let library = Arc::clone(&library);
        move || {
            assert_eq!(library.ask("work", 0), 4);
            run_only(library.followed());
            ready.send(()).expect("is heard");
            assert!(released.recv().is_err());
        }
    });
    is_ready.recv_timeout(DEADLINE).expect("is ready");
    gone(&library);
    assert_eq!(drops.load(SeqCst), 3);
    drop(release);
    ending.join().expect("no panic");
    assert_eq!(drops.load(SeqCst), 3);
}

#[test]
fn a_forgotten_thread_is_named_and_the_library_goes_when_it_has_ended() {
    on_thread("caller", || {
        let folder = Folder::new();
        let library = folder.rust();
        let drops = counter(&library, "count_in");
        library.call("leak");
        run_only(library.followed());
        assert_eq!(library.followed().threads(), 1);
        let counted = |except| library.followed().wait_threads(except, Instant::now());
        assert_eq!((counted("another"), counted("forgotten")), (1, 0));
        assert_eq!(
            retained(&library),
            "thread `forgotten`, which it started, still runs"
        );
        library.call("release");
        // Letting it go has made this thread hold something again, perhaps.
        run_only(library.followed());
        let deadline = Some(Instant::now() + DEADLINE);
        library
            .followed()
            .wait_clear(deadline)
            .expect("becomes clear");
        assert_eq!(counted("another"), 0);
        assert_eq!(drops.load(SeqCst), 1);
        gone(&library);
    });
}

#[test]
fn values_of_keys_are_destroyed_in_rounds() {
    on_thread("caller", || {
        let folder = Folder::new();
        let library = folder.c(&[]);
        let destroyed = counter(&library, "make_keys");
        let followed = Arc::clone(library.followed());
        assert_eq!(library.ask("set_plain", 1), 0);
        assert_eq!(
            followed.pending(),
            0,
            "without a destructor there is nothing to do"
        );
        assert_eq!(library.ask("set_key", 3), 0);
        assert_eq!(library.ask("set_key", 3), 0);
        assert_eq!(followed.pending(), 1);
        let reason = retained(&library);
        assert_eq!(reason, "thread `caller` still holds values of its keys");
        run_only(&followed);
        assert_eq!((destroyed.load(SeqCst), followed.pending()), (3, 0));
        // A value that was taken away is no longer to be destroyed.
        assert_eq!(library.ask("set_key", 3), 0);
        assert_eq!(library.ask("set_key", 0), 0);
        assert_eq!(followed.clear(), Ok(()));
        // One that comes back for ever is given up, as the system does.
        assert_eq!(library.ask("set_stubborn", 1), 0);
        run_only(&followed);
        assert_eq!((destroyed.load(SeqCst), followed.pending()), (7, 0));
        assert_eq!(followed.keys().len(), 3);
        gone(&library);
        assert!(followed.keys().is_empty());
    });
}

#[test]
fn the_end_of_a_thread_destroys_values_of_keys() {
    let folder = Folder::new();
    let library = Arc::new(folder.c(&[]));
    let destroyed = counter(&library, "make_keys");
    on_thread("ends", {
        let library = Arc::clone(&library);
        move || {
            assert_eq!(library.ask("set_key", 2), 0);
            assert_eq!(library.ask("set_stubborn", 1), 0);
        }
    });
    assert_eq!(destroyed.load(SeqCst), 2 + 4);
    gone(&library);
}

#[test]
fn a_deleted_key_is_nobodys() {
    on_thread("caller", || {
        let folder = Folder::new();
        let library = folder.c(&[]);
        let destroyed = counter(&library, "make_keys");
        assert_eq!(library.ask("set_key", 1), 0);
        assert_eq!(library.followed().pending(), 1);
        assert_eq!(library.ask("delete_key", 0), 0);
        assert_eq!(library.followed().clear(), Ok(()));
        assert_eq!(library.followed().keys().len(), 2);
        gone(&library);
        assert_eq!(destroyed.load(SeqCst), 0);
    });
}

#[test]
fn a_thread_that_ends_itself_is_followed_to_its_end() {
    let folder = Folder::new();
    let library = folder.c(&[]);
    let destroyed = counter(&library, "make_keys");
    assert_eq!(library.ask("leak", 0), 0);
    assert_eq!(library.followed().threads(), 1);
    assert!(
        close(&library)
            != super::Outcome::Unmapped {
                bytes: library.followed().bytes()
            }
    );
    library.call("release");
    let deadline = Instant::now() + DEADLINE;
    assert_eq!(library.followed().wait_clear(Some(deadline)), Ok(()));
    assert_eq!(destroyed.load(SeqCst), 2);
    gone(&library);
}

#[test]
fn what_a_library_does_while_it_is_closed_is_forgotten() {
    on_thread("closes", || {
        let folder = Folder::new();
        let library = folder.c(&["-DKEY_IN_DESTRUCTOR"]);
        counter(&library, "make_keys");
        gone(&library);
        assert_eq!(library.followed().clear(), Ok(()));
    });
}
