//! What sessions ask of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aigis_plugin_api::__private::{Expected, Failure, FailureKind};
use aigis_plugin_api::session::frame::{Expectation, Hello};
use aigis_plugin_api::signature::Signature;

use super::calls::GoesOn;
use super::compatibility::Importer;
use super::{Inner, lock};
use crate::logging::Level;
use crate::rpc::{Done, Peer, Service, SessionInfo, Underway};

/// The sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    last: u64,
    open: HashMap<u64, Open>,
}

/// A session that is open.
#[derive(Debug)]
struct Open {
    info: Arc<SessionInfo>,
    /// What its imports expect, by the name of the skill.
    expects: HashMap<String, Signature>,
}

impl Sessions {
    /// Returns the sessions that import anything, apart from those of plugins that are `left_out`.
    pub(super) fn importers(&self, left_out: impl Fn(&str) -> bool) -> Vec<Importer> {
        let mut open: Vec<&Open> = self.open.values().collect();
        open.sort_by_key(|open| open.info.id);
        open.iter()
            .filter(|open| !open.info.plugin.as_deref().is_some_and(&left_out))
            .map(|Open { info, expects }| Importer {
                who: match &info.plugin {
                    Some(plugin) => format!("{plugin} (session {})", info.id),
                    None => format!("{} (session {})", info.client, info.id),
                },
                expects: expects.clone().into_iter().collect(),
            })
            .collect()
    }
}

impl Service for Inner {
    fn between_calls(&self) -> fn() {
        crate::loader::end_here
    }

    fn admit(&self, hello: &Hello, peer: Peer) -> Result<Arc<SessionInfo>, Failure> {
        if self.is_closing() {
            let message = "the core is shutting down";
            return Err(Failure::new(FailureKind::Refused, message));
        }
        let plugin = match &hello.token {
            Some(token) => Some(self.present(token)?),
            None => None,
        };
        let mut sessions = lock(&self.sessions);
        sessions.last += 1;
        let info = Arc::new(SessionInfo {
            id: sessions.last,
            client: hello.client.clone(),
            plugin,
            pid: peer.pid.unwrap_or(hello.pid),
        });
        let open = Open {
            info: Arc::clone(&info),
            expects: HashMap::new(),
        };
        sessions.open.insert(info.id, open);
        Ok(info)
    }

    fn expect(&self, session: &SessionInfo, expectation: Expectation) {
        let message = format!(
            "session {} ({}) imports {}",
            session.id, session.client, expectation.name
        );
        self.logs.core(Level::Debug, message);
        if let Some(open) = lock(&self.sessions).open.get_mut(&session.id) {
            open.expects.insert(expectation.name, expectation.signature);
        }
    }

    fn call(
        &self,
        _: &SessionInfo,
        name: &str,
        expects: Option<&Expected>,
        arguments: &[u8],
        timeout: Option<Duration>,
        done: Done,
    ) -> Option<Arc<dyn Underway>> {
        let runner = self.start(name, expects, arguments, timeout, done)?;
        Some(Arc::new(GoesOn(runner)))
    }

    fn ended(&self, session: &SessionInfo) {
        lock(&self.sessions).open.remove(&session.id);
    }
}

impl Inner {
    /// Takes the token of a launched plugin, which is ready with that.
    fn present(&self, token: &str) -> Result<String, Failure> {
        let mut launched = lock(&self.launched);
        let Some(known) = launched.get_mut(token) else {
            let message = "the token is not that of a running plugin of this core";
            return Err(Failure::new(FailureKind::Refused, message));
        };
        if let Some(up) = known.up.take() {
            // Its watch may be stopping it just now.
            let _ = up.send(());
        }
        Ok(known.plugin.name().to_string())
    }
}
