//! `aigis build-and-run`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::console::Console;
use super::context::Context;
use super::detach::{self, Readiness};
use super::error::{CliError, Exit};
use super::service::{self, Service};
use crate::config::Config;
use crate::descriptors;
use crate::host::{HostBuilder, MetricsAddress, Observer};
use crate::notify::Notifier;

/// Fetch, build, load and launch every plugin of the config, and run until told to end
///
/// SIGINT, SIGTERM and `aigis shutdown` end it cleanly; SIGQUIT ends it at once. A plugin that fails is reported, and the
/// others run.
#[derive(Debug, clap::Args)]
pub(super) struct BuildAndRunArgs {
    /// Use this config instead of `config/config.aigis` in the home
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run in the background; return once every plugin is ready, finished, failed or in crash-loop
    #[arg(long)]
    detach: bool,
    /// With --detach, wait at most this long; the core goes on
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = super::seconds)]
    timeout: Duration,
    /// Take over from the core that runs in the home, if one does: it hands over when everything is ready here
    #[arg(long)]
    takeover: bool,
    /// Show errors only; the log files have everything
    #[arg(short, long)]
    quiet: bool,
    /// Offer metrics for Prometheus at `unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`
    #[arg(long, value_name = "ADDRESS", env = "AIGIS_METRICS")]
    metrics: Option<MetricsAddress>,
    /// Be the process in the background that `--detach` starts
    #[arg(long = detach::DAEMON, hide = true, conflicts_with = "detach")]
    daemon: bool,
}

pub(super) fn run(args: &BuildAndRunArgs, ctx: &mut Context) -> Result<Exit, CliError> {
    // First of all: from here on nothing may be printed to what the waiting process reads.
    let readiness = args.daemon.then(detach::become_daemon).transpose()?;
    let path = match &args.config {
        Some(path) => path.clone(),
        None => ctx.places()?.config_file(),
    };
    // Mistakes are shown in this terminal also if the core is to run in the background.
    let config = load(&path)?;
    match args.detach {
        true => detach::start(
            ctx,
            &path,
            args.timeout,
            args.quiet,
            args.takeover,
            args.metrics.as_ref(),
        ),
        false => run_here(ctx, config, args, readiness),
    }
}

fn load(path: &Path) -> Result<Config, CliError> {
    if !path.exists() {
        return Err(CliError::NoConfig {
            path: path.to_owned(),
        });
    }
    Config::load(path).map_err(CliError::Config)
}

/// Runs a host in this process until somebody ends it.
fn run_here(
    ctx: &Context,
    config: Config,
    args: &BuildAndRunArgs,
    readiness: Option<Readiness>,
) -> Result<Exit, CliError> {
    // In the background the log files are enough: what is printed goes to a file that nobody rotates.
    let console = Arc::new(Console::of_process(args.quiet || readiness.is_some()));
    descriptors::raise();
    // Before anything is started, so that no signal finds the host half made and ends it half done.
    let termination = Termination::listen().map_err(CliError::system(
        "the signals of this process cannot be received",
    ))?;
    let notifier = Notifier::from_environment().map_err(|error| {
        let because = error.to_string();
        CliError::system(because)(io::ErrorKind::InvalidInput.into())
    })?;
    let (service, observer): (_, Arc<dyn Observer>) = match notifier {
        Some(notifier) => {
            let (service, watching) = Service::new(notifier, &console);
            (Some(service), watching)
        }
        None => (None, Arc::clone(&console) as _),
    };
    let mut builder = HostBuilder::new(ctx.home())
        .config(config)
        .observer(observer)
        .crash_records(true)
        .takeover(args.takeover);
    if let Some(address) = &args.metrics {
        builder = builder.metrics(address.clone());
    }
    let host = builder.start()?;
    let notifier = service
        .map(|service| service.start(&host))
        .transpose()
        .map_err(CliError::system("a thread cannot be started"))?;
    if let Some(readiness) = readiness {
        readiness.report();
    }
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(CliError::system("a thread cannot be started"))
    };
    let of_signals = host.clone();
    let ended = spawn(
        "aigis-signals",
        Box::new(move || {
            // On a thread of its own: until it is through, the core is to hear that it should end.
            let hang_up = || {
                let (host, notifier) = (of_signals.clone(), notifier.clone());
                let _ = thread::Builder::new()
                    .name("aigis-hang-up".to_owned())
                    .spawn(move || service::apply(&host, notifier.as_deref()));
            };
            termination.wait(hang_up);
            of_signals.shutdown();
        }),
    );
    let (of_report, report) = (host.clone(), Arc::clone(&console));
    let told = spawn(
        "aigis-report",
        Box::new(move || report.settled(&of_report.settled(None))),
    );
    if let Err(error) = ended.and(told) {
        host.shutdown();
        return Err(error);
    }
    host.wait_shutdown();
    console.clear();
    Ok(Exit::Ok)
}

async fn hung_up(hangup: &mut Option<Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => std::future::pending().await,
    }
}

/// SIGINT, SIGTERM and perhaps SIGHUP, caught from when it is made until the process ends.
///
/// Tokio does this because the host brings it along: no other crate, no code of ours in a signal handler. SIGQUIT keeps
/// the system's way of ending a process at once.
struct Termination {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    /// None where SIGHUP says that the terminal is gone, and ends the process as it always does.
    hangup: Option<Signal>,
}

impl Termination {
    fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (interrupt, terminate, hangup) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                service::hangup_applies()
                    .then(|| signal(SignalKind::hangup()))
                    .transpose()?,
            )
        };
        Ok(Self {
            runtime,
            interrupt,
            terminate,
            hangup,
        })
    }

    /// Waits for the first that ends the core. Those that follow have no effect: nothing gives them back to the system.
    fn wait(mut self, apply: impl Fn()) {
        loop {
            let ends = self.runtime.block_on(async {
                tokio::select! {
                    _ = self.interrupt.recv() => true,
                    _ = self.terminate.recv() => true,
                    Some(()) = hung_up(&mut self.hangup) => false,
                }
            });
            if ends {
                return;
            }
            apply();
        }
    }
}
