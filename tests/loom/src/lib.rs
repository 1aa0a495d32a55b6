//! The guard that keeps libraries loaded, and the memory that two processes share, gone through by loom.
//!
//! The sources are the real ones; this crate gives them loom's atomics, locks and fences (`sync`) and
//! the one part of the guard that is bound to real threads (`loader::guard::seats`). A light fence is
//! a full one here: that is what a `membarrier` makes of it. The form without one is gone through too.
//! Of the ring it takes one way, without the mapping: loom has no second process, but the threads of
//! one and of the other differ in nothing that the ring does.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release
//! ```
#![cfg(loom)]
#![expect(dead_code, reason = "the models use a part of what the sources offer")]
#![allow(missing_docs, reason = "the sources are documented where they belong")]

extern crate self as aigis_plugin_api;

pub mod abi {
    mod sync;

    #[path = "../../../../aigis-plugin-api/src/abi/seat.rs"]
    mod seat;

    pub use seat::{SEAT_FRAMES, Seat};
    pub use sync::{has_membarrier, set_membarrier};
}

mod session {
    mod ring;
}

mod loader {
    pub(crate) mod guard;

    /// What callers find: the models compare its address, and look whether it is still there. That
    /// is no atomic: loom finds a look that is not ordered with the end.
    pub(crate) struct Serving {
        pub(crate) freed: loom::cell::UnsafeCell<bool>,
    }
}

#[cfg(test)]
mod models;
