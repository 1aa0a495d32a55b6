//! The shim: the small process between the core and one launched plugin.
//!
//! One thread and one loop. It sleeps in `poll` on its core's socket, the door for the next core, its
//! signals and its plugin's two pipes, and has a deadline only while it is stopping the tree.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};

use super::cgroup::Cgroup;
use super::holdup::Holdup;
use super::link::{Core, Door, hear_out, read_spec, timespec};
use super::linux::{self, Notice, Reaped, Signals};
use super::output::Output;
use super::plugin::{self, command_line};
use super::protocol::{Command, Event, LaunchFailure, LaunchSpec, PROTOCOL_VERSION, Standing};
use super::readiness::Readiness;
use super::record::{OwnRecord, socket_of};
use super::secrets::SecretsHold;
use super::tree::{Progress, Stop};
use super::{Exit, ProcessName};
use crate::config::OnCoreDeath;
use crate::logging::redact::Redactor;
use crate::logging::{Level, LogFile};

/// The argument that makes the program `aigis` a shim.
pub const SHIM_ARGUMENT: &str = "__shim";

/// How much is read from a pipe or the socket at a time.
///
/// Pages of the buffer that no read has filled take no memory.
const READ_BYTES: usize = 256 * 1024;

/// How long a shim without a core tries to end what cannot be ended.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Runs this process as a shim: takes a launch spec from the socket that is its standard
/// input, launches that plugin and stays until the plugin's whole tree is gone.
///
/// To be called first of all in `main`, before any thread is started or file opened: it
/// closes every descriptor but the first three.
pub fn shim_main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            // By hand there is somebody to read this; under a core it goes nowhere, and
            // the core has been told already or is gone.
            let _ = writeln!(
                io::stderr(),
                "error: {error}\nhint: `aigis {SHIM_ARGUMENT}` is started by the core, not by hand"
            );
            1
        }
    };
    std::process::exit(code)
}

fn run() -> io::Result<()> {
    linux::detach()?;
    let signals = Signals::block()?;
    let mut core = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let spec = read_spec(&mut core)?;
    let mut core = Core::new(core)?;
    match Shim::launch(spec, &mut core) {
        Ok(shim) => {
            shim.run(core, &signals);
            Ok(())
        }
        Err(failure) => {
            let error = io::Error::other(failure.to_string());
            core.send(&Event::LaunchFailed { failure });
            Err(error)
        }
    }
}

struct Shim {
    log: LogFile,
    record: OwnRecord,
    door: Door,
    leader: i32,
    start_time: u64,
    /// How the leader ended, once it has.
    exit: Option<Exit>,
    stop: Stop,
    holdup: Holdup,
    readiness: Readiness,
    outputs: [Output; 2],
    group: Option<Cgroup>,
    secrets: Option<SecretsHold>,
    grace: Duration,
    buffer: Vec<u8>,
    on_core_death: OnCoreDeath,
    /// There is no core.
    core_lost: bool,
    /// The stop was somebody's decision: the plugin has not ended by itself.
    on_purpose: bool,
    /// For how long the leader has run, once it has ended.
    ran: Duration,
    /// Since when the tree is being stopped without a core.
    stopping_alone: Option<Instant>,
}

impl Shim {
    fn launch(spec: LaunchSpec, core: &mut Core) -> Result<Shim, LaunchFailure> {
        let mut log = LogFile::open(spec.log.as_path(), spec.rotation).map_err(|error| {
            LaunchFailure::Log {
                message: with_cause(&error),
            }
        })?;
        let redactor = Redactor::new(&spec.secrets).map(Arc::new);
        log = log
            .labelled(&spec.label)
            .in_format(spec.log_format, &spec.invocation)
            .redacting(redactor.clone());
        report_panics(log.path());
        let launched = OwnRecord::create(&spec).and_then(|mut record| {
            let socket = socket_of(spec.record.as_path());
            let door = Door::open(&socket).map_err(|error| LaunchFailure::System {
                what: format!("listen at `{}`", socket.display()),
                message: error.to_string(),
            });
            let launched = door.and_then(|door| {
                let secrets = hold_secrets(&spec)?;
                let started = plugin::start(&spec, &mut record, redactor)?;
                Ok((door, secrets, started))
            });
            match launched {
                Ok((door, secrets, started)) => Ok((record, door, secrets, started)),
                Err(failure) => {
                    record.remove();
                    Err(failure)
                }
            }
        });
        let (record, door, secrets, started) = match launched {
            Ok(launched) => launched,
            Err(failure) => {
                log.write(
                    Timestamp::now(),
                    Level::Error,
                    format!("Failed to start: {failure}"),
                );
                return Err(failure);
            }
        };
        log.write(
            Timestamp::now(),
            Level::Boot,
            format!("started pid {}: {}", started.pid, command_line(&spec)),
        );
        core.send(&Event::Started {
            pid: started.pid.unsigned_abs(),
            start_time: started.start_time,
            started_at: record.content().started_at.clone(),
        });
        Ok(Shim {
            log,
            record,
            door,
            leader: started.pid,
            start_time: started.start_time,
            exit: None,
            stop: Stop::new(
                started.pid,
                spec.confinement.group(),
                linux::signal_of(spec.stop_signal),
            ),
            holdup: Holdup::default(),
            readiness: started.readiness,
            outputs: started.outputs,
            group: spec.confinement.group(),
            secrets,
            grace: spec.grace(),
            buffer: vec![0; READ_BYTES],
            // A core that dies now may not know of the launch.
            on_core_death: OnCoreDeath::Stop,
            core_lost: false,
            on_purpose: false,
            ran: Duration::ZERO,
            stopping_alone: None,
        })
    }

    /// Stays until the tree is gone, then tells the core.
    fn run(mut self, mut core: Core, signals: &Signals) {
        loop {
            // Also when it was lost while it was told something.
            if !core.is_there() {
                self.lose_core();
            }
            let ready = self.wait(&core, signals);
            for (number, (output, ready)) in self.outputs.iter_mut().zip(ready.outputs).enumerate()
            {
                if ready {
                    let count = output.read(&mut self.buffer, &mut self.log);
                    self.readiness.printed(number, &self.buffer[..count]);
                }
            }
            if ready.sign {
                self.readiness.read(&mut self.log);
            }
            for event in self.readiness.news(self.exit.is_some()) {
                core.send(&event);
            }
            if ready.core {
                self.hear(&mut core);
            }
            if ready.door
                && let Some(next) = self.door.let_in()
            {
                // What the one before has said last still counts.
                if core.is_there() {
                    self.hear(&mut core);
                }
                core = next;
                self.meet(&mut core);
            }
            if ready.signals {
                while let Some(notice) = signals.next() {
                    if notice == Notice::Terminate {
                        self.note("The shim was asked to end, stopping the plugin.");
                        self.stop.begin(self.grace);
                    }
                }
            }
            if self.reap(&mut core) == Reaped::NoChildren {
                break;
            }
            match self.stop.advance() {
                Progress::Quiet => {}
                Progress::Killed(processes) => self.tell_killed(&processes),
                Progress::Stuck(survivors) => {
                    let message = format!("These processes cannot be killed: {}", list(&survivors));
                    self.log.push(Timestamp::now(), Level::Error, message);
                    core.send(&Event::Stuck { survivors });
                }
            }
            if let Some(processes) = self.holdup.look(self.leader, self.stop.has_begun()) {
                core.send(&Event::Waiting { processes });
            }
            if self.gives_up(&core) {
                break;
            }
            self.log.flush();
        }
        // Whoever held the pipes is gone, so what is in them now is all.
        for output in &mut self.outputs {
            output.drain(&mut self.buffer, &mut self.log);
            output.end(&mut self.log);
        }
        self.log.flush();
        let Shim {
            mut log,
            mut buffer,
            mut record,
            door,
            stop,
            group,
            secrets,
            exit,
            ..
        } = self;
        let killed = stop.into_killed();
        if let Some(group) = group {
            group.remove();
        }
        // Without a core nobody else does it.
        drop(secrets);
        // Before the place is free: the socket of the next one has the same name.
        drop(door);
        // First, so that the next launch finds the place as it will be.
        match exit.filter(|_| !self.on_purpose) {
            Some(exit) => {
                let ran_ms = u64::try_from(self.ran.as_millis()).unwrap_or(u64::MAX);
                record.ended(exit, ran_ms, &killed);
            }
            None => record.remove(),
        }
        core.send(&Event::TreeGone { killed });
        hear_out(&mut core, &mut log, &mut buffer);
    }

    /// Sleeps until something happens.
    fn wait<'a>(&'a self, core: &'a Core, signals: &'a Signals) -> Ready {
        let deadlines = [
            self.stop.deadline(),
            self.holdup.deadline(),
            self.readiness.deadline(),
        ];
        let timeout = deadlines
            .into_iter()
            .flatten()
            .min()
            .map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        // What is of no interest is replaced by the signals without any event asked for.
        let wanted = |descriptor: Option<BorrowedFd<'a>>| match descriptor {
            Some(descriptor) => PollFd::from_borrowed_fd(descriptor, PollFlags::IN),
            None => PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::empty()),
        };
        let [stdout, stderr] = &self.outputs;
        let mut descriptors = [
            wanted(Some(signals.as_fd())),
            wanted(core.is_there().then(|| core.as_fd())),
            wanted(Some(self.door.as_fd())),
            wanted(stdout.descriptor()),
            wanted(stderr.descriptor()),
            wanted(self.readiness.descriptor()),
        ];
        // An error can only be an interruption or a lack of memory: look again either way.
        let _ = poll(&mut descriptors, timeout.as_ref());
        let [signals, core, door, stdout, stderr, sign] =
            descriptors.map(|descriptor| !descriptor.revents().is_empty());
        Ready {
            signals,
            core,
            door,
            outputs: [stdout, stderr],
            sign,
        }
    }

    /// Does what the core says.
    fn hear(&mut self, core: &mut Core) {
        core.receive(&mut self.buffer);
        loop {
            match core.next_command() {
                Ok(Some(Command::Stop { grace_ms })) => {
                    self.end(Duration::from_millis(grace_ms));
                }
                Ok(Some(Command::Kill)) => self.end(Duration::ZERO),
                Ok(Some(Command::OnCoreDeath { then })) => self.on_core_death = then,
                Ok(Some(Command::Memo { memo })) => {
                    if let Err(error) = self.record.remember(memo) {
                        let message =
                            format!("The record of this launch cannot be written: {error}");
                        self.log.push(Timestamp::now(), Level::Warn, message);
                    }
                }
                Ok(Some(Command::Log { level, message })) => {
                    self.log.push(Timestamp::now(), level, message);
                }
                Ok(None) => return,
                Err(error) => {
                    let message = format!("The core sent something else than a command: {error}");
                    self.log.push(Timestamp::now(), Level::Error, message);
                    core.give_up();
                    return;
                }
            }
        }
    }

    /// Stops the tree because somebody wants it to be.
    fn end(&mut self, grace: Duration) {
        // What has ended by itself has done so, whatever is asked for afterwards.
        self.on_purpose |= self.exit.is_none();
        self.stop.begin(grace);
    }

    fn lose_core(&mut self) {
        if std::mem::replace(&mut self.core_lost, true) {
            return;
        }
        let is_well = self.exit.is_none() && !self.stop.has_begun();
        match self.on_core_death {
            OnCoreDeath::Stop => {
                if is_well {
                    self.note("The core is gone, stopping the plugin.");
                }
                self.end(self.grace);
            }
            OnCoreDeath::Keep => {
                if is_well {
                    let message = "The core is gone, the plugin runs on.";
                    // At once: it may be long until something happens again.
                    self.log.write(Timestamp::now(), Level::Info, message);
                }
            }
        }
    }

    /// Tells a core that has just come how things stand.
    fn meet(&mut self, core: &mut Core) {
        self.core_lost = false;
        self.stopping_alone = None;
        let record = self.record.content();
        core.send(&Event::Standing(Standing {
            version: PROTOCOL_VERSION,
            invocation: record.invocation.clone(),
            pid: self.leader.unsigned_abs(),
            start_time: self.start_time,
            started_at: record.started_at.clone(),
            exit: self.exit,
            stopping: self.stop.has_begun(),
            memo: record.memo.clone(),
        }));
        for event in self.readiness.known() {
            core.send(&event);
        }
    }

    /// Tells whether to leave what cannot be ended to nobody: there is no core to tell.
    fn gives_up(&mut self, core: &Core) -> bool {
        if core.is_there() || !self.stop.has_begun() {
            return false;
        }
        let since = *self.stopping_alone.get_or_insert_with(Instant::now);
        since.elapsed() > self.grace.saturating_add(GIVE_UP_AFTER)
    }

    /// Collects every child that has ended: the plugin, and what it left to us.
    fn reap(&mut self, core: &mut Core) -> Reaped {
        loop {
            match linux::reap() {
                Reaped::Child(pid, exit) if pid == self.leader && self.exit.is_none() => {
                    self.leader_ended(exit, core);
                }
                Reaped::Child(..) => {}
                nothing => {
                    if nothing == Reaped::Nothing && self.exit.is_some() {
                        // A plugin without its leader has no one to answer for it.
                        if !self.stop.has_begun() {
                            self.stop.begin(self.grace);
                        }
                    }
                    return nothing;
                }
            }
        }
    }

    fn leader_ended(&mut self, exit: Exit, core: &mut Core) {
        for output in &mut self.outputs {
            output.drain(&mut self.buffer, &mut self.log);
        }
        let level = match exit {
            _ if self.stop.has_begun() => Level::Info,
            Exit::Code(0) => Level::Info,
            _ => Level::Error,
        };
        self.log
            .push(Timestamp::now(), level, format!("Process {exit}"));
        self.exit = Some(exit);
        self.ran = linux::age(self.start_time);
        self.stop.leader_ended();
        core.send(&Event::Exited { exit });
    }

    fn tell_killed(&mut self, processes: &[ProcessName]) {
        if processes.is_empty() {
            return;
        }
        if self.stop.is_immediate() {
            let message = format!("Killed: {}", list(processes));
            self.log.push(Timestamp::now(), Level::Info, message);
            return;
        }
        let message = format!(
            "Plugin taking too long to terminate, killing it. Still running: {}",
            list(processes)
        );
        self.log.push(Timestamp::now(), Level::Warn, message);
    }

    fn note(&mut self, message: &str) {
        self.log.push(Timestamp::now(), Level::Warn, message);
    }
}

fn hold_secrets(spec: &LaunchSpec) -> Result<Option<SecretsHold>, LaunchFailure> {
    let record = spec.secrets_record.as_ref();
    let shared = record.map(|record| SecretsHold::share(record.as_path()));
    match shared.transpose() {
        Ok(shared) => Ok(shared.map(|(hold, _)| hold)),
        Err(error) => Err(LaunchFailure::System {
            what: "hold its secrets".to_owned(),
            message: error.to_string(),
        }),
    }
}

struct Ready {
    signals: bool,
    core: bool,
    door: bool,
    outputs: [bool; 2],
    sign: bool,
}

fn list(processes: &[ProcessName]) -> String {
    let names: Vec<String> = processes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Lets a fault of the shim itself end up where its user looks.
fn report_panics(log: &Path) {
    let log = log.to_owned();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut log) = LogFile::open(&log, Default::default()) {
            log.write(
                Timestamp::now(),
                Level::Error,
                format!("The shim failed, and the plugin with it: {panic}"),
            );
        }
    }));
}
