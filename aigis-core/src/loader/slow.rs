//! Calls that take longer than their plugin wants them to.
//!
//! The callers pay nothing for this. One thread looks at all seats a few times in the shortest timeout;
//! it runs only while a loaded plugin has one. A frame that is seen twice, put up the same number of
//! times, is one call. What a frame names is never read, since it may be gone: its address is compared
//! with those of generations that are certain to be there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Services;
use super::follow::{self, Tid};
use super::generation::{Generation, Label};
use super::guard::seats::{self, Standing};
use super::life::{GenerationState, Life, Slow};
use super::serving::Serving;
use crate::logging::Level;

/// How often in a timeout the seats are looked at.
const LOOKS: u32 = 8;

/// The bounds of the time between two looks.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(5);

/// One for the process, as the seats are.
static WATCH: Mutex<Watch> = Mutex::new(Watch {
    runs: false,
    watched: Vec::new(),
});
static CHANGED: Condvar = Condvar::new();

struct Watch {
    /// The thread runs.
    runs: bool,
    watched: Vec<Watched>,
}

/// A generation whose calls are watched.
struct Watched {
    generation: Weak<Generation>,
    label: Arc<Label>,
    life: Arc<Life>,
    services: Weak<dyn Services>,
    timeout: Duration,
    calls: HashMap<Standing, Call>,
}

/// A call that has been seen.
struct Call {
    skill: String,
    since: Instant,
    /// The name of its thread, once it has been reported.
    reported: Option<String>,
}

/// What is to be written into a plugin's log, when no lock is held.
struct Report {
    label: Arc<Label>,
    services: Weak<dyn Services>,
    level: Level,
    message: String,
}

fn lock() -> MutexGuard<'static, Watch> {
    // Nothing that can panic runs under this lock.
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reports calls into `generation` that take longer than `timeout`, until it is retired.
pub(crate) fn watch(generation: &Arc<Generation>, timeout: Duration) {
    let mut watch = lock();
    watch.watched.push(Watched {
        generation: Arc::downgrade(generation),
        label: Arc::clone(&generation.label),
        life: Arc::clone(generation.life()),
        services: Weak::clone(&generation.services),
        timeout,
        calls: HashMap::new(),
    });
    CHANGED.notify_all();
    if watch.runs {
        return;
    }
    let spawned = thread::Builder::new()
        .name("aigis-watch".to_owned())
        .spawn(run);
    match spawned {
        Ok(_) => watch.runs = true,
        Err(error) => {
            watch.watched.clear();
            drop(watch);
            let message = format!("slow calls are not reported, no thread can be started: {error}");
            report(
                &generation.services,
                &generation.label,
                Level::Warn,
                &message,
            );
        }
    }
}

/// Looks now, for who wants to know how it is at this moment.
pub(crate) fn look() {
    let reports = lock().look(Instant::now());
    tell(reports);
}

fn run() {
    let mut watch = lock();
    loop {
        let reports = watch.look(Instant::now());
        if !reports.is_empty() {
            drop(watch);
            tell(reports);
            watch = lock();
        }
        let Some(shortest) = watch.watched.iter().map(|one| one.timeout).min() else {
            watch.runs = false;
            return;
        };
        let pause = (shortest / LOOKS).clamp(SHORTEST, LONGEST);
        let woken = CHANGED.wait_timeout(watch, pause);
        watch = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn tell(reports: Vec<Report>) {
    for one in reports {
        report(&one.services, &one.label, one.level, &one.message);
    }
}

fn report(services: &Weak<dyn Services>, label: &Label, level: Level, message: &str) {
    if let Some(services) = services.upgrade() {
        services.log(&label.plugin, level, message);
    }
}

impl Watch {
    fn look(&mut self, now: Instant) -> Vec<Report> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        // Before the look at the seats: nobody is inside of what is retired by then.
        let over: Vec<bool> = self.watched.iter().map(Watched::is_over).collect();
        // Held until the frames have been compared, so that the addresses are nobody else's.
        let present: Vec<Option<Arc<Generation>>> = self
            .watched
            .iter()
            .map(|one| one.generation.upgrade())
            .collect();
        let mut standing = Vec::new();
        seats::look_at_all(|frame| standing.push(*frame));
        let mut reports = Vec::new();
        for (one, generation) in self.watched.iter_mut().zip(&present) {
            let servings = generation.as_deref().map_or(&[][..], Generation::servings);
            one.compare(servings, &standing, now, &mut reports);
        }
        let mut over = over.into_iter();
        self.watched.retain(|_| !over.next().unwrap_or_default());
        reports
    }
}

impl Watched {
    fn is_over(&self) -> bool {
        self.generation.strong_count() == 0 || self.life.status().state >= GenerationState::Retired
    }

    /// Finds out which calls are new, which take long and which have ended.
    fn compare(
        &mut self,
        servings: &[Serving],
        standing: &[Standing],
        now: Instant,
        reports: &mut Vec<Report>,
    ) {
        let mut before = std::mem::take(&mut self.calls);
        let addresses = servings.as_ptr_range();
        let addresses: Range<usize> = addresses.start.addr()..addresses.end.addr();
        for frame in standing {
            if !addresses.contains(&frame.serving) {
                continue;
            }
            let index = (frame.serving - addresses.start) / size_of::<Serving>();
            let call = before.remove(frame).or_else(|| {
                let skill = servings.get(index)?.offer().name.clone();
                Some(Call {
                    skill,
                    since: now,
                    reported: None,
                })
            });
            if let Some(call) = call {
                self.calls.insert(*frame, call);
            }
        }
        let generation = self.label.generation;
        let mut say = |level, message| {
            reports.push(Report {
                label: Arc::clone(&self.label),
                services: Weak::clone(&self.services),
                level,
                message,
            });
        };
        for (frame, call) in &mut self.calls {
            let age = now.saturating_duration_since(call.since);
            if call.reported.is_none() && age >= self.timeout {
                let thread = thread_name(frame.thread);
                let message = format!(
                    "`{}` of generation {generation} has been running for {age:.1?} on thread \
                     `{thread}`, longer than CALL_TIMEOUT ({:?}); it goes on",
                    call.skill, self.timeout
                );
                say(Level::Warn, message);
                call.reported = Some(thread);
            }
        }
        for call in before.into_values() {
            let age = now.saturating_duration_since(call.since);
            if let Some(thread) = call.reported {
                let message = format!(
                    "`{}` of generation {generation} ended after {age:.1?} on thread `{thread}`",
                    call.skill
                );
                say(Level::Info, message);
            }
        }
        let slow = self.calls.values().filter_map(|call| {
            let thread = call.reported.clone()?;
            Some(Slow {
                skill: call.skill.clone(),
                thread,
                since: call.since,
            })
        });
        self.life.has_slow(slow.collect());
    }
}

/// Returns a thread's name, or what else there is to call it.
fn thread_name(thread: u32) -> String {
    let name = Tid::try_from(thread).ok().filter(|thread| *thread > 0);
    match name.map(|thread| (thread, follow::thread_name(thread))) {
        Some((_, Some(name))) => name,
        Some((thread, None)) => thread.to_string(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aigis_plugin_api::__private::{Shape, Signature};

    use super::*;
    use crate::loader::guard::Visit;
    use crate::registry::Offer;

    fn serving() -> Serving {
        let signature = Signature {
            parameters: Vec::new(),
            result: Shape::Unit,
            error: None,
            constant: false,
        };
        let offer = Offer {
            name: "test.skill".to_owned(),
            doc: String::new(),
            id: signature.id(),
            signature,
            plugin: String::new(),
            generation: 1,
            idempotent: false,
        };
        Serving::of_core(offer, Arc::new(|_| Ok(Vec::new())))
    }

    /// The frames that name `serving`; other tests have theirs.
    fn standing(serving: &Serving) -> Vec<Standing> {
        let mut found = Vec::new();
        seats::look_at_all(|frame| {
            if frame.serving == std::ptr::from_ref(serving).addr() {
                found.push(*frame);
            }
        });
        found
    }

    #[test]
    fn a_frame_is_the_same_call_until_it_has_left() {
        let (skill, other) = (serving(), serving());
        let call = Visit::looked_up(|| &raw const skill).expect("is there");
        let first = standing(&skill);
        assert_eq!(first.len(), 1, "{first:?}");
        for _ in 0..3 {
            // What it calls meanwhile is of no concern.
            drop(Visit::looked_up(|| &raw const other));
        }
        assert_eq!(standing(&skill), first);
        drop(call);
        assert_eq!(standing(&skill), []);
        let _again = Visit::looked_up(|| &raw const skill).expect("is there");
        let second = standing(&skill);
        assert_eq!(
            (second[0].seat, second[0].depth),
            (first[0].seat, first[0].depth)
        );
        assert_ne!(second, first);
    }
}
