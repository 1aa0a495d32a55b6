//! The checks of a descriptor, on any bytes.

#![no_main]

use aigis_plugin_api::abi::reader::{Memory, check};
use aigis_plugin_api::abi::{Field, descriptor};
use libfuzzer_sys::fuzz_target;

#[path = "../../aigis-plugin-api/src/abi/reader/image.rs"]
#[expect(dead_code, reason = "`seeds` makes the images")]
mod image;

fuzz_target!(|bytes: &[u8]| {
    if let Err(flaw) = check(&image::Image(bytes), image::BASE) {
        // Its words are made of what the bytes claim.
        assert!(!flaw.to_string().is_empty());
    }
});
