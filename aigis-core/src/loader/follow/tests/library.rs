//! A library that leaves behind whatever a library can. It knows nothing of being followed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// Counts for the host, in memory of the host.
static DROPS: OnceLock<&'static AtomicUsize> = OnceLock::new();

/// What leaked threads wait for.
static RELEASE: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);

struct Counted(Vec<u8>);

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(self.0[0], 1);
        if let Some(drops) = DROPS.get() {
            drops.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Makes another thread-local when it is destroyed, and that one another.
struct First;

impl Drop for First {
    fn drop(&mut self) {
        SECOND.with(|_| ());
    }
}

struct Second(#[expect(dead_code, reason = "only dropped")] Counted);

impl Drop for Second {
    fn drop(&mut self) {
        THIRD.with(|third| third.borrow_mut().0.push(1));
    }
}

thread_local! {
    static OWN: RefCell<Counted> = RefCell::new(Counted(vec![1; 1000]));
    static FIRST: First = const { First };
    static SECOND: Second = Second(Counted(vec![1]));
    static THIRD: RefCell<Counted> = RefCell::new(Counted(vec![1]));
}

#[unsafe(no_mangle)]
pub extern "C" fn count_in(drops: &'static AtomicUsize) {
    std::panic::set_hook(Box::new(|_| {}));
    let _ = DROPS.set(drops);
}

/// One counted drop for each thread that has been here.
#[unsafe(no_mangle)]
pub extern "C" fn touch() {
    OWN.with(|own| own.borrow_mut().0.push(1));
}

/// Two counted drops, both in thread-locals that are made by destructors.
#[unsafe(no_mangle)]
pub extern "C" fn chain() {
    FIRST.with(|_| ());
}

/// What plugins do. One counted drop for each thread that has been here, and two for its threads.
#[unsafe(no_mangle)]
pub extern "C" fn work() -> u32 {
    touch();
    let panicked = std::panic::catch_unwind(|| panic!("caught")).is_err();
    let joined = thread::spawn(|| {
        touch();
        1
    });
    let joined = joined.join().unwrap_or(0);
    let (_sender, receiver) = mpsc::channel::<()>();
    let empty = receiver.recv_timeout(Duration::from_micros(10)).is_err();
    let scoped = thread::scope(|scope| {
        let one = scope.spawn(|| {
            touch();
            1
        });
        one.join().unwrap_or(0)
    });
    u32::from(panicked) + joined + u32::from(empty) + scoped
}

/// Starts a thread that nobody joins. One counted drop when it has ended.
#[unsafe(no_mangle)]
pub extern "C" fn leak() {
    let (release, released) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let named = thread::Builder::new().name("forgotten".into());
    let leaked = named.spawn(move || {
        touch();
        let _ = ready.send(());
        let _ = released.recv();
    });
    leaked.expect("starts");
    is_ready.recv().expect("is ready");
    *RELEASE.lock().unwrap() = Some(release);
}

/// Lets the leaked thread go.
#[unsafe(no_mangle)]
pub extern "C" fn release() {
    *RELEASE.lock().unwrap() = None;
}
