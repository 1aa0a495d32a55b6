//! What followed libraries call instead of the system's functions.
//!
//! A call is followed if what it hands over lies in a followed library; otherwise it goes on to the
//! system as it is. The functions do not panic: they allocate, take locks and call the system.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

use super::image::Wanted;
use super::record::{Destructor, Followed};
use super::{registry, thread};

/// A thread's body; the system ends threads by unwinding them.
type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    fn __cxa_thread_atexit_impl(
        destructor: Destructor,
        object: *mut c_void,
        dso: *mut c_void,
    ) -> c_int;

    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// How many keys followed libraries have deleted.
static DELETED: AtomicU64 = AtomicU64::new(0);

/// Uses of these start threads or keep destructors where no slot shows it.
const REFUSED: &[&[u8]] = &[
    b"_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
    b"clone",
    b"mq_notify",
    b"on_exit",
    b"thrd_create",
    b"timer_create",
    b"tss_create",
];

/// Says what a library that uses this symbol shall be given.
pub(super) fn wanted(symbol: &[u8]) -> Wanted {
    let hook = match symbol {
        // The first is what C++ calls, with the same arguments.
        b"__cxa_thread_atexit" | b"__cxa_thread_atexit_impl" => thread_atexit as *const (),
        b"pthread_create" => create_thread as *const (),
        b"pthread_key_create" => create_key as *const (),
        b"pthread_key_delete" => delete_key as *const (),
        b"pthread_setspecific" => set_value as *const (),
        refused if REFUSED.contains(&refused) => return Wanted::Refused,
        _ => return Wanted::Left,
    };
    Wanted::Replaced(hook.addr())
}

/// Returns how many keys followed libraries have deleted so far.
pub(super) fn deleted_keys() -> u64 {
    DELETED.load(Ordering::SeqCst)
}

/// Deletes all keys of a library.
pub(super) fn forget_keys(followed: &Followed) {
    for key in followed.keys() {
        // SAFETY: the library made the key and has not deleted it; it will not be called again.
        registry::delete_key(key, || unsafe { libc::pthread_key_delete(key) });
        followed.key_deleted(key);
    }
}

/// As `__cxa_thread_atexit_impl`: calls `destructor(object)` at the end of this thread.
unsafe extern "C" fn thread_atexit(
    destructor: Destructor,
    object: *mut c_void,
    dso: *mut c_void,
) -> c_int {
    let followed = registry::at(dso.addr()).or_else(|| registry::at(destructor as usize));
    match followed {
        Some(followed) => {
            thread::register(followed, destructor, object);
            0
        }
        // SAFETY: the caller's arguments, for the function that the caller meant.
        None => unsafe { __cxa_thread_atexit_impl(destructor, object, dso) },
    }
}

/// As `pthread_key_create`. The system is not told of the destructor: it would call it on its own.
unsafe extern "C" fn create_key(
    key: *mut libc::pthread_key_t,
    destructor: Option<Destructor>,
) -> c_int {
    let followed = destructor
        .and_then(|destructor| registry::at(destructor as usize))
        // A key without a destructor is known by the static that it is kept in.
        .or_else(|| registry::at(key.addr()));
    let Some(followed) = followed else {
        // SAFETY: the caller's arguments, for the function that the caller meant.
        return unsafe { libc::pthread_key_create(key, destructor) };
    };
    registry::add_key(&followed, || {
        // SAFETY: the caller gives a place for the key.
        let status = unsafe { libc::pthread_key_create(key, None) };
        if status != 0 {
            return Err(status);
        }
        // SAFETY: as above; it has just been written.
        let key = unsafe { *key };
        followed.key_made(key, destructor);
        Ok(key)
    })
}

/// As `pthread_key_delete`.
unsafe extern "C" fn delete_key(key: libc::pthread_key_t) -> c_int {
    DELETED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the caller's argument, for the function that the caller meant.
    let (followed, status) = registry::delete_key(key, || unsafe { libc::pthread_key_delete(key) });
    if let Some(followed) = followed {
        followed.key_deleted(key);
    }
    status
}

/// As `pthread_setspecific`.
unsafe extern "C" fn set_value(key: libc::pthread_key_t, value: *const c_void) -> c_int {
    // SAFETY: the caller's arguments, for the function that the caller meant.
    let status = unsafe { libc::pthread_setspecific(key, value) };
    if status == 0
        && let Some(followed) = registry::of_key(key)
    {
        thread::key_set(&followed, key, value.cast_mut());
    }
    status
}

struct Beginning {
    start: Start,
    argument: *mut c_void,
    followed: Arc<Followed>,
}

/// As `pthread_create`: the thread counts as the library's from now until it can no longer run any
/// code of it.
unsafe extern "C" fn create_thread(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let Some(followed) = registry::at(start as usize) else {
        // SAFETY: the caller's arguments, for the function that the caller meant.
        return unsafe { pthread_create(thread, attributes, start, argument) };
    };
    if followed.is_closing() {
        // Its code is about to go.
        return libc::EAGAIN;
    }
    followed.thread_starts();
    let beginning = Box::into_raw(Box::new(Beginning {
        start,
        argument,
        followed,
    }));
    // SAFETY: the caller's arguments; `begin` gets what it expects.
    let status = unsafe { pthread_create(thread, attributes, begin, beginning.cast()) };
    if status != 0 {
        // SAFETY: no thread has begun, so it is still this function's.
        let beginning = unsafe { Box::from_raw(beginning) };
        beginning.followed.thread_did_not_start();
    }
    status
}

/// The body of a library's threads. It keeps nothing that would have to be dropped: a thread that
/// ends itself never returns to here.
unsafe extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: `create_thread` has made it for this thread.
    let (start, argument) = unsafe { take(beginning.cast()) };
    // SAFETY: the library has asked for this call on a thread of its own.
    unsafe { start(argument) }
}

/// # Safety
///
/// The pointer comes from `create_thread` and is given away.
unsafe fn take(beginning: *mut Beginning) -> (Start, *mut c_void) {
    // SAFETY: as this function's.
    let beginning = *unsafe { Box::from_raw(beginning) };
    thread::began(beginning.followed);
    (beginning.start, beginning.argument)
}
