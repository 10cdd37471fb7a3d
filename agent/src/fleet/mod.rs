//! The fleet that this host is of: who is in it, what may be done by one host at a time, and the emergency of all. It is
//! held together by etcd; whatever is local goes on without.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::emergency::Emergency;
use crate::error::{Error, Result, Unmet};
use crate::events::Bell;
use crate::outside::coordinator::{Coordinator, Link, Trouble};
use crate::outside::{Clock, Outside};

mod changes;
pub mod config;
pub mod emergency;
pub mod heads;
pub mod keys;
pub mod locks;
pub mod members;
pub mod metrics;
pub mod mirror;
pub mod reach;
pub mod rpc;
mod session;
mod shared;
pub mod standing;
mod told;

pub use config::Config;
use heads::Compared;
use keys::Keys;
use members::Stand;
use metrics::Metrics;
use mirror::Mirror;
pub use standing::Standing;
use standing::standing;

/// So long a call waits for a connection; longer than a change from one member of etcd to the next takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who this agent is in its fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// The identity of its host.
    pub host_id: String,
    /// The host's name.
    pub host: String,
    /// Another with each start of the agent.
    pub session: String,
    /// That of the agent that was here before, which may have been killed; empty: none.
    pub before: String,
    /// Of the agent.
    pub version: String,
    /// Where genesisctl reaches it.
    pub node: String,
    /// When it started.
    pub since: Timestamp,
}

/// A connection that is open, and what is held by it.
#[derive(Clone)]
pub struct Open {
    /// The connection.
    pub link: Arc<dyn Link>,
    /// What this host holds ends with it; 0: etcd has no room for one.
    pub lease: i64,
    /// Where.
    pub endpoint: String,
}

/// What is known now.
pub(super) struct Now {
    open: Option<Open>,
    /// The lease, which outlives connections.
    lease: Option<i64>,
    /// When the lease was last kept, by the monotonic clock.
    kept: Duration,
    /// When the coordinator was last heard of, and when the agent started.
    heard: (Option<Duration>, Duration),
    /// Since when the standing is what it is.
    since: Timestamp,
    /// Why there is no connection, or why the last one ended.
    trouble: String,
    mirror: Mirror,
    /// Why no change is taken, though there is a connection.
    full: Option<String>,
    /// Other agents that live under this host's identity.
    twins: Vec<members::Member>,
    /// Since when it has not been told of this host's emergency, by the monotonic clock.
    untold: Option<Duration>,
    /// How the fleet was told that this host stands.
    told: Option<(String, Stand)>,
    /// How the operation log stands to the head that the fleet has of it, and since when.
    head: Option<(Compared, Timestamp)>,
    /// Connections made so far.
    connected: u64,
}

/// This host's part in its fleet.
pub struct Fleet {
    config: Config,
    me: Me,
    keys: Keys,
    coordinator: Arc<dyn Coordinator>,
    clock: Arc<dyn Clock>,
    emergency: Emergency,
    bell: Bell,
    metrics: Metrics,
    now: Mutex<Now>,
    changed: watch::Sender<u64>,
    ending: OnceLock<Arc<dyn Ending>>,
    /// Locks that this host holds, and those that it is about to take.
    mine: Mutex<locks::Mine>,
}

/// Who knows whether an emergency of this host may end.
#[async_trait]
pub trait Ending: Send + Sync {
    /// Nothing that must not be cut off goes on in it, and nothing of the kind begins while this is held; `None`: not yet.
    async fn may_end(&self, epoch: u64) -> Option<Box<dyn Send + '_>>;
}

impl Fleet {
    /// Not connected yet; see [`Fleet::serve`].
    pub fn new(
        config: Config,
        me: Me,
        outside: &Outside,
        (emergency, bell, metrics): (Emergency, Bell, Metrics),
    ) -> Arc<Self> {
        let clock = Arc::clone(&outside.clock);
        let started = clock.monotonic();
        Arc::new(Self {
            keys: Keys::of(&config.name),
            config,
            coordinator: Arc::clone(&outside.coordinator),
            emergency,
            bell,
            metrics,
            now: Mutex::new(Now {
                open: None,
                lease: None,
                kept: started,
                heard: (None, started),
                since: clock.now(),
                trouble: "nothing was heard of it yet".to_owned(),
                mirror: Mirror::default(),
                full: None,
                twins: Vec::new(),
                untold: None,
                told: None,
                head: None,
                connected: 0,
            }),
            changed: watch::Sender::new(0),
            ending: OnceLock::new(),
            mine: Mutex::default(),
            me,
            clock,
        })
    }

    /// Asks there before an emergency ends for the fleet's sake.
    pub fn ends_by(&self, ending: &Arc<impl Ending + 'static>) {
        let _ = self.ending.set(Arc::clone(ending) as Arc<dyn Ending>);
    }

    /// That of a host that is on its own.
    #[cfg(test)]
    pub fn alone(outside: &Outside, emergency: Emergency) -> Arc<Self> {
        let me = Me {
            host_id: "01".to_owned(),
            host: "here".to_owned(),
            session: "01".to_owned(),
            before: String::new(),
            version: String::new(),
            node: String::new(),
            since: outside.clock.now(),
        };
        Self::new(
            Config::alone("default"),
            me,
            outside,
            (emergency, Bell::default(), Metrics::default()),
        )
    }

    /// That of a host which is in a fleet, by the coordinator of the world that it is given.
    #[cfg(test)]
    pub fn member(outside: &Outside, emergency: Emergency, host: &str) -> Arc<Self> {
        let me = Me {
            host_id: format!("id-of-{host}"),
            host: host.to_owned(),
            session: format!("session-of-{host}"),
            before: String::new(),
            version: String::new(),
            node: format!("{host}:7443"),
            since: outside.clock.now(),
        };
        let (endpoints, ca, certificate, user) =
            (vec!["http://etcd:2379".to_owned()], None, None, None);
        let root = "/genesis/prod/".to_owned();
        let etcd =
            Some(crate::outside::coordinator::Place { endpoints, ca, certificate, user, root });
        let config = Config { etcd, ..Config::alone("prod") };
        Self::new(config, me, outside, (emergency, Bell::default(), Metrics::default()))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Each change of it is complete in itself.
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn tell(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    /// Follows what is known: connections, and keys that every member follows.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who this agent is in it.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// Whether anything holds the fleet together.
    pub fn is_configured(&self) -> bool {
        self.config.etcd.is_some()
    }

    fn configured(&self) -> Result<()> {
        if self.is_configured() {
            return Ok(());
        }
        let message = "this host is on its own: nothing holds a fleet together without [fleet.etcd] endpoints";
        let unmet = Unmet {
            code: "FLEET_UNCONFIGURED",
            subject: "fleet".to_owned(),
            message: message.to_owned(),
        };
        Err(Error::refused("FLEET_UNCONFIGURED", message, vec![unmet]))
    }

    /// How this host stands to its fleet now.
    pub fn standing(&self) -> Standing {
        if !self.is_configured() {
            return Standing::Alone;
        }
        let now = self.now();
        standing(now.open.is_some(), now.heard, self.clock.monotonic(), self.config.lease)
    }

    /// Why there is no connection, or why no change is taken; empty: all is well.
    pub fn trouble(&self) -> String {
        let now = self.now();
        match (&now.open, &now.full) {
            (Some(_), None) => String::new(),
            (Some(_), Some(why)) => format!("it takes no changes: {why}"),
            (None, _) => now.trouble.clone(),
        }
    }

    /// Why no change is taken, though there is a connection.
    pub fn full(&self) -> Option<String> {
        let now = self.now();
        now.full.clone().filter(|_| now.open.is_some())
    }

    /// The endpoint that it is connected to, the revision up to which all is known, and how often it was connected.
    pub fn connection(&self) -> (String, i64, u64) {
        let now = self.now();
        let endpoint = now.open.as_ref().map(|open| open.endpoint.clone()).unwrap_or_default();
        (endpoint, now.mirror.revision(), now.connected)
    }

    fn opened(&self) -> Option<Open> {
        self.now().open.clone()
    }

    /// The connection, which is waited for a while.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn open(&self) -> Result<Open> {
        self.configured()?;
        let mut changed = self.follow();
        let opened = async {
            loop {
                if let Some(open) = self.opened() {
                    return Some(open);
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::select! {
            biased;
            Some(open) = opened => Ok(open),
            () = self.clock.sleep(PATIENCE) => Err(self.out_of_reach()),
        }
    }

    /// What a caller is told when the coordinator can't be reached.
    pub fn out_of_reach(&self) -> Error {
        let trouble = self.now().trouble.clone();
        self.unreachable(&Trouble::Away(trouble))
    }

    fn unreachable(&self, trouble: &Trouble) -> Error {
        let seconds = self.standing().age().unwrap_or_default().as_secs();
        let message = format!(
            "the etcd of fleet {} can't be used: {trouble} (last heard of {seconds} s ago); what only one host may do waits \
             for it, see `genesisctl fleet status`",
            self.config.name
        );
        let unmet = Unmet {
            code: "FLEET_UNREACHABLE",
            subject: self.config.name.clone(),
            message: message.clone(),
        };
        Error::refused("FLEET_UNREACHABLE", message, vec![unmet])
    }
}

#[cfg(test)]
mod tests;
