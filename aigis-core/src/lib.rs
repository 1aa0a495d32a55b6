//! One brain for many independent programs: loads core plugins, supervises the processes of
//! internal and external ones, and routes the calls of skills between all of them.
//!
//! Start at [`HostBuilder`]. The program `aigis` is a thin command line over this library; tests and
//! embedders use it without the program.
//!
//! The modules in reading order: [`config`] says what is wanted; [`source`], [`build`] and
//! [`supervisor`] get it, make it and run it; the loader opens libraries and the [`registry`] knows
//! what they offer; [`rpc`] lets other processes call it; [`host`] ties them together and [`cli`]
//! shows it to people.

pub mod build;
pub mod cli;
pub mod config;
mod descriptors;
pub mod home;
pub mod host;
mod loader;
pub mod logging;
mod notify;
pub mod registry;
pub mod rpc;
pub mod source;
pub mod supervisor;

pub use config::{Config, PluginEntry};
pub use home::Home;
pub use host::{Host, HostBuilder, HostError, PluginStatus, SkillInfo, StartError, State};

/// The lock file that this build was made with.
#[cfg(aigis_lock_file)]
const LOCK_FILE: Option<&str> = Some(include_str!(env!("AIGIS_LOCK_FILE")));
#[cfg(not(aigis_lock_file))]
const LOCK_FILE: Option<&str> = None;
