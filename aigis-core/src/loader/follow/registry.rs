//! Which followed library an address or a key belongs to.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::libc;

use super::record::Followed;

/// One for the process, as its libraries and its keys are.
static REGISTRY: RwLock<Registry> = RwLock::new(Registry {
    libraries: Vec::new(),
    keys: BTreeMap::new(),
});

struct Registry {
    libraries: Vec<Arc<Followed>>,
    keys: BTreeMap<libc::pthread_key_t, Arc<Followed>>,
}

/// Adds a library that was just opened.
pub(super) fn add(followed: &Arc<Followed>, range: &Range<usize>) {
    let mut registry = write();
    // One that stayed mapped after it was closed may have gone since: its place is taken.
    registry.libraries.retain(|known| !known.overlaps(range));
    registry.libraries.push(Arc::clone(followed));
}

/// Removes a library that is no longer mapped.
pub(super) fn remove(followed: &Arc<Followed>) {
    write()
        .libraries
        .retain(|known| !Arc::ptr_eq(known, followed));
}

/// Tells whether a library is mapped at one of these addresses.
pub(super) fn knows(range: &Range<usize>) -> bool {
    let registry = read();
    let mut libraries = registry.libraries.iter();
    libraries.any(|known| known.overlaps(range) && known.is_mapped())
}

/// Returns the library that an address lies in.
pub(super) fn at(address: usize) -> Option<Arc<Followed>> {
    let registry = read();
    let mut libraries = registry.libraries.iter();
    libraries.find(|known| known.contains(address)).cloned()
}

/// Makes a key of a library. Nobody sees the key in use and does not know whose it is.
pub(super) fn add_key(
    followed: &Arc<Followed>,
    make: impl FnOnce() -> Result<libc::pthread_key_t, c_int>,
) -> c_int {
    let mut registry = write();
    match make() {
        Ok(key) => {
            registry.keys.insert(key, Arc::clone(followed));
            0
        }
        Err(status) => status,
    }
}

/// Calls `look` with a question: does this key belong to a followed library? None is made meanwhile.
pub(super) fn with_keys<T>(look: impl FnOnce(&dyn Fn(libc::pthread_key_t) -> bool) -> T) -> T {
    let registry = read();
    look(&|key| registry.keys.contains_key(&key))
}

/// Forgets a key and deletes it, so that its number is not anyone else's in between.
pub(super) fn delete_key(
    key: libc::pthread_key_t,
    delete: impl FnOnce() -> c_int,
) -> (Option<Arc<Followed>>, c_int) {
    let mut registry = write();
    let followed = registry.keys.remove(&key);
    (followed, delete())
}

/// Returns the library that has made a key.
pub(super) fn of_key(key: libc::pthread_key_t) -> Option<Arc<Followed>> {
    read().keys.get(&key).cloned()
}

fn read() -> RwLockReadGuard<'static, Registry> {
    REGISTRY.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Registry> {
    REGISTRY.write().unwrap_or_else(PoisonError::into_inner)
}
