//! Ending a whole tree of processes: politely, then by force, until nothing is left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::ProcessName;
use super::cgroup::Cgroup;
use super::linux::{self, Process};

/// How often one round looks for processes that were forked while it was looking.
const PASSES: usize = 50;

/// The wait between two rounds of killing, at first and at most.
const KILL_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The wait before orphans of the leader are asked again; each one is twice as long.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long killing goes on before what survives it is reported.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How many killed processes are named.
const MOST_NAMES: usize = 50;

/// The stop of the tree below this process.
#[derive(Debug)]
pub(super) struct Stop {
    leader: i32,
    /// What holds all of the tree, if there is one.
    group: Option<Cgroup>,
    /// What asks the tree to end.
    signal: Signal,
    phase: Phase,
    killed: Vec<ProcessName>,
    /// There was no grace to begin with.
    immediate: bool,
    leader_has_ended: bool,
}

#[derive(Debug)]
enum Phase {
    Running,
    Terminating {
        until: Instant,
        asked: Asked,
        /// When the orphans of the leader are asked again, once it has ended.
        again: Option<Again>,
    },
    Killing {
        since: Instant,
        next: Instant,
        wait: Duration,
        reported: bool,
    },
}

/// The processes that were signalled, by pid and start time, with their names then.
type Asked = HashMap<(i32, u64), String>;

#[derive(Debug)]
struct Again {
    next: Instant,
    wait: Duration,
}

impl From<Instant> for Again {
    fn from(next: Instant) -> Again {
        Again {
            next,
            wait: ASK_AGAIN,
        }
    }
}

/// What the passing of time has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to tell.
    Quiet,
    /// The grace is over; these processes were killed.
    Killed(Vec<ProcessName>),
    /// These processes do not end although they were killed.
    Stuck(Vec<ProcessName>),
}

impl Stop {
    pub(super) fn new(leader: i32, group: Option<Cgroup>, signal: Signal) -> Stop {
        Stop {
            leader,
            group,
            signal,
            phase: Phase::Running,
            killed: Vec::new(),
            immediate: false,
            leader_has_ended: false,
        }
    }

    /// Returns whether the tree was killed without being asked first.
    pub(super) fn is_immediate(&self) -> bool {
        self.immediate
    }

    /// Returns whether a stop is under way.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Running)
    }

    /// Returns the processes that had to be killed.
    pub(super) fn into_killed(self) -> Vec<ProcessName> {
        self.killed
    }

    /// Asks every process of the tree to end, or kills them if there is no grace. A second
    /// call can only shorten the grace.
    pub(super) fn begin(&mut self, grace: Duration) {
        let now = Instant::now();
        // A grace beyond the clock's end is as good as a very long one.
        let until = now
            .checked_add(grace)
            .unwrap_or(now + Duration::from_secs(86_400 * 365));
        match &mut self.phase {
            Phase::Running => {
                let mut asked = Asked::new();
                if grace.is_zero() {
                    self.immediate = true;
                } else {
                    signal_all(self.leader, self.signal, &mut asked);
                }
                self.phase = Phase::Terminating {
                    until,
                    asked,
                    again: self.leader_has_ended.then(|| Again::from(now + ASK_AGAIN)),
                };
            }
            Phase::Terminating { until: earlier, .. } => *earlier = until.min(*earlier),
            Phase::Killing { .. } => {}
        }
    }

    /// Takes note that the leader has ended. What it left behind is asked to end: at once
    /// and, since a process may be starting another, or be losing its signal on the way
    /// from fork to exec, now and then again. No program is asked twice.
    pub(super) fn leader_ended(&mut self) {
        self.leader_has_ended = true;
        if let Phase::Terminating { again, .. } = &mut self.phase {
            *again = Some(Again::from(Instant::now()));
        }
    }

    /// Kills every process of the tree; returns those that were seen in it.
    fn kill_all(&self) -> Vec<Process> {
        let Some(group) = &self.group else {
            return signal_all(self.leader, Signal::KILL, &mut Asked::new());
        };
        let mut found = linux::descendants(self.leader);
        // In one step, which nothing that forks meanwhile escapes; but there are ways out of a group.
        group.kill();
        let left = signal_all(self.leader, Signal::KILL, &mut Asked::new());
        found.extend(left);
        found.sort_by_key(|process| (process.pid, process.start_time));
        found.dedup_by_key(|process| (process.pid, process.start_time));
        found
    }

    /// Returns when [`advance`](Self::advance) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running => None,
            Phase::Terminating { until, again, .. } => match again {
                Some(again) => Some(again.next.min(*until)),
                None => Some(*until),
            },
            Phase::Killing { next, .. } => Some(*next),
        }
    }

    /// Does what is due. To be called only while the tree has members.
    pub(super) fn advance(&mut self) -> Progress {
        let now = Instant::now();
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Progress::Quiet;
        }
        if let Phase::Terminating {
            until,
            asked,
            again: Some(again),
        } = &mut self.phase
            && now < *until
        {
            signal_all(self.leader, self.signal, asked);
            again.next = now + again.wait;
            again.wait *= 2;
            return Progress::Quiet;
        }
        let found = self.kill_all();
        match &mut self.phase {
            Phase::Running => Progress::Quiet,
            Phase::Terminating { .. } => {
                let (wait, _) = KILL_AGAIN;
                self.phase = Phase::Killing {
                    since: now,
                    next: now + wait,
                    wait,
                    reported: false,
                };
                self.killed = names(found);
                Progress::Killed(self.killed.clone())
            }
            Phase::Killing {
                since,
                next,
                wait,
                reported,
            } => {
                *wait = (*wait * 2).min(KILL_AGAIN.1);
                *next = now + *wait;
                if !*reported && now.duration_since(*since) >= STUCK_AFTER {
                    *reported = true;
                    return Progress::Stuck(names(found));
                }
                Progress::Quiet
            }
        }
    }
}

/// Signals every process of the tree but those in `asked`, and those forked meanwhile, each
/// once. Returns them and adds them to `asked`.
fn signal_all(leader: i32, signal: Signal, asked: &mut Asked) -> Vec<Process> {
    // The group is signalled at once, so that nobody in it sees another fall first and
    // nobody forks out of it in between; but only once, since some programs take a second
    // polite signal for an impolite one.
    let mut group_is_new = asked.is_empty();
    let mut all = Vec::new();
    for _ in 0..PASSES {
        let mut new = linux::descendants(leader);
        new.retain(|process| {
            // With another name it is another program, which has been asked nothing yet.
            let name = process.name.clone();
            let before = asked.insert((process.pid, process.start_time), name);
            before.is_none_or(|name| name != process.name)
        });
        if new.is_empty() {
            break;
        }
        let has_member = new.iter().any(|process| process.group == leader);
        let as_group = group_is_new && has_member;
        if as_group {
            linux::signal_group(leader, signal);
        }
        for process in &new {
            // One that has left the group meanwhile may have missed the group's signal.
            let had_it = as_group
                && Process::read(process.pid).is_none_or(|process| process.group == leader);
            if !had_it {
                process.signal(signal);
            }
        }
        if signal != Signal::KILL {
            // What is stopped gets the signal only when it is continued.
            if as_group {
                linux::signal_group(leader, Signal::CONT);
            }
            new.iter().for_each(|process| process.signal(Signal::CONT));
        }
        group_is_new = false;
        all.extend(new);
    }
    all
}

pub(super) fn names(processes: Vec<Process>) -> Vec<ProcessName> {
    processes
        .iter()
        .take(MOST_NAMES)
        .map(Process::named)
        .collect()
}
