//! The tokio runtime of a generation, for plugins that ask for one with the feature `tokio`.
//!
//! One thread drives timers, sockets and what is given to `tokio::spawn`; it is started when the first
//! future is polled. The futures of skills and of `Context::spawn` are not its tasks: the host polls
//! them, inside the runtime's context.

/// What the threads of the runtime are called; by it the host knows them.
pub const RUNTIME_THREAD: &str = "plugin-tokio";

#[cfg(not(feature = "tokio"))]
mod chosen {
    use crate::error::Failure;

    pub(crate) fn inside<R>(body: impl FnOnce() -> R) -> R {
        body()
    }

    pub(crate) fn close() -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(feature = "tokio")]
mod chosen {
    use std::sync::{PoisonError, RwLock};
    use std::thread;

    use tokio::runtime::{Builder, Handle};

    use super::RUNTIME_THREAD;
    use crate::error::{Failure, FailureKind};
    use crate::join::{self, Ending};

    struct Runtime {
        handle: Handle,
        /// Ends the thread.
        stop: Ending<()>,
        driver: thread::JoinHandle<()>,
    }

    enum State {
        Unused,
        Running(Runtime),
        /// The library closes: nothing is started any more.
        Closed,
    }

    static STATE: RwLock<State> = RwLock::new(State::Unused);

    /// Runs `body` in the context of the runtime, which is started for it if need be.
    ///
    /// Without one, because the library closes, `body` runs all the same: what it does needs no
    /// runtime, or says itself that there is none.
    pub(crate) fn inside<R>(body: impl FnOnce() -> R) -> R {
        let handle = handle();
        let _entered = handle.as_ref().map(Handle::enter);
        body()
    }

    fn handle() -> Option<Handle> {
        match &*STATE.read().unwrap_or_else(PoisonError::into_inner) {
            State::Running(runtime) => return Some(runtime.handle.clone()),
            State::Closed => return None,
            State::Unused => {}
        }
        let mut state = STATE.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Unused = &*state {
            match start() {
                Ok(runtime) => *state = State::Running(runtime),
                Err(error) => {
                    drop(state);
                    if let Ok(context) = crate::library::context() {
                        context.logger().error(format_args!(
                            "the plugin's tokio runtime cannot be started: {error}"
                        ));
                    }
                    return None;
                }
            }
        }
        match &*state {
            State::Running(runtime) => Some(runtime.handle.clone()),
            State::Unused | State::Closed => None,
        }
    }

    fn start() -> std::io::Result<Runtime> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(RUNTIME_THREAD)
            .build()?;
        let handle = runtime.handle().clone();
        let (stopped, stop) = join::pair();
        let driver = thread::Builder::new()
            .name(RUNTIME_THREAD.to_owned())
            .spawn(move || {
                // Either way the thread is to end.
                let _ = runtime.block_on(stopped);
                // Here the tasks are dropped that are left, and threads waited for that block.
                drop(runtime);
            })?;
        Ok(Runtime {
            handle,
            stop,
            driver,
        })
    }

    /// Ends the runtime and waits until nothing of it is left.
    ///
    /// # Errors
    /// The thread that drives it panicked.
    pub(crate) fn close() -> Result<(), Failure> {
        let before = std::mem::replace(
            &mut *STATE.write().unwrap_or_else(PoisonError::into_inner),
            State::Closed,
        );
        let State::Running(runtime) = before else {
            return Ok(());
        };
        runtime.stop.complete(Ok(()));
        drop(runtime.handle);
        runtime.driver.join().map_err(|_| {
            Failure::new(
                FailureKind::Internal,
                "the thread of the plugin's tokio runtime panicked",
            )
        })
    }
}

pub(super) use chosen::close;
pub(crate) use chosen::inside;
