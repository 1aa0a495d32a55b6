//! Threads that may block, as many as there are calls that do.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread runs. It must not panic.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// A pool of threads that grows with the calls that block, and shrinks again.
///
/// A new thread starts only while tasks wait that no idle thread can take, and one at a time: a burst
/// of short calls is over before many threads are there, long ones get a thread each.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    /// What an idle thread does when it is woken for it.
    between: fn(),
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    threads: usize,
    /// Threads that wait for work, those included that were woken but have not come to it yet.
    idle: usize,
    /// How often idle threads were woken to do what is to be done between tasks.
    rounds: u64,
    /// A thread has been started and has not come to its work yet.
    starting: bool,
    closed: bool,
}

impl Pool {
    /// Makes a pool of at most `limit` threads; idle ones run `between` when they are
    /// [woken](Self::wake_idle) for it.
    pub(crate) fn new(limit: usize, between: fn()) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                between,
                state: Mutex::default(),
                work: Condvar::new(),
            }),
        }
    }

    /// Runs `task` as soon as a thread is free. Never waits.
    ///
    /// # Errors
    /// The system gives not even one thread.
    pub(crate) fn submit(&self, task: Task) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.queue.push_back(task);
        if let Err(error) = self.shared.grow(&mut state)
            && state.threads == 0
        {
            let refused = state.queue.pop_back();
            drop(state);
            drop(refused);
            return Err(error);
        }
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }
}

impl Pool {
    /// Makes every idle thread do what is to be done between tasks.
    pub(crate) fn wake_idle(&self) {
        self.shared.lock().rounds += 1;
        self.shared.work.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts a thread if tasks wait that nobody else will take soon.
    fn grow(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.queue.len() <= state.idle || state.starting || state.threads >= self.limit {
            return Ok(());
        }
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("aigis-call".to_owned())
            .spawn(move || shared.work())?;
        state.starting = true;
        state.threads += 1;
        Ok(())
    }

    fn work(self: Arc<Self>) {
        let mut state = self.lock();
        state.starting = false;
        let mut rounds = state.rounds;
        loop {
            if let Some(task) = state.queue.pop_front() {
                // A refusal is not the end: this thread comes back to what waits.
                let _ = self.grow(&mut state);
                drop(state);
                task();
                state = self.lock();
            } else if state.closed {
                break;
            } else if state.rounds != rounds {
                // Also when it was busy at the time: it may have left its last call before.
                rounds = state.rounds;
                drop(state);
                (self.between)();
                state = self.lock();
            } else {
                state.idle += 1;
                let (again, waited) = self
                    .work
                    .wait_timeout(state, IDLE)
                    .unwrap_or_else(|e| e.into_inner());
                state = again;
                state.idle -= 1;
                if waited.timed_out() && state.queue.is_empty() && state.rounds == rounds {
                    break;
                }
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    static BETWEEN: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);

    fn tell() {
        if let Some(told) = &*BETWEEN.lock().unwrap() {
            told.send(()).unwrap();
        }
    }

    /// It may have left its last call already, and would go idle with what it has.
    #[test]
    fn a_thread_that_was_busy_does_what_it_was_woken_for() {
        let (told, between) = mpsc::channel();
        *BETWEEN.lock().unwrap() = Some(told);
        let pool = Pool::new(1, tell);
        let (begins, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let task = move || {
            begins.send(()).unwrap();
            ends.recv_timeout(DEADLINE).unwrap();
        };
        pool.submit(Box::new(task)).unwrap();
        begun.recv_timeout(DEADLINE).unwrap();
        pool.wake_idle();
        end.send(()).unwrap();
        between.recv_timeout(IDLE / 2).unwrap();
    }
}
