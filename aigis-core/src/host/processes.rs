//! The states of a plugin's processes, and what they come to together. Does no I/O.

use super::State;
use super::status::{LastExit, ProcessStatus};
use crate::supervisor::Remarks;

/// What a process is to its plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It runs the library, which is isolated.
    Library,
    /// It runs the program, as this one of its instances.
    Program(u32),
}

impl Role {
    /// Returns the number of the instance.
    pub(super) fn instance(self) -> Option<u32> {
        match self {
            Self::Library => None,
            Self::Program(number) => Some(number),
        }
    }
}

/// How a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) state: State,
    pub(super) pid: Option<u32>,
    pub(super) error: Option<String>,
    pub(super) runs: Option<Runs>,
}

/// Which tree a process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    /// The tree is what is below this one.
    pub(super) shim: u32,
    /// When it was launched, RFC 3339: by this core or by one before it.
    pub(super) started: String,
}

impl Condition {
    pub(super) fn of(state: State, pid: Option<u32>) -> Self {
        Self {
            state,
            pid,
            error: None,
            runs: None,
        }
    }

    /// It runs, with this tree.
    pub(super) fn running(state: State, pid: u32, runs: Runs) -> Self {
        Self {
            runs: Some(runs),
            ..Self::of(state, Some(pid))
        }
    }

    pub(super) fn failed(state: State, error: String) -> Self {
        Self {
            state,
            pid: None,
            error: Some(error),
            runs: None,
        }
    }
}

#[derive(Debug)]
struct Known {
    role: Role,
    now: Condition,
    restarts: u32,
    remarks: Remarks,
    last_exit: Option<LastExit>,
    /// It has served, or run, since it was launched first.
    was_ready: bool,
}

/// The processes of one plugin, those that have ended for good included.
#[derive(Debug)]
pub(super) struct Processes {
    /// The plugin has a program, also while that is not launched yet.
    has_program: bool,
    known: Vec<Known>,
}

impl Processes {
    pub(super) fn new(has_program: bool) -> Self {
        Self {
            has_program,
            known: Vec::new(),
        }
    }

    /// Expects this one, in the place of the one before in the same role.
    pub(super) fn begin(&mut self, role: Role) {
        self.known.retain(|known| known.role != role);
        self.known.push(Known {
            role,
            now: Condition::of(State::Starting, None),
            restarts: 0,
            remarks: Remarks::default(),
            last_exit: None,
            was_ready: false,
        });
        self.known.sort_by_key(|known| known.role);
    }

    /// Forgets those that `gone` names.
    pub(super) fn forget(&mut self, gone: impl Fn(Role) -> bool) {
        self.known.retain(|known| !gone(known.role));
    }

    /// Notes how one is; false if it is not known.
    pub(super) fn note(&mut self, role: Role, mut now: Condition) -> bool {
        let Some(known) = self.known.iter_mut().find(|known| known.role == role) else {
            return false;
        };
        known.was_ready |= now.state == State::Ready;
        // What went wrong is of interest until it is well again.
        if now.error.is_none() && now.state != State::Ready {
            now.error = known.now.error.take();
        }
        // What it said of itself goes with the process.
        if now.pid.is_none() {
            known.remarks = Remarks::default();
        }
        known.now = now;
        true
    }

    /// Goes on counting where another core has stopped.
    pub(super) fn take_over(&mut self, role: Role, restarts: u32, last_exit: Option<&LastExit>) {
        if let Some(known) = self.known.iter_mut().find(|known| known.role == role) {
            known.restarts = restarts;
            known.last_exit = last_exit.cloned();
        }
    }

    pub(super) fn restarts(&self, role: Role) -> u32 {
        let known = self.known.iter().find(|known| known.role == role);
        known.map_or(0, |known| known.restarts)
    }

    /// Notes what one, if it is known, says of itself.
    pub(super) fn remark(&mut self, role: Role, remarks: &Remarks) {
        if let Some(known) = self.known.iter_mut().find(|known| known.role == role) {
            known.remarks.clone_from(remarks);
        }
    }

    pub(super) fn last_exit(&self, role: Role) -> Option<LastExit> {
        let known = self.known.iter().find(|known| known.role == role)?;
        known.last_exit.clone()
    }

    pub(super) fn has_exited(&mut self, role: Role, exit: &LastExit) {
        if let Some(known) = self.known.iter_mut().find(|known| known.role == role) {
            known.last_exit = Some(exit.clone());
        }
    }

    pub(super) fn count_restart(&mut self, role: Role) {
        if let Some(known) = self.known.iter_mut().find(|known| known.role == role) {
            known.restarts += 1;
        }
    }

    /// Returns what they come to together; `None` if there are none.
    ///
    /// A plugin is ready when all of its processes are, also those that come last. From then on it stays
    /// so for as long as one of them is: the others are started again beside it. Without its isolated
    /// library it is not ready.
    pub(super) fn together(&self) -> Option<Condition> {
        let library = self.known.iter().find(|known| known.role == Role::Library);
        let programs = || {
            self.known
                .iter()
                .filter(|known| known.role != Role::Library)
        };
        let state = match (library.map(|known| known.now.state), state_of(programs())) {
            (Some(State::Ready), Some(program)) => program,
            // The program of a hybrid is launched when its library serves.
            (Some(State::Ready), None) if self.has_program => State::Starting,
            (Some(library), _) => library,
            (None, program) => program?,
        };
        let running = programs().chain(library);
        Some(Condition {
            state,
            pid: running.into_iter().find_map(|known| known.now.pid),
            error: self.error(),
            runs: None,
        })
    }

    fn error(&self) -> Option<String> {
        let wrong = self.known.iter().find(|known| known.now.error.is_some())?;
        let error = wrong.now.error.clone()?;
        Some(match (wrong.role, self.known.len()) {
            (_, 1) => error,
            (Role::Library, _) => format!("library: {error}"),
            (Role::Program(number), _) => format!("instance {number}: {error}"),
        })
    }

    pub(super) fn status(&self) -> Vec<ProcessStatus> {
        let all = self.known.iter().map(|known| ProcessStatus {
            instance: known.role.instance(),
            state: known.now.state,
            pid: known.now.pid,
            restarts: known.restarts,
            error: known.now.error.clone(),
            says: known.remarks.status.clone(),
            waiting_for: known.remarks.waiting.clone(),
            shim: known.now.runs.as_ref().map(|runs| runs.shim),
            cpu_ms: None,
            cpu_percent: None,
            memory_bytes: None,
            tree: None,
            started: known.now.runs.as_ref().map(|runs| runs.started.clone()),
            last_exit: known.last_exit.clone(),
        });
        all.collect()
    }
}

fn state_of<'k>(all: impl Iterator<Item = &'k Known> + Clone) -> Option<State> {
    let first = |wanted: &dyn Fn(&Known) -> bool| {
        let mut found = all.clone().filter(|known| wanted(known));
        found.next().map(|known| known.now.state)
    };
    first(&|known| !known.was_ready && !known.now.state.is_settled())
        .or_else(|| first(&|known| known.now.state == State::Ready))
        .or_else(|| first(&|known| !known.now.state.is_settled()))
        .or_else(|| first(&|known| known.now.state == State::CrashLoop))
        .or_else(|| first(&|known| known.now.state == State::Failed))
        .or_else(|| first(&|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u32) -> Processes {
        let mut all = Processes::new(true);
        for number in 0..count {
            all.begin(Role::Program(number));
        }
        all
    }

    fn is(all: &mut Processes, number: u32, state: State) -> State {
        let pid = (state == State::Ready).then_some(number + 10);
        let mut now = Condition::of(state, pid);
        now.error = state.is_failure().then(|| "died".to_owned());
        assert!(all.note(Role::Program(number), now));
        all.together().expect("there are some").state
    }

    #[test]
    fn ready_when_all_are_and_as_long_as_one_is() {
        let mut all = of(3);
        assert_eq!(is(&mut all, 1, State::Ready), State::Starting);
        assert_eq!(is(&mut all, 0, State::Ready), State::Starting);
        assert_eq!(is(&mut all, 2, State::Ready), State::Ready);
        assert_eq!(is(&mut all, 0, State::Backoff), State::Ready);
        assert_eq!(all.together().and_then(|it| it.pid), Some(11));
        assert_eq!(is(&mut all, 1, State::Backoff), State::Ready);
        assert_eq!(is(&mut all, 2, State::Backoff), State::Backoff);
        assert_eq!(is(&mut all, 0, State::Starting), State::Starting);
        assert_eq!(is(&mut all, 0, State::Ready), State::Ready);
    }

    #[test]
    fn the_worst_end_is_told() {
        let mut all = of(3);
        for number in 0..3 {
            is(&mut all, number, State::Ready);
        }
        assert_eq!(is(&mut all, 0, State::Finished), State::Ready);
        assert_eq!(is(&mut all, 1, State::CrashLoop), State::Ready);
        let error = all.together().and_then(|it| it.error);
        assert_eq!(error.as_deref(), Some("instance 1: died"));
        assert_eq!(is(&mut all, 2, State::Failed), State::CrashLoop);
        let restarts: Vec<u32> = all.status().iter().map(|it| it.restarts).collect();
        assert_eq!(restarts, [0, 0, 0]);
    }

    #[test]
    fn one_alone_is_what_its_plugin_is() {
        let mut all = of(1);
        for state in [State::Backoff, State::Starting, State::Ready, State::Failed] {
            assert_eq!(is(&mut all, 0, state), state);
        }
        assert_eq!(
            all.together().and_then(|it| it.error).as_deref(),
            Some("died")
        );
        assert!(!all.note(Role::Library, Condition::of(State::Ready, None)));
        all.forget(|role| role == Role::Program(0));
        assert_eq!(all.together(), None);
    }

    #[test]
    fn before_its_program_a_hybrid_is_not_ready() {
        let serves = Condition::of(State::Ready, Some(9));
        for (has_program, state) in [(true, State::Starting), (false, State::Ready)] {
            let mut all = Processes::new(has_program);
            all.begin(Role::Library);
            assert!(all.note(Role::Library, serves.clone()));
            assert_eq!(all.together().map(|it| it.state), Some(state));
        }
        let mut all = of(0);
        all.begin(Role::Library);
        all.note(Role::Library, serves);
        (0..2).for_each(|number| all.begin(Role::Program(number)));
        assert_eq!(is(&mut all, 0, State::Ready), State::Starting);
        assert_eq!(is(&mut all, 1, State::Ready), State::Ready);
    }

    #[test]
    fn without_its_library_a_hybrid_is_not_ready() {
        let mut all = of(2);
        all.begin(Role::Library);
        for number in 0..2 {
            assert_eq!(is(&mut all, number, State::Ready), State::Starting);
        }
        all.note(Role::Library, Condition::of(State::Ready, Some(9)));
        let now = all.together().expect("is there");
        assert_eq!((now.state, now.pid), (State::Ready, Some(10)));
        all.note(
            Role::Library,
            Condition::failed(State::Backoff, "died".to_owned()),
        );
        let now = all.together().expect("is there");
        assert_eq!(now.state, State::Backoff);
        assert_eq!(now.error.as_deref(), Some("library: died"));
    }
}
