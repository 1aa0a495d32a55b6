//! Answers HTTP requests by calling skills.
//!
//! Start at `launch`. `http` knows the protocol, `routes` which request calls what, `answer` what a result or an error
//! looks like in HTTP.

#![forbid(unsafe_code)]

mod answer;
mod http;
mod routes;
mod server;

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::{fs, io};

use aigis_plugin_api::serde::Deserialize;
use aigis_plugin_api::{Context, launch};

/// What the plugin's entry in the config may say under `settings`.
#[derive(Deserialize)]
#[serde(crate = "aigis_plugin_api::serde", default, deny_unknown_fields)]
struct Settings {
    /// The port on 127.0.0.1; 0 for any free one.
    port: u16,
    /// How many requests are answered at the same time.
    threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 8475,
            threads: 16,
        }
    }
}

#[launch]
fn launch(ctx: &Context) -> Result<(), Box<dyn Error>> {
    let Settings { port, threads } = ctx.settings()?;
    if threads == 0 {
        return Err("`threads` is 0, expected at least 1: nobody would answer".into());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        format!(
            "cannot listen on 127.0.0.1:{port}: {error}; give `{}` another `port` in its settings, or 0 for any \
             that is free",
            ctx.plugin()
        )
    })?;
    let address = listener.local_addr()?.to_string();
    publish(ctx.data(), &address)
        .map_err(|error| format!("cannot write into {}: {error}", ctx.data().display()))?;
    ctx.logger()
        .info(format_args!("listening on http://{address}"));
    // SIGTERM ends the process, as it does by default: there is nothing to put in order.
    server::serve(&listener, threads, ctx.logger())?;
    Ok(())
}

/// Leaves the address in the plugin's data folder, whole or not at all, for those who do not know the port.
fn publish(data: &Path, address: &str) -> io::Result<()> {
    fs::create_dir_all(data)?;
    let new = data.join("address.new");
    fs::write(&new, format!("{address}\n"))?;
    fs::rename(new, data.join("address"))
}
