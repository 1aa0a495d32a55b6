//! The process from its launch to its end.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{Failure, FailureKind, Request};
use aigis_plugin_api::Session;
use aigis_plugin_api::codec;
use aigis_plugin_api::session::{self, SessionGrant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::services::{Apart, Served};
use super::{ISOLATE_ARGUMENT, Order, REPORT, Report};
use crate::config::{LogOptions, PluginName};
use crate::home::Home;
use crate::host::events::Logs;
use crate::host::launch::SECRETS_DIR;
use crate::host::plugin::{CLEANUP, DRAIN};
use crate::host::secrets;
use crate::loader::guard::seats;
use crate::loader::{self, Generation, GenerationState, LoadError, Services};
use crate::logging::Level;

/// The exit code of a process whose library could not be loaded or opened.
const NOT_OPENED: u8 = 3;

/// What the process was started with.
struct Arguments {
    library: PathBuf,
    level: Level,
    call_timeout: Option<Duration>,
}

impl Arguments {
    fn of_process() -> Option<Self> {
        let mut arguments = std::env::args_os().skip(2);
        let library = PathBuf::from(arguments.next()?);
        let level = arguments.next()?.to_str()?.parse().ok()?;
        let call_timeout = match arguments.next() {
            Some(milliseconds) => Some(milliseconds.to_str()?.parse().ok()?),
            None => None,
        };
        Some(Self {
            library,
            level,
            call_timeout: call_timeout.map(Duration::from_millis),
        })
    }
}

/// What the process hears.
enum Heard {
    Order(Result<Vec<u8>, Failure>),
    Terminate,
}

/// Runs the process of an isolated library.
pub(crate) fn isolate_main() -> ExitCode {
    let grant = session::from_environment();
    let (Some(arguments), Ok(Some(grant))) = (Arguments::of_process(), grant) else {
        eprintln!("error: {ISOLATE_ARGUMENT} is for the core's own use");
        return ExitCode::from(2);
    };
    match run(&arguments, &grant) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The core has heard it, if it could be told; this is for the plugin's log.
            eprintln!("ERROR {}", super::super::full_message(&*error));
            ExitCode::from(NOT_OPENED)
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn run(arguments: &Arguments, grant: &SessionGrant) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("aigis-timers")
        .enable_all()
        .build()?;
    let (sender, heard) = channel();
    let closing = Arc::new(AtomicBool::new(false));
    // First: from here on it ends in order.
    hear_terminate(&runtime, &closing, sender.clone())?;
    let plugin: PluginName = grant.plugin.plugin.parse()?;
    let home = Home::new(&grant.plugin.home)?;
    let logs = Logs::open(&home, arguments.level, None)?;
    // Where they come from may be closed to this process; what the core has delivered may be gone with its program.
    let delivered = std::env::var_os(SECRETS_DIR).map(PathBuf::from);
    let folders = delivered.into_iter().chain([home.secrets(&plugin)]);
    let values = folders.flat_map(|folder| secrets::all_values(&folder));
    logs.keep(plugin.as_str(), &LogOptions::default(), values.collect());
    let session = Session::launched(grant).map_err(told)?;
    let reactor = session::reactor()?;
    let timers = runtime.handle().clone();
    let apart = Apart::new(session.backend(), reactor, timers, logs, closing);
    let mut process = Process {
        core: Core { session, sender },
        apart,
        heard,
    };
    let number = grant.plugin.generation;
    let opened = process.load(&arguments.library, &plugin, number);
    let generation = match opened {
        Ok(generation) => generation,
        Err(error) => return Err(process.fail(error)),
    };
    if let Some(timeout) = arguments.call_timeout {
        loader::watch(&generation, timeout);
    }
    process.core.report(&Report::Loaded);
    let outcome = process.obey(&generation);
    process.end(generation);
    outcome
}

/// Has SIGTERM heard.
fn hear_terminate(
    runtime: &Runtime,
    closing: &Arc<AtomicBool>,
    sender: Sender<Heard>,
) -> std::io::Result<()> {
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let closing = Arc::clone(closing);
    runtime.spawn(async move {
        while terminate.recv().await.is_some() {
            closing.store(true, Ordering::SeqCst);
            seats::wake_waiters();
            // It may be ending already.
            let _ = sender.send(Heard::Terminate);
        }
    });
    Ok(())
}

/// Makes an error of a failure.
fn told(failure: impl Display) -> Failed {
    failure.to_string().into()
}

/// The core, as the process reports to it.
struct Core {
    session: Session,
    sender: Sender<Heard>,
}

impl Core {
    /// Says how far the process is; the answer is heard.
    fn report(&self, report: &Report) {
        let arguments = match codec::to_vec(report) {
            Ok(arguments) => arguments,
            Err(error) => {
                let failure = Failure::new(FailureKind::Internal, error.to_string());
                let _ = self.sender.send(Heard::Order(Err(failure)));
                return;
            }
        };
        let sender = self.sender.clone();
        let request = Request {
            name: REPORT,
            expected: None,
            portable: false,
            arguments: &arguments,
            tail: &[],
            timeout: Some(Duration::MAX),
        };
        // Started, not waited for: a thread that waits would read calls that others have to run.
        let done = Box::new(move |order| {
            // Nobody listens to it when the process ends.
            let _ = sender.send(Heard::Order(order));
        });
        self.session.backend().start(&request, done);
    }
}

struct Process {
    core: Core,
    apart: Arc<Apart>,
    heard: Receiver<Heard>,
}

impl Process {
    fn load(
        &self,
        library: &Path,
        plugin: &PluginName,
        number: u64,
    ) -> Result<Arc<Generation>, LoadError> {
        let services = Arc::clone(&self.apart) as Arc<dyn Services>;
        loader::load_alone(library, plugin, number, &services)
    }

    /// Tells the core that the library does not come to serve, and waits until it knows.
    fn fail(&mut self, error: LoadError) -> Failed {
        let failure = match error {
            LoadError::Open(failure) => failure,
            error => Failure::new(FailureKind::Internal, super::super::full_message(&error)),
        };
        let text = failure.to_string();
        self.core.report(&Report::Failed(failure));
        // The answer, or that there is no core, or that it is to end anyway.
        let _ = self.heard.recv();
        text.into()
    }

    /// Does what the core says until that is to end, or there is no core.
    fn obey(&mut self, generation: &Arc<Generation>) -> Result<(), Failed> {
        let mut last = Report::Loaded;
        while let Ok(Heard::Order(order)) = self.heard.recv() {
            let order = match order {
                Ok(order) => codec::from_slice(&order)?,
                // Nothing has come for as long as a call may take.
                Err(failure) if failure.kind == FailureKind::TimedOut => {
                    self.core.report(&last);
                    continue;
                }
                // Without a core there is nobody to serve.
                Err(_) => return Ok(()),
            };
            last = match order {
                Order::Open {
                    grant,
                    saved,
                    limit_ms,
                } => {
                    let limit = Duration::from_millis(limit_ms);
                    if let Err(error) = generation.open(&grant, saved, limit) {
                        return Err(self.fail(error));
                    }
                    generation.serves();
                    self.apart.serve(generation, true);
                    let served = Served::new(&self.apart, generation);
                    self.core.session.offer(served).map_err(told)?;
                    Report::Serving
                }
                Order::Save { limit_ms } => self.save(generation, Duration::from_millis(limit_ms)),
                Order::End => return Ok(()),
            };
            self.core.report(&last);
        }
        Ok(())
    }

    /// Has the state written down, once nobody is inside: a call whose caller has given it up may go on.
    fn save(&self, generation: &Arc<Generation>, limit: Duration) -> Report {
        let begun = Instant::now();
        let closing = || self.apart.closing.load(Ordering::SeqCst);
        let deadline = begun.checked_add(limit);
        if !seats::wait_until_gone(&generation.within_calls(), deadline, closing) {
            let after = begun.elapsed();
            let message = format!(
                "a call that its caller has given up is still running after {after:?}, and no state is \
                 saved beside it; have it end, then reload again"
            );
            return Report::Unsaved(Failure::new(FailureKind::TimedOut, message));
        }
        match generation.save(limit.saturating_sub(begun.elapsed())) {
            Ok(saved) => Report::Saved(saved),
            Err(LoadError::Open(failure)) => Report::Unsaved(failure),
            Err(error) => Report::Unsaved(Failure::new(FailureKind::Internal, error.to_string())),
        }
    }

    /// Ends the library as the core does, but for its memory, which goes with the process.
    fn end(&mut self, generation: Arc<Generation>) {
        self.core.session.stop_serving();
        self.apart.serve(&generation, false);
        let life = Arc::clone(generation.life());
        let plugin = generation.plugin().clone();
        // The core has given its streams their time.
        generation.drain_within(Duration::ZERO);
        loader::retire(vec![generation]);
        let late = if !life.reaches(GenerationState::Retired, DRAIN) {
            format!("a call is still running in the plugin after {DRAIN:?}; cleanup skipped")
        } else if !life.is_cleaned_up(CLEANUP) {
            format!("its cleanup has not returned within {CLEANUP:?}")
        } else {
            return;
        };
        self.apart.log(&plugin, Level::Warn, &late);
    }
}
