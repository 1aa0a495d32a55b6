//! The decoding of a library's description, and what is done with one.

#![no_main]

use aigis_plugin_api::__private::Description;
use aigis_plugin_api::codec;
use aigis_plugin_api::signature::differences;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(description) = codec::from_slice::<Description>(bytes) else {
        return;
    };
    for pair in description.skills.windows(2) {
        let _ = differences(&pair[0].signature, &pair[1].signature);
    }
    for skill in &description.skills {
        let _ = (skill.signature.id(), skill.signature.to_string());
    }
    // What was read can be written, and reads the same again: so a probe hands it on.
    let encoded = codec::to_vec(&description).expect("was decoded");
    let again: Description = codec::from_slice(&encoded).expect("was encoded");
    assert_eq!(again, description);
});
