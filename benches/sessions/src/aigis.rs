//! Skills of a core plugin, called over a session; and the core.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aigis_core::config::Config;
use aigis_core::{HostBuilder, State};
use aigis_plugin_api::CallError;
use session_peers::orders::obey;
use session_peers::{Failed, laps};
use tempfile::TempDir;

use crate::child::Child;
use crate::limits;
use crate::role::CORE;

aigis_plugin_api::import! {
    mod echo {
        fn echo(data: &[u8]) -> Vec<u8>;
        fn set(value: f64);
        fn get() -> f64;
    }
}

/// The same plugin's skills, asked for with their code.
mod brought {
    aigis_plugin_api::import! {
        #[skill(rename = "echo")]
        mod code {
            #[portable]
            fn add(a: i64, b: i64) -> i64;
            #[portable]
            fn echo(data: &[u8]) -> Vec<u8>;
            #[portable]
            fn pid() -> u32;
        }
    }
    pub(super) use code::{add, echo, pid};
}

/// How long the code of a skill may take to come.
const BRINGING: Duration = Duration::from_secs(10);

/// A core in a process of its own, with the plugins `echo` and `neighbour`, on a home that is gone afterwards.
pub(crate) struct Core {
    // Ends before its home goes.
    child: Child,
    home: TempDir,
}

impl Core {
    /// Starts a core and waits until its plugins are ready.
    pub(crate) fn start() -> Result<Self, Failed> {
        let home = tempfile::tempdir()?;
        let target = plugin_target()?;
        let paths = [home.path(), target.as_path()].map(|path| path.to_str().ok_or("no UTF-8"));
        let child = Child::in_role(&[CORE, paths[0]?, paths[1]?], &[])?;
        Ok(Self { child, home })
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

/// Is a host with the plugins until its input ends.
pub(crate) fn serve(home: &Path, target: &Path) -> Result<(), Failed> {
    limits::raise_open_files()?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let config = home.join("config/config.aigis");
    fs::create_dir_all(home.join("config"))?;
    fs::write(
        &config,
        format!(
            "[core]\necho = {{ source = '{0}/echo' }}\nneighbour = {{ source = '{0}/neighbour' }}\n",
            sources.display()
        ),
    )?;
    let host = HostBuilder::new(home)
        .config(Config::load(&config).map_err(|errors| errors.to_string())?)
        .program(env::current_exe()?)
        .target_folder(target)
        .start()?;
    for status in host.settled(None) {
        if status.state != State::Ready {
            let log = fs::read_to_string(host.home().plugin_log(&status.name));
            let log = log.unwrap_or_default();
            return Err(format!("`{}` is {}:\n{log}", status.name, status.state).into());
        }
    }
    obey(|order| Err(format!("a core takes no orders, not `{order}`").into()))?;
    host.shutdown();
    Ok(())
}

/// Calls `echo` from any number of threads on one session.
pub(crate) fn call(home: &Path) -> Result<(), Failed> {
    let session = aigis_plugin_api::connect(home)?;
    obey(|order| {
        let order = order.parse()?;
        let tally = laps::blocking(&order, |laps| {
            session.scope(|| {
                while laps.another() {
                    let begun = Instant::now();
                    let answer = echo::echo(laps.body())?;
                    laps.count(begun, &answer)?;
                }
                Ok(())
            })
        });
        Ok(tally?.to_string())
    })
}

/// Sets the shared value and gets it, the two as one.
pub(crate) fn call_value(home: &Path) -> Result<(), Failed> {
    let session = aigis_plugin_api::connect(home)?;
    obey(|order| {
        let order = order.parse()?;
        let tally = laps::blocking(&order, |laps| {
            session.scope(|| {
                while laps.another() {
                    let body = laps.body().try_into()?;
                    let begun = Instant::now();
                    echo::set(f64::from_le_bytes(body))?;
                    let answer = echo::get()?;
                    laps.count(begun, &answer.to_le_bytes())?;
                }
                Ok(())
            })
        });
        Ok(tally?.to_string())
    })
}

/// Calls skills whose code was brought to this process: `adds N` and `echoes N` call so often and say how many
/// nanoseconds each call took; `in the core adds N` has a plugin of the core do the same with its neighbour.
pub(crate) fn call_portable(home: &Path) -> Result<(), Failed> {
    let session = aigis_plugin_api::connect(home)?;
    session.scope(|| {
        let body = [7; 64];
        let begun = Instant::now();
        // Nobody is told when the code has come. The others know of it soon after their first calls.
        while brought::pid()? != std::process::id() {
            if begun.elapsed() > BRINGING {
                return Err("the code of the skills does not come".into());
            }
        }
        brought::add(1, 1)?;
        brought::echo(&body)?;
        obey(|order| {
            let took = match order.split(' ').collect::<Vec<_>>()[..] {
                ["adds", calls] => each(calls.parse()?, |number| {
                    brought::add(black_box(number), 1).map(drop)
                })?,
                ["echoes", calls] => each(calls.parse()?, |_| {
                    brought::echo(black_box(&body)).map(drop)
                })?,
                ["in", "the", "core", what, calls] => {
                    let calls: u32 = calls.parse()?;
                    session.call(&format!("neighbour.{what}"), (calls,))?
                }
                _ => return Err(format!("portable skills know no `{order}`").into()),
            };
            Ok(took.to_string())
        })
    })
}

/// Calls so often, as the plugin `neighbour` does, and returns how many nanoseconds each call took.
fn each(calls: u32, mut call: impl FnMut(i64) -> Result<(), CallError>) -> Result<f64, String> {
    let begun = Instant::now();
    for number in 0..calls {
        call(number.into()).map_err(|error| error.to_string())?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
}

/// Holds sessions: `open N` opens so many, each with one call; `call SECONDS` calls on each of them once per second,
/// spread evenly.
pub(crate) fn hold(home: &Path) -> Result<(), Failed> {
    limits::raise_open_files()?;
    let mut sessions = Vec::new();
    obey(|order| {
        let (what, number) = order.split_once(' ').unwrap_or((order, ""));
        let number: u32 = number.parse()?;
        match what {
            "open" => {
                for _ in 0..number {
                    let session = aigis_plugin_api::connect(home)?;
                    session.scope(|| echo_on_session(sessions.len()))?;
                    sessions.push(session);
                }
                Ok(String::new())
            }
            "call" => {
                let every = Duration::from_secs(1) / u32::try_from(sessions.len())?;
                let begun = Instant::now();
                let mut calls = 0;
                for _ in 0..number {
                    for (place, session) in sessions.iter().enumerate() {
                        let due = begun + every * calls;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        session.scope(|| echo_on_session(place))?;
                        calls += 1;
                    }
                }
                Ok(begun.elapsed().as_secs_f64().to_string())
            }
            _ => Err(format!("sessions are held for `open` and `call`, not `{order}`").into()),
        }
    })
}

fn echo_on_session(place: usize) -> Result<(), Failed> {
    let mut body = [7; 64];
    body[..8].copy_from_slice(&place.to_le_bytes());
    match echo::echo(&body)? == body {
        true => Ok(()),
        false => Err("other bytes came back than were sent".into()),
    }
}

/// Returns the folder that the plugin is built in.
fn plugin_target() -> Result<PathBuf, Failed> {
    if let Some(folder) = env::var_os("AIGIS_TARGET_DIR") {
        return Ok(folder.into());
    }
    let program = env::current_exe()?;
    let folder = program.ancestors().nth(2);
    Ok(folder
        .ok_or("this program is in no target folder")?
        .join("plugins"))
}
