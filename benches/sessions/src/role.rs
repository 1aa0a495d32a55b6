//! What this program does as a process of the benchmark: it serves, calls, or keeps a core busy.

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use session_peers::{Failed, orders};

use crate::aigis;
use crate::burden::Burden;
use crate::peer::Peer;

/// The first argument of a process in a role.
pub(crate) const MARK: &str = "role";

/// Keeps one core busy.
pub(crate) const BUSY: &str = "busy";
/// Is a host with the plugin `echo`; then its home, and the folder to build in.
pub(crate) const CORE: &str = "core";
/// Holds many sessions; then the home of their core.
pub(crate) const HOLD: &str = "hold";
/// Is a burden to others; then which, and the home of their core.
pub(crate) const BURDEN: &str = "burden";
/// Calls skills whose code was brought to it; then the home of their core.
pub(crate) const PORTABLE: &str = "portable";
/// Serves as a peer; then its name and its place.
pub(crate) const SERVE: &str = "serve";
/// Calls a peer; then its name and its place.
pub(crate) const CALL: &str = "call";

/// Runs in the role that the arguments tell.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        [BUSY] => busy(),
        [CORE, home, target] => aigis::serve(Path::new(home), Path::new(target)),
        [HOLD, home] => aigis::hold(Path::new(home)),
        [BURDEN, name, home] => Burden::be(name, Path::new(home)),
        [PORTABLE, home] => aigis::call_portable(Path::new(home)),
        [SERVE, peer, place] => Peer::named(peer).and_then(|peer| peer.serve(Path::new(place))),
        [CALL, peer, place] => Peer::named(peer).and_then(|peer| peer.call(Path::new(place))),
        _ => Err(format!("there is no role {arguments:?}").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", orders::one_line(&error));
            ExitCode::from(2)
        }
    }
}

fn busy() -> Result<(), Failed> {
    orders::obey_end()?;
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
