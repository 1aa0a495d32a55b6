//! What is adopted, and what is not.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

use super::*;

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The bytes of memory for lanes of `capacity` bytes.
fn size(capacity: usize) -> u64 {
    4096 + 2 * capacity as u64
}

/// Memory like a ring's, but for what is given.
fn made(size: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("aigis-ring-test", flags).unwrap();
    ftruncate(&memory, size).unwrap();
    fcntl_add_seals(&memory, seals).unwrap();
    memory
}

fn refused(memory: OwnedFd) -> RingError {
    let error = Ring::adopt(memory).expect_err("this is no ring");
    assert!(error.to_string().contains("memory") || error.to_string().contains("memfd"));
    error
}

#[test]
fn what_is_no_memfd_is_refused() {
    let file = File::open("/proc/self/exe").unwrap();
    assert!(matches!(refused(file.into()), RingError::NotSealable));
    let (reading, _writing) = std::io::pipe().unwrap();
    assert!(matches!(refused(reading.into()), RingError::NotSealable));
}

#[test]
fn memory_that_can_change_its_size_is_refused() {
    let size = size(SMALLEST);
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        let error = refused(made(size, SEALS.difference(missing)));
        assert!(
            matches!(error, RingError::Unsealed(found) if found & missing.bits() == 0),
            "{error}"
        );
    }
}

#[test]
fn memory_of_a_wrong_size_is_refused() {
    let largest = *CAPACITIES.end();
    let right = size(SMALLEST);
    let wrong = [
        0,
        1,
        4096,
        right - 1,
        right + 1,
        right + 8,
        size(SMALLEST / 2),
        size(3 * SMALLEST),
        size(2 * largest),
        2 * largest as u64,
    ];
    for size in wrong {
        let error = refused(made(size, SEALS));
        assert!(
            matches!(error, RingError::Size(found) if found as u64 == size),
            "{error}"
        );
    }
}

#[test]
fn memory_that_starts_otherwise_is_refused() {
    let error = refused(made(size(SMALLEST), SEALS));
    assert!(
        matches!(error, RingError::Layout { found: [0, 0, 0], capacity } if capacity == SMALLEST)
    );
    for word in 0..3 {
        let (ring, memory) = Ring::create(SMALLEST).unwrap();
        ring.memory.words()[word].fetch_add(1, sync::Ordering::Relaxed);
        assert!(matches!(refused(memory), RingError::Layout { .. }));
    }
}

#[test]
fn memory_that_cannot_be_written_is_refused() {
    let error = refused(made(size(SMALLEST), SEALS | SealFlags::WRITE));
    assert!(
        matches!(&error, RingError::System("map", _)) && error.source().is_some(),
        "{error}"
    );
}

#[test]
fn a_ring_has_an_allowed_capacity() {
    for capacity in [0, 8, SMALLEST / 2, SMALLEST + 8, 2 * CAPACITIES.end()] {
        let error = Ring::create(capacity).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().ends_with(&capacity.to_string()),
            "{error}"
        );
    }
    let mut capacity = SMALLEST;
    while capacity <= *CAPACITIES.end() {
        let (here, there) = pair(capacity);
        assert_eq!(
            (here.longest(), there.longest()),
            (capacity / 4, capacity / 4)
        );
        capacity *= 2;
    }
}

#[test]
fn the_memory_is_sealed_and_not_inherited() {
    let (_ring, memory) = Ring::create(SMALLEST).unwrap();
    assert!(ftruncate(&memory, 0).is_err() && ftruncate(&memory, 1 << 20).is_err());
    assert!(fcntl_add_seals(&memory, SealFlags::WRITE).is_err());
    let flags = rustix::io::fcntl_getfd(&memory).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn pages_that_were_never_used_take_no_memory() {
    let used = |memory: &OwnedFd| fstat(memory.as_fd()).unwrap().st_blocks * 512;
    let (here, memory) = Ring::create(*CAPACITIES.end()).unwrap();
    let there = Ring::adopt(memory.try_clone().unwrap()).unwrap();
    // The header's.
    let page = used(&memory);
    assert!((4096..=64 * 1024).contains(&page), "{page} bytes");
    push(&here, &[1; 64]).unwrap();
    assert!(there.pop(&mut Vec::new()).unwrap());
    assert_eq!(used(&memory), 2 * page);
}
