//! Calls of a client's process.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use aigis_plugin_api::__private::{BoxItems, Failure, FailureKind, seen as seen_as};
use aigis_plugin_api::session::frame::{Call, Target};
use aigis_plugin_api::session::link::{End, Link, Outgoing};

use super::{Callee, Done, SessionInfo, Underway};

/// The process at the other end of a connection.
pub(super) struct Client {
    link: Arc<Link>,
    info: Arc<SessionInfo>,
}

impl Client {
    pub(super) fn new(link: &Arc<Link>, info: &Arc<SessionInfo>) -> Arc<Self> {
        Arc::new(Self {
            link: Arc::clone(link),
            info: Arc::clone(info),
        })
    }
}

/// Makes a call of a skill by its name.
fn outgoing<'a>(name: &'a str, arguments: &'a [u8], timeout: Option<Duration>) -> Outgoing<'a> {
    Outgoing {
        call: Call {
            target: Target::Name(name),
            arguments,
        },
        tail: &[],
        skill: name,
        begun: Instant::now(),
        timeout: timeout.unwrap_or(Duration::MAX),
        in_order: false,
    }
}

/// Says of a call that ended with its connection what that means to a caller.
fn seen(end: Option<&End>, info: &SessionInfo, name: &str, failure: Failure) -> Failure {
    let Some(end) = end.filter(|_| failure.kind == FailureKind::CoreGone) else {
        return failure;
    };
    let of = info.plugin.as_deref().unwrap_or(&info.client);
    let message = format!(
        "the process of plugin `{of}`, which serves {name}, is gone ({end}); whether {name} ran is \
         unknown"
    );
    Failure::new(FailureKind::Disconnected, message).of_skill(name)
}

impl Callee for Client {
    fn is_there(&self) -> bool {
        self.link.end().is_none()
    }

    fn call(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        let outcome = self.link.call(outgoing(name, arguments, timeout));
        outcome.map_err(|failure| seen(self.link.end(), &self.info, name, failure))
    }

    fn start(
        &self,
        name: &str,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Arc<dyn Underway> {
        let (link, info, of) = (
            Arc::downgrade(&self.link),
            Arc::clone(&self.info),
            name.to_owned(),
        );
        let done = move |outcome: Result<Vec<u8>, Failure>| {
            let link = link.upgrade();
            let end = link.as_ref().map_or(Some(&End::Here), |link| link.end());
            done(outcome.map_err(|failure| seen(end, &info, &of, failure)));
        };
        let number = self
            .link
            .start_call(outgoing(name, arguments, timeout), Box::new(done));
        Arc::new(GoesOn {
            link: Arc::downgrade(&self.link),
            number,
        })
    }

    fn open(
        &self,
        name: &str,
        arguments: &[u8],
        streams: Vec<BoxItems>,
        timeout: Option<Duration>,
    ) -> BoxItems {
        let call = outgoing(name, arguments, timeout);
        let items = self.link.open(call, timeout, streams);
        seen_items(&self.link, &self.info, name, items)
    }
}

/// Says of what a call brings, when it ends with its connection, what that means.
fn seen_items(link: &Arc<Link>, info: &Arc<SessionInfo>, name: &str, items: BoxItems) -> BoxItems {
    let (link, info, name) = (Arc::downgrade(link), Arc::clone(info), name.to_owned());
    seen_as(items, (), move |failure| {
        let link = link.upgrade();
        let end = link.as_ref().map_or(Some(&End::Here), |link| link.end());
        seen(end, &info, &name, failure)
    })
}

/// A call that a client's process has not answered.
struct GoesOn {
    link: Weak<Link>,
    number: u64,
}

impl Underway for GoesOn {
    fn give_up(&self) {
        if let Some(link) = self.link.upgrade() {
            link.cancel(self.number);
        }
    }
}
