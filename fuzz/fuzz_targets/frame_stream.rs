//! A session's frames, in any pieces, with descriptors sent along.

#![no_main]

use aigis_plugin_api::session::tests::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::stream(bytes);
});
