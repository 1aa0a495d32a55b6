//! What one thread has to destroy of followed libraries, and when it does.
//!
//! A thread destroys in the order that the system keeps, too: first thread-locals, the last one
//! first, until there are none; then the values of keys, up to four rounds, as destructors may make
//! new values.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, OnceLock};

use nix::libc;

use super::process::{self, Tid};
use super::record::{Destructor, Followed};

/// As often as the system looks for new values (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const ROUNDS: u32 = 4;

/// What this thread has to destroy. It is made when it is first needed, and ends with the thread.
struct Here {
    thread: Tid,
    destructors: RefCell<Vec<Registered>>,
    /// Values of keys. The system's own are no use at the end of a thread: for a key that it knows no
    /// destructor of, it forgets them when it comes by.
    values: RefCell<Vec<Value>>,
    /// The library that has started this thread.
    starter: OnceCell<Arc<Followed>>,
    /// Destructors are running here.
    running: Cell<bool>,
    /// How often the end of the thread has come by.
    rounds: Cell<u32>,
}

struct Registered {
    destructor: Destructor,
    object: *mut c_void,
    followed: Arc<Followed>,
}

struct Value {
    key: libc::pthread_key_t,
    value: *mut c_void,
    followed: Arc<Followed>,
}

thread_local! {
    /// Has no destructor, so it can be used to the very end of the thread.
    static HERE: Cell<*const Here> = const { Cell::new(ptr::null()) };

    /// Runs the destructors of thread-locals where those of this thread run.
    static END: End = const { End };
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        if let Some(here) = existing() {
            here.run_destructors(&|_| true);
        }
    }
}

/// The key whose destructor is the last that this thread does for libraries.
static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

/// Makes ready what the end of a thread needs. Returns false if the system has no key left.
pub(super) fn prepare() -> bool {
    key().is_some()
}

fn key() -> Option<libc::pthread_key_t> {
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the key's values are made by `here` alone, and fit the destructor.
        let status = unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) };
        (status == 0).then_some(key)
    })
}

fn existing<'a>() -> Option<&'a Here> {
    // SAFETY: what is there belongs to this thread and is freed by `thread_ends` alone, after it
    // has taken it out of `HERE`, when no code that could have borrowed it is below it.
    unsafe { HERE.get().as_ref() }
}

fn here<'a>() -> &'a Here {
    if let Some(here) = existing() {
        return here;
    }
    let here = Box::into_raw(Box::new(Here {
        thread: process::this_thread(),
        destructors: RefCell::default(),
        values: RefCell::default(),
        starter: OnceCell::new(),
        running: Cell::new(false),
        rounds: Cell::new(0),
    }));
    HERE.set(here);
    if let Some(key) = key() {
        // If it fails, nobody destroys what is kept here: the libraries are never clear.
        // SAFETY: the key is never deleted.
        unsafe { libc::pthread_setspecific(key, here.cast()) };
    }
    // When thread-locals are gone already, the key remains.
    let _ = END.try_with(|_| ());
    // SAFETY: as in `existing`.
    unsafe { &*here }
}

/// Returns the address of the books of the library that has started this thread. Takes no lock and
/// allocates nothing.
pub(crate) fn starter_here() -> Option<usize> {
    let starter = existing()?.starter.get()?;
    Some(Arc::as_ptr(starter).addr())
}

/// Notes a destructor of a thread-local.
pub(super) fn register(followed: Arc<Followed>, destructor: Destructor, object: *mut c_void) {
    let here = here();
    followed.thread_local_made(here.thread);
    here.destructors.borrow_mut().push(Registered {
        destructor,
        object,
        followed,
    });
}

/// Notes that this thread's value of a key has been set.
pub(super) fn key_set(followed: &Arc<Followed>, key: libc::pthread_key_t, value: *mut c_void) {
    let must_destroy = followed.key_set(key, process::this_thread(), !value.is_null());
    if let Some(here) = existing() {
        here.values.borrow_mut().retain(|known| known.key != key);
    }
    if must_destroy {
        here().values.borrow_mut().push(Value {
            key,
            value,
            followed: Arc::clone(followed),
        });
    }
}

/// Notes that this thread was started by a library.
pub(super) fn began(followed: Arc<Followed>) {
    let here = here();
    followed.thread_began(here.thread);
    // This is the first thing that the thread does.
    let _ = here.starter.set(followed);
}

/// Tells, at the cost of reading two words, whether this thread has anything to destroy.
pub(crate) fn holds_here() -> bool {
    existing().is_some_and(|here| {
        !here.destructors.borrow().is_empty() || !here.values.borrow().is_empty()
    })
}

/// Destroys what this thread holds of the libraries that `may` names, as its end would.
///
/// Name only libraries that this thread is not inside of and will not call again: a thread-local
/// that has been destroyed cannot be used any more. Does nothing inside of such a destructor.
pub(crate) fn run_here(may: impl Fn(&Arc<Followed>) -> bool) {
    let Some(here) = existing() else { return };
    // A library's own thread is inside of it from its beginning to its end.
    let own = |library: &Arc<Followed>| {
        let starter = here.starter.get();
        starter.is_some_and(|starter| Arc::ptr_eq(starter, library))
    };
    let may = |library: &Arc<Followed>| !own(library) && may(library);
    for _ in 0..ROUNDS {
        here.run_destructors(&may);
        if !here.run_keys(&may) {
            return;
        }
    }
    here.run_destructors(&may);
    here.abandon_keys(&may);
}

/// Forgets what this thread holds of a library whose code is gone.
pub(super) fn forget_here(followed: &Arc<Followed>) {
    let Some(here) = existing() else { return };
    let gone = |other: &Arc<Followed>| Arc::ptr_eq(other, followed);
    let mut destructors = here.destructors.borrow_mut();
    let before = destructors.len();
    destructors.retain(|registered| !gone(&registered.followed));
    let forgotten = before - destructors.len();
    drop(destructors);
    if forgotten > 0 {
        followed.thread_locals_gone(here.thread, forgotten);
    }
    here.abandon_keys(&gone);
}

impl Here {
    fn run_destructors(&self, may: &dyn Fn(&Arc<Followed>) -> bool) {
        if self.running.replace(true) {
            return;
        }
        while let Some(registered) = self.take(may) {
            // SAFETY: the library has registered this call for this thread. It is made once, the
            // library is mapped (it is not clear), and this thread is not inside of it.
            unsafe { (registered.destructor)(registered.object) };
            registered.followed.thread_locals_gone(self.thread, 1);
        }
        self.running.set(false);
    }

    /// Takes the last one; none is borrowed while it runs, as it may register new ones.
    fn take(&self, may: &dyn Fn(&Arc<Followed>) -> bool) -> Option<Registered> {
        let mut destructors = self.destructors.borrow_mut();
        let last = destructors.iter().rposition(|r| may(&r.followed))?;
        Some(destructors.remove(last))
    }

    /// Destroys each value of a key once. Returns whether there was any.
    fn run_keys(&self, may: &dyn Fn(&Arc<Followed>) -> bool) -> bool {
        if self.running.replace(true) {
            return false;
        }
        let values = self.take_values(may);
        let mut any = false;
        for value in values {
            // It may have been deleted, or set anew by one of the destructors before.
            let Some(destructor) = value.followed.take_key(value.key, self.thread) else {
                continue;
            };
            any = true;
            // SAFETY: the key is the library's and not deleted; the system, too, takes the value
            // away first.
            unsafe { libc::pthread_setspecific(value.key, ptr::null()) };
            // SAFETY: the library has given this destructor for the key's values. The library is
            // mapped (it is not clear), and this thread is not inside of it.
            unsafe { destructor(value.value) };
            value.followed.destroyed(self.thread);
        }
        self.running.set(false);
        any
    }

    /// Gives up values that destructors make again and again, as the system does.
    fn abandon_keys(&self, may: &dyn Fn(&Arc<Followed>) -> bool) {
        for value in self.take_values(may) {
            value.followed.key_set(value.key, self.thread, false);
        }
    }

    fn take_values(&self, may: &dyn Fn(&Arc<Followed>) -> bool) -> Vec<Value> {
        let mut values = self.values.borrow_mut();
        values
            .extract_if(.., |value| may(&value.followed))
            .collect()
    }
}

/// The system calls it at the end of a thread, once in each round, while the value is set.
unsafe extern "C" fn thread_ends(here: *mut c_void) {
    let key = key().unwrap_or_default();
    let pointer = here.cast::<Here>();
    {
        // SAFETY: the value is this thread's `Here`, which this function alone frees.
        let here = unsafe { &*pointer };
        here.run_destructors(&|_| true);
        here.run_keys(&|_| true);
        here.run_destructors(&|_| true);
        here.rounds.set(here.rounds.get() + 1);
        // A library's own thread is over when nothing of the thread can call it any more: after
        // the destructors of everyone else's keys, so in the last round.
        let more = here.starter.get().is_some() || !here.values.borrow().is_empty();
        if more && here.rounds.get() < ROUNDS {
            // SAFETY: the key is never deleted, and the value is what it was.
            if unsafe { libc::pthread_setspecific(key, pointer.cast_const().cast()) } == 0 {
                return;
            }
        }
        here.abandon_keys(&|_| true);
    }
    HERE.set(ptr::null());
    // SAFETY: made by `here` with `Box`; nothing points to it any more.
    let here = unsafe { Box::from_raw(pointer) };
    let (thread, starter) = (here.thread, here.starter.get().cloned());
    drop(here);
    if let Some(starter) = starter {
        starter.thread_ended(thread);
    }
}
