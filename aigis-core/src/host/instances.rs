//! The processes that serve the same skills, and which of them takes the next call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use aigis_plugin_api::__private::{Failure, FailureKind};

use super::lock;
use super::status::ServingProcess;
use crate::config::PluginName;
use crate::rpc::{Callee, SessionInfo};

/// The processes of one plugin that serve the same.
pub(super) struct Instances {
    plugin: PluginName,
    list: Mutex<Vec<Arc<Instance>>>,
    /// Counts calls, so that instances with as many as another have their turns.
    turn: AtomicUsize,
    /// Calls that are on their way to one of them.
    entering: AtomicUsize,
    /// Somebody waits until no call is underway.
    awaited: AtomicBool,
    /// Until when that is waited for; none for as long as it takes.
    limit: Mutex<Option<Instant>>,
    quiet: Condvar,
    /// Its streams have had their time.
    superseded: OnceLock<Failure>,
}

/// One process.
pub(super) struct Instance {
    pub(super) session: Arc<SessionInfo>,
    pub(super) callee: Arc<dyn Callee>,
    /// The calls that it has not answered.
    calls: AtomicUsize,
    /// The streams that it makes, once they have begun.
    streams: AtomicUsize,
}

impl Instance {
    pub(super) fn new(session: &Arc<SessionInfo>, callee: &Arc<dyn Callee>) -> Arc<Self> {
        Arc::new(Self {
            session: Arc::clone(session),
            callee: Arc::clone(callee),
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
        })
    }

    fn underway(&self) -> usize {
        // In this order: what has just become a stream is seen as one or the other.
        self.calls.load(Ordering::SeqCst) + self.streams.load(Ordering::SeqCst)
    }
}

/// A call that a process has not answered, or a stream that is not over.
pub(super) struct Busy {
    instance: Arc<Instance>,
    among: Arc<Instances>,
    streams: bool,
}

impl Busy {
    pub(super) fn callee(&self) -> &Arc<dyn Callee> {
        &self.instance.callee
    }

    /// From here on it is a stream: the process has answered that it has begun.
    pub(super) fn streams(&mut self) {
        if !std::mem::replace(&mut self.streams, true) {
            self.instance.streams.fetch_add(1, Ordering::SeqCst);
            self.instance.calls.fetch_sub(1, Ordering::SeqCst);
            self.among.one_less();
        }
    }

    /// Says of what a stream has failed with what that means to its consumer.
    pub(super) fn see(&self, failure: Failure) -> Failure {
        let superseded = self.among.superseded.get().filter(|_| self.streams);
        superseded.cloned().unwrap_or(failure)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let count = match self.streams {
            true => &self.instance.streams,
            false => &self.instance.calls,
        };
        count.fetch_sub(1, Ordering::SeqCst);
        self.among.one_less();
    }
}

impl Instances {
    pub(super) fn new(plugin: &PluginName) -> Arc<Self> {
        Arc::new(Self {
            plugin: plugin.clone(),
            list: Mutex::default(),
            turn: AtomicUsize::new(0),
            entering: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            limit: Mutex::default(),
            quiet: Condvar::new(),
            superseded: OnceLock::new(),
        })
    }

    /// Returns the process with the fewest calls underway, with one more.
    pub(super) fn pick(self: &Arc<Self>) -> Option<Busy> {
        let instances = lock(&self.list);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (before, from) = instances.split_at(turn.checked_rem(instances.len())?);
        let there = from.iter().chain(before).filter(|it| it.callee.is_there());
        let free = there.min_by_key(|it| it.underway())?;
        free.calls.fetch_add(1, Ordering::SeqCst);
        Some(Busy {
            instance: Arc::clone(free),
            among: Arc::clone(self),
            streams: false,
        })
    }

    /// The failure of a call for which there is no process.
    pub(super) fn unavailable(&self, name: &str) -> Failure {
        let message = format!(
            "the process of plugin `{}`, which serves {name}, is not running; {name} was not called",
            self.plugin
        );
        Failure::new(FailureKind::Unavailable, message).of_skill(name)
    }

    /// Tells whether what they offer can be called.
    pub(super) fn is_served(&self) -> bool {
        lock(&self.list).iter().any(|it| it.callee.is_there())
    }

    /// Forgets the process of a session that has ended; returns whether it was the last.
    pub(super) fn leave(&self, session: u64) -> bool {
        let mut instances = lock(&self.list);
        let place = instances.iter().position(|it| it.session.id == session);
        let gone = place.map(|place| instances.remove(place));
        let last = gone.is_some() && instances.is_empty();
        drop(instances);
        // Its connection may end with it, and not under the lock.
        drop(gone);
        self.one_less();
        last
    }

    /// Says which processes serve.
    pub(super) fn status(&self) -> Vec<ServingProcess> {
        let instances = lock(&self.list);
        let all = instances.iter().map(|it| ServingProcess {
            pid: it.session.pid,
            session: it.session.id,
            calls: it.underway(),
        });
        all.collect()
    }

    /// Puts `instances` in the place of those that there were.
    pub(super) fn served_by(&self, instances: Vec<Arc<Instance>>) {
        let before = std::mem::replace(&mut *lock(&self.list), instances);
        drop(before);
    }

    /// Forgets those whose sessions have ended while they were taken in: nobody may have found them here.
    pub(super) fn forget_gone(&self) {
        let mut instances = lock(&self.list);
        let is_gone = |it: &mut Arc<Instance>| !it.callee.is_there();
        let gone: Vec<_> = instances.extract_if(.., is_gone).collect();
        drop(instances);
        // Their connections may end with them, and not under the lock.
        drop(gone);
        self.one_less();
    }

    /// Returns the processes that serve on other sessions.
    pub(super) fn others(&self, session: u64) -> Vec<Arc<Instance>> {
        let instances = lock(&self.list);
        let others = instances
            .iter()
            .filter(|it| it.session.id != session && it.callee.is_there());
        others.map(Arc::clone).collect()
    }

    /// Counts a call whose caller has found one of their skills, until it has [gone in](Self::is_in).
    pub(super) fn comes(&self) {
        self.entering.fetch_add(1, Ordering::SeqCst);
    }

    /// From here on the call is counted where it runs, or is over.
    pub(super) fn is_in(&self) {
        self.entering.fetch_sub(1, Ordering::SeqCst);
        self.one_less();
    }

    /// Tells whoever waits that a call is over.
    fn one_less(&self) {
        // Either this sees that somebody waits, or that one sees the count.
        if self.awaited.load(Ordering::SeqCst) {
            drop(lock(&self.limit));
            self.quiet.notify_all();
        }
    }

    fn is_quiet(&self) -> bool {
        let is_quiet = |it: &Arc<Instance>| it.calls.load(Ordering::SeqCst) == 0;
        self.entering.load(Ordering::SeqCst) == 0 && lock(&self.list).iter().all(is_quiet)
    }

    fn is_over(&self) -> bool {
        self.is_quiet() && lock(&self.list).iter().all(|it| it.underway() == 0)
    }

    /// Waits until no call is underway, at most until `limit`, and until a [limit](Self::hurry) that is
    /// set meanwhile; false when that came first. One thread at a time: a hand-over, then whoever retires
    /// them.
    pub(super) fn wait_quiet(&self, limit: Option<Instant>) -> bool {
        self.wait(limit, || self.is_quiet())
    }

    /// Waits until no stream goes on either, in the same way.
    pub(super) fn wait_over(&self, limit: Instant) -> bool {
        self.wait(Some(limit), || self.is_over())
    }

    /// Has the streams that are left hear `failure` when they end.
    pub(super) fn supersede(&self, failure: Failure) {
        let _ = self.superseded.set(failure);
    }

    fn wait(&self, limit: Option<Instant>, done: impl Fn() -> bool) -> bool {
        self.awaited.store(true, Ordering::SeqCst);
        let done = self.wait_awaited(limit, done);
        self.awaited.store(false, Ordering::SeqCst);
        done
    }

    fn wait_awaited(&self, limit: Option<Instant>, done: impl Fn() -> bool) -> bool {
        let mut hurried = lock(&self.limit);
        loop {
            if done() {
                return true;
            }
            let until = [limit, *hurried].into_iter().flatten().min();
            let Some(until) = until else {
                let woken = self.quiet.wait(hurried);
                hurried = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.quiet.wait_timeout(hurried, left);
            hurried = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets nobody wait for longer than until `limit`.
    pub(super) fn hurry(&self, limit: Instant) {
        *lock(&self.limit) = Some(limit);
        self.quiet.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aigis_plugin_api::__private::{BoxItems, begun, single};
    use aigis_plugin_api::session::Underway;

    use super::*;
    use crate::rpc::Done;

    /// A process that is there until its session has ended, and is not called in these tests.
    struct Idle {
        ended: AtomicBool,
    }

    impl Callee for Idle {
        fn is_there(&self) -> bool {
            !self.ended.load(Ordering::SeqCst)
        }

        fn call(&self, _: &str, _: &[u8], _: Option<Duration>) -> Result<Vec<u8>, Failure> {
            Ok(Vec::new())
        }

        fn start(&self, _: &str, _: &[u8], _: Option<Duration>, _: Done) -> Arc<dyn Underway> {
            struct Over;
            impl Underway for Over {
                fn give_up(&self) {}
            }
            Arc::new(Over)
        }

        fn open(&self, _: &str, _: &[u8], _: Vec<BoxItems>, _: Option<Duration>) -> BoxItems {
            begun(single(Vec::new()))
        }
    }

    fn idle() -> Arc<Idle> {
        Arc::new(Idle {
            ended: AtomicBool::new(false),
        })
    }

    fn instance(id: u64, idle: &Arc<Idle>) -> Arc<Instance> {
        let info = SessionInfo {
            id,
            client: "mill".to_owned(),
            plugin: Some("mill".to_owned()),
            pid: 7,
        };
        let callee: Arc<dyn Callee> = Arc::clone(idle) as _;
        Instance::new(&Arc::new(info), &callee)
    }

    fn instances(count: u64) -> Arc<Instances> {
        let plugin = "mill".parse().expect("a name");
        let instances = Instances::new(&plugin);
        let idle = idle();
        let all = (0..count).map(|id| instance(id, &idle));
        instances.served_by(all.collect());
        instances
    }

    #[test]
    fn one_that_ended_before_it_was_taken_in_again_is_forgotten() {
        let instances = instances(0);
        let (first, second) = (idle(), idle());
        instances.served_by(vec![instance(0, &first)]);
        let mut all = instances.others(1);
        // Its session ends while the other one's offer is looked at.
        first.ended.store(true, Ordering::SeqCst);
        assert!(instances.leave(0));
        all.push(instance(1, &second));
        instances.served_by(all);
        instances.forget_gone();
        let left: Vec<u64> = instances.status().iter().map(|it| it.session).collect();
        assert_eq!(left, [1]);
    }

    #[test]
    fn calls_go_to_whom_has_the_fewest() {
        let instances = instances(3);
        let busy: Vec<Busy> = (0..3).filter_map(|_| instances.pick()).collect();
        let calls = |instances: &Instances| {
            let status = instances.status();
            status.iter().map(|it| it.calls).collect::<Vec<_>>()
        };
        assert_eq!(calls(&instances), [1, 1, 1]);
        let more: Vec<Busy> = (0..3).filter_map(|_| instances.pick()).collect();
        assert_eq!(calls(&instances), [2, 2, 2]);
        drop((busy, more));
        assert_eq!(calls(&instances), [0, 0, 0]);
        assert!(!instances.leave(0) && !instances.leave(0) && !instances.leave(1));
        assert!(instances.leave(2), "the last one");
        assert!(instances.pick().is_none());
    }

    #[test]
    fn streams_that_have_begun_are_no_calls() {
        let instances = instances(1);
        let mut busy = instances.pick().expect("is there");
        assert!(!instances.wait_quiet(Some(Instant::now())));
        busy.streams();
        assert!(instances.wait_quiet(None));
        assert!(!instances.wait_over(Instant::now()));
        let broken = || Failure::new(FailureKind::Disconnected, "its process has ended");
        assert_eq!(busy.see(broken()).kind, FailureKind::Disconnected);
        let late = Failure::new(FailureKind::Superseded, "it has had its time");
        instances.supersede(late);
        assert_eq!(busy.see(broken()).kind, FailureKind::Superseded);
        let call = instances.pick().expect("is there");
        assert_eq!(call.see(broken()).kind, FailureKind::Disconnected);
        drop(call);
        let waiting = Arc::clone(&instances);
        let end = Instant::now() + Duration::from_secs(60);
        let waiter = std::thread::spawn(move || waiting.wait_over(end));
        drop(busy);
        assert!(waiter.join().expect("does not panic"));
    }

    #[test]
    fn it_is_quiet_when_the_last_call_is_over() {
        let instances = instances(1);
        assert!(instances.wait_quiet(None));
        let busy = instances.pick().expect("is there");
        instances.comes();
        let waiting = Arc::clone(&instances);
        let waiter = std::thread::spawn(move || waiting.wait_quiet(None));
        assert!(!instances.is_quiet());
        instances.is_in();
        assert!(!instances.is_quiet());
        drop(busy);
        assert!(waiter.join().expect("does not panic"));
        // With a limit nobody waits for longer.
        let _busy = instances.pick().expect("is there");
        let waiting = Arc::clone(&instances);
        let waiter = std::thread::spawn(move || waiting.wait_quiet(None));
        instances.hurry(Instant::now());
        assert!(!waiter.join().expect("does not panic"));
    }
}
