//! The memory that two processes share, one of which writes there what it likes.

#![no_main]

use aigis_plugin_api::session::tests::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::ring(bytes);
});
