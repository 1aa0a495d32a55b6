//! What a plugin's code knows of itself and of its host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::abi::{Job, Task};
use crate::codec::{self, Value};
use crate::join::{self, JoinError, JoinHandle};
use crate::library::{self, Closure, Running};
use crate::logger::Logger;
use crate::program;
use crate::sleep::{Sleep, TimedOut};

/// What a host gives to a plugin when it starts; crosses encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The plugin's name in the config.
    pub plugin: String,
    /// The number of this load or launch of the plugin, from 1.
    pub generation: u64,
    /// The folder that the core works in.
    pub home: PathBuf,
    /// A folder of the plugin's own that outlives reloads and fetches.
    pub data: PathBuf,
    /// The process id of the core.
    pub core_pid: u32,
    /// Which of the plugin's processes this is, from 0.
    #[serde(default)]
    pub instance: u32,
    /// The `settings` of the plugin's config entry.
    #[serde(default)]
    pub settings: Option<Value>,
    /// The library is brought into a caller's process, for its portable skills alone: its
    /// constructors are not run. A library that does not know this has none of those.
    #[serde(default)]
    pub brought: bool,
}

/// What a skill, a constructor or a `launch` function can ask for with a parameter `ctx: &Context`.
///
/// ```
/// use aigis_plugin_api::{Context, skills};
///
/// #[skills]
/// pub mod office {
///     use super::*;
///
///     /// Says who answers, and from which process.
///     pub fn who(ctx: &Context) -> String {
///         format!("{} in process {}", ctx.plugin(), ctx.core_pid())
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    grant: Grant,
    logger: Logger,
}

impl Context {
    pub(crate) fn new(grant: Grant, logger: Logger) -> Self {
        Self { grant, logger }
    }

    /// Tells whether the library is in a caller's process.
    pub(crate) fn is_brought(&self) -> bool {
        self.grant.brought
    }

    /// Returns the plugin's name in the config.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// println!("I am {}", ctx.plugin());
    /// # }
    /// ```
    pub fn plugin(&self) -> &str {
        &self.grant.plugin
    }

    /// Returns the number of this load or launch of the plugin, counted from 1.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let first_time = ctx.generation() == 1;
    /// # }
    /// ```
    pub fn generation(&self) -> u64 {
        self.grant.generation
    }

    /// Returns which of the plugin's processes this is, counted from 0: with `INSTANCES` in its manifest or
    /// its config entry there are several. Everywhere else it is 0.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let cache = ctx.data().join(format!("cache-{}", ctx.instance()));
    /// # }
    /// ```
    pub fn instance(&self) -> u32 {
        self.grant.instance
    }

    /// Returns the folder that the core works in.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let config = ctx.home().join("config/config.aigis");
    /// # }
    /// ```
    pub fn home(&self) -> &Path {
        &self.grant.home
    }

    /// Returns a folder of the plugin's own, kept over reloads and fetches. It exists.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) -> std::io::Result<()> {
    /// std::fs::write(ctx.data().join("seen.txt"), "zaltu")
    /// # }
    /// ```
    pub fn data(&self) -> &Path {
        &self.grant.data
    }

    /// Returns the process id of the core. In a skill of a core plugin it is this process's own, unless the
    /// plugin is isolated.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// let in_core = ctx.core_pid() == std::process::id();
    /// # }
    /// ```
    pub fn core_pid(&self) -> u32 {
        self.grant.core_pid
    }

    /// Returns the plugin's logger.
    ///
    /// ```
    /// # fn f(ctx: &aigis_plugin_api::Context) {
    /// ctx.logger().info("ready");
    /// # }
    /// ```
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Reads the `settings` of the plugin's config entry; without any, an empty table.
    ///
    /// ```
    /// use aigis_plugin_api::{Context, SettingsError};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Settings { #[serde(default)] greeting: Option<String> }
    ///
    /// fn greeting(ctx: &Context) -> Result<String, SettingsError> {
    ///     let settings: Settings = ctx.settings()?;
    ///     Ok(settings.greeting.unwrap_or_else(|| "Hello".into()))
    /// }
    /// ```
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let settings = self
            .grant
            .settings
            .clone()
            .unwrap_or_else(|| Value::Map(Vec::new()));
        codec::from_value(settings).map_err(|error| SettingsError {
            plugin: self.grant.plugin.clone(),
            message: error.to_string(),
        })
    }
}

/// Waiting without a thread, and working beside the calls.
impl Context {
    /// Waits for `time`. To be awaited in an async skill or in a task; the host wakes it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aigis_plugin_api::{Context, skills};
    ///
    /// #[skills]
    /// pub mod kitchen {
    ///     use super::*;
    ///
    ///     /// Is ready three minutes later; no thread waits meanwhile.
    ///     pub async fn tea(ctx: &Context) -> String {
    ///         ctx.sleep(Duration::from_mins(3)).await;
    ///         "tea".to_owned()
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + Unpin + use<> {
        Sleep::new(time)
    }

    /// Awaits `future`, but not longer than `time`; then it is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aigis_plugin_api::{Context, TimedOut};
    ///
    /// async fn first_line(ctx: &Context, line: impl Future<Output = String>) -> Result<String, TimedOut> {
    ///     ctx.timeout(Duration::from_secs(5), line).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`TimedOut`]; a future that is ready at that very time is not.
    pub fn timeout<F: IntoFuture>(
        &self,
        time: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, TimedOut>> + use<F> {
        let mut sleep = Sleep::new(time);
        let future = future.into_future();
        async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                let slept = Pin::new(&mut sleep).poll(cx);
                slept.map(|()| Err(TimedOut { after: time }))
            })
            .await
        }
    }

    /// Starts a task of the plugin's own: the host polls `future` beside the calls. It owns what it
    /// needs, a clone of this context for instance.
    ///
    /// When this version of the plugin is retired, the tasks that are left are cancelled, that is
    /// dropped at the point where they wait, and gone before `cleanup` runs; from then on a new one is
    /// dropped at once. In a launched program a task has a thread of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aigis_plugin_api::{Context, skills};
    ///
    /// pub struct Clock;
    ///
    /// #[skills]
    /// impl Clock {
    ///     pub fn new(ctx: &Context) -> Self {
    ///         let own = ctx.clone();
    ///         // Goes on alone, until the plugin is retired.
    ///         drop(ctx.spawn(async move {
    ///             loop {
    ///                 own.sleep(Duration::from_hours(1)).await;
    ///                 own.logger().info("another hour");
    ///             }
    ///         }));
    ///         Self
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        const NAME: &str = "a spawned task";
        let (mut handle, ending) = join::pair();
        let body = async move {
            let mut future = Box::pin(future);
            let polled = std::future::poll_fn(|cx| {
                match library::contain(NAME, || Ok(future.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(failure) => Poll::Ready(Err(failure)),
                }
            });
            let outcome = polled.await;
            // Gone before anybody hears that the task is over.
            let dropped = library::contain(NAME, || {
                drop(future);
                Ok(())
            });
            let outcome = outcome.and_then(|value| dropped.map(|()| value));
            ending.complete(outcome.map_err(JoinError::of));
            Ok(Vec::new())
        };
        let running = Running::new(NAME, Box::pin(body));
        match library::host() {
            Some(host) => {
                let number = host.spawn_task(Task::new(running));
                handle.abort_with(move || host.abort_task(number));
            }
            None => {
                let poller = program::spawn_task(running);
                handle.abort_with(move || poller.abort());
            }
        }
        handle
    }

    /// Runs `work`, which may block, on a thread of its own. It cannot be interrupted: the plugin's
    /// `cleanup` waits for it. After the plugin was retired, new work is dropped at once.
    ///
    /// ```
    /// use std::path::PathBuf;
    /// use aigis_plugin_api::{Context, JoinError};
    ///
    /// async fn size(ctx: &Context, file: PathBuf) -> Result<u64, JoinError> {
    ///     let work = ctx.spawn_blocking(move || file.metadata().map_or(0, |found| found.len()));
    ///     work.await
    /// }
    /// ```
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        const NAME: &str = "blocking work";
        let (handle, ending) = join::pair();
        let closure = Closure::new(NAME, move || {
            if ending.is_given_up() {
                return;
            }
            let outcome = library::contain(NAME, || Ok(work()));
            ending.complete(outcome.map_err(JoinError::of));
        });
        match library::host() {
            Some(host) => host.run_job(Job::new(closure)),
            None => program::run_closure(closure),
        }
        handle
    }
}

/// The `settings` of a config entry do not have the form that the plugin asks for.
///
/// ```
/// fn show(error: &aigis_plugin_api::SettingsError) -> String {
///     error.to_string()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsError {
    plugin: String,
    message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the settings of `{}` do not fit: {}; change its entry in the config",
            self.plugin, self.message
        )
    }
}

impl std::error::Error for SettingsError {}
