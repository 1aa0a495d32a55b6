//! Prints the time again and again: the half of the plugin that runs as a process of its own.
//!
//! It calls the skills of its other half, in the core, like those of any plugin.

#![forbid(unsafe_code)]

#[expect(dead_code, reason = "only the other half makes these errors")]
mod error;

use std::error::Error;
use std::io::Write;
use std::time::Duration;
use std::{io, thread};

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{CallError, Context, import, launch};

use error::ClockError;

import! {
    mod clock {
        fn now() -> String;
        fn parse_duration(text: &str) -> Result<Duration, ClockError>;
    }
    mod greeter {
        fn greet(name: &str) -> String;
    }
}

/// What the plugin's entry in the config may say under `settings`.
#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde", default, deny_unknown_fields)]
struct Settings {
    /// The time from one line to the next.
    every: String,
    /// Who is greeted.
    name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            every: "1m".to_owned(),
            name: "everybody".to_owned(),
        }
    }
}

#[launch]
fn launch(ctx: &Context) -> Result<(), Box<dyn Error>> {
    let Settings { every, name } = ctx.settings()?;
    let pause = clock::parse_duration(&every)?;
    if pause.is_zero() {
        return Err(format!("`every` is `{every}`, expected more than no time").into());
    }
    loop {
        // The core captures this line, and while there is none the shim goes on doing so.
        writeln!(io::stdout(), "{}: {}", clock::now()?, greeting(&name)?)?;
        thread::sleep(pause);
    }
}

/// Greets with another plugin's skill. This one can do without, so only what is wrong with the core is an error.
fn greeting(name: &str) -> Result<String, CallError> {
    match greeter::greet(name) {
        Err(error @ (CallError::NotFound { .. } | CallError::Failed(_))) => {
            Ok(format!("no greeting, {error}"))
        }
        outcome => outcome,
    }
}
