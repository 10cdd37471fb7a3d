//! Certificates: each is ordered before the one in force ends, looked at before it comes into service, and seen to be
//! served before it counts. What was in service before is kept, to go back to within a second; where nothing else is to be
//! had, the agent makes one itself, and calls people.
//!
//! The state says what is meant to be; the disk has the generations; the world shows what is served. A run goes on from
//! wherever a crash left it: each round asks [`plan::decide`] what is to be done next.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{Identity, Moment};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::config::Follower;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::{Bell, Condition};
use crate::fleet::Fleet;
use crate::outside::Outside;
use crate::outside::aside::Aside;
use crate::runs::Runs;
use crate::state::State;

pub mod backoff;
pub mod budget;
mod clock;
pub mod component;
pub mod config;
mod copies;
mod deploy;
mod diagnose;
pub mod disk;
pub mod due;
mod failed;
mod foreign;
pub mod job;
mod looks;
mod marks;
pub mod material;
pub mod metrics;
mod order;
pub mod plan;
mod readback;
mod record;
mod renew;
mod revoke;
mod revoked;
pub mod rpc;
mod stage;
#[cfg(test)]
mod tests;
mod told;
mod verbs;
mod verify;
pub mod view;
mod waits;
mod watch_loop;

use config::Certificate;
pub use config::Config;
use metrics::Metrics;
pub use record::Standing;
pub use told::Told;
use verify::Served;

/// The kind of a run that brings one certificate to where it should be.
pub const RENEW: &str = "certificates.renew";
/// The daily check.
pub const CHECK: &str = "certificates.check";

/// What people start by hand beside the job. All of it goes on in an emergency: who has to get out needs to be let in.
pub const RUN_KINDS: [(&str, Stance); 1] = [(RENEW, Stance::GoOn)];

/// The certificates of this host.
pub struct Certificates {
    state: State,
    outside: Outside,
    runs: Runs,
    config: ArcSwap<Config>,
    home: PathBuf,
    host: Identity,
    metrics: Metrics,
    bell: Bell,
    fleet: Arc<Fleet>,
    /// What was last seen to be served, by certificate.
    served: Mutex<HashMap<String, Served>>,
    /// Held by whoever changes what of a certificate is in service.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// After a run that failed, no other is begun by itself for a while: how many failed in a row, and until when on the
    /// monotonic clock.
    pauses: Mutex<HashMap<String, (u32, Duration)>>,
    /// Generations whose files were found to be no use, and until when on the monotonic clock they are passed over.
    unfit: Mutex<HashMap<(String, u32), Duration>>,
    /// When CAs were asked last, on the monotonic clock, when they want a certificate renewed: by its fingerprint.
    asked_when: Mutex<HashMap<String, Duration>>,
    /// What is known of the clock.
    clock: Mutex<clock::Trust>,
    /// The ids of events: what happened later has the greater one, also within a millisecond.
    ids: Mutex<ulid::Generator>,
    /// Rung by whoever wants the certificates looked at now.
    wake: Notify,
    /// The certificate that the agent's own listener serves, and where.
    own: Mutex<Option<(String, String)>>,
    /// How often what is in service was changed: the agent's own listeners follow it.
    changed: watch::Sender<u64>,
    /// What people should hear of is read aside, so that a disk that hangs keeps nobody waiting.
    asked: Aside<(), Option<Vec<Condition>>>,
    /// So is what others have a hand in: copies, roots, what is imported.
    looks: looks::Looks,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is complete in itself, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Certificates {
    /// The certificates that the state knows.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn open(
        state: State,
        outside: Outside,
        runs: Runs,
        (config, home): (Config, PathBuf),
        metrics: Metrics,
        (bell, fleet): (Bell, Arc<Fleet>),
    ) -> Result<Arc<Self>> {
        let unknown = || Error::internal("STORAGE_NOT_FOUND", "the host has no identity yet");
        let host = state.read(|reading| Ok(reading.identity().get()?))?.ok_or_else(unknown)?;
        let own = Arc::new(Self {
            state,
            outside,
            runs,
            config: ArcSwap::from_pointee(config),
            home,
            host,
            metrics,
            bell,
            fleet,
            served: Mutex::default(),
            turns: Mutex::default(),
            pauses: Mutex::default(),
            unfit: Mutex::default(),
            asked_when: Mutex::default(),
            clock: Mutex::default(),
            ids: Mutex::new(ulid::Generator::new()),
            wake: Notify::new(),
            own: Mutex::default(),
            changed: watch::Sender::new(0),
            asked: Aside::default(),
            looks: looks::Looks::default(),
        });
        own.clear_away()?;
        let succeeded = Some(genesis_storage::RunState::Succeeded);
        let checked =
            own.state.read(|reading| Ok(reading.runs().list(Some(CHECK), succeeded, 1)?))?;
        if let Some(at) = checked.first().and_then(|run| run.ended_at) {
            own.metrics.checked(at);
        }
        Ok(own)
    }

    /// Removes what a crash has left on the disk, before anybody begins something new.
    fn clear_away(&self) -> Result<()> {
        for certificate in &self.config.load().certificates {
            let name = &certificate.name;
            let standing = self.standing(name)?;
            let ordered = standing.record.orders.iter().map(|order| order.generation);
            let known: Vec<u32> =
                standing.generations.iter().map(|it| it.number).chain(ordered).collect();
            if let Err(error) = self.folder(name).clear_away(&known) {
                tracing::warn!(certificate = name, %error, "what a crash has left can't be removed");
            }
        }
        Ok(())
    }

    /// Where the chain and the key of a certificate are that is in force.
    pub fn files_of(home: &Path, name: &str) -> (PathBuf, PathBuf) {
        let folder = home.join(name).join("current");
        (folder.join("fullchain.pem"), folder.join("key.pem"))
    }

    /// Changes whenever another generation comes into service.
    pub fn follow_changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The agent's own listener at `address` serves this certificate.
    pub fn is_served_by_us(&self, name: String, address: String) {
        *lock(&self.own) = Some((name, address));
    }

    /// Where what is served of a certificate is looked at: as configured, or at the agent's own listener.
    fn probe(&self, certificate: &Certificate) -> Option<config::Probe> {
        if let Some(probe) = &certificate.probe {
            return Some(probe.clone());
        }
        let own = lock(&self.own);
        let (name, address) = own.as_ref()?;
        // One that listens on every address is reached on its own.
        let address = match address.parse::<std::net::SocketAddr>() {
            Ok(at) if at.ip().is_unspecified() && at.is_ipv4() => {
                format!("127.0.0.1:{}", at.port())
            }
            Ok(at) if at.ip().is_unspecified() => format!("[::1]:{}", at.port()),
            _ => address.clone(),
        };
        let server_name = config::asked_for(&certificate.identifiers)?;
        (*name == certificate.name).then_some(config::Probe { address, server_name })
    }

    fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    fn moment(&self) -> Moment {
        self.outside.clock.moment()
    }

    fn new_id(&self) -> String {
        let at = crate::runs::system_time(self.now());
        let mut ids = lock(&self.ids);
        // 2^80 ids in one millisecond; a fresh random one is as good.
        ids.generate_from_datetime(at).unwrap_or_else(|_| ulid::Ulid::from_datetime(at)).to_string()
    }

    /// Who changes what of this certificate is in service takes its turn.
    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.turns).entry(name.to_owned()).or_default())
    }

    fn folder(&self, name: &str) -> disk::Folder {
        disk::Folder::of(&self.home, name)
    }

    /// The configured certificate that a name or a domain stands for; empty: the only one.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`.
    fn named(&self, domain: &str) -> Result<Certificate> {
        let config = self.config.load();
        let none = |why: String| Err(Error::not_found("CERTIFICATE_NOT_FOUND", why));
        let names = || {
            let names: Vec<&str> =
                config.certificates.iter().map(|it| it.name.as_str()).take(20).collect();
            names.join(", ")
        };
        if config.certificates.is_empty() {
            return none(
                "no certificate is managed here: configure a [[certificates.certificate]]".into(),
            );
        }
        if domain.is_empty() {
            return match config.certificates.as_slice() {
                [one] => Ok(one.clone()),
                _ => none(format!("name one of: {}", names())),
            };
        }
        let lower = domain.to_ascii_lowercase();
        if let Some(found) = config.certificates.iter().find(|it| it.name == domain) {
            return Ok(found.clone());
        }
        let by = |f: &dyn Fn(&&Certificate) -> bool| -> Vec<&Certificate> {
            config.certificates.iter().filter(f).collect()
        };
        // One that names the domain itself comes before one whose wildcard covers it.
        let mut found = by(&|it| it.identifiers.contains(&lower));
        if found.is_empty() {
            found = by(&|it| plan::covers(&it.identifiers, &lower));
        }
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let shown: String = domain.chars().filter(|c| !c.is_control()).take(64).collect();
                none(format!("no certificate is for {shown:?}; there are: {}", names()))
            }
            several => {
                let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
                none(format!("several are for it, name one of: {}", names.join(", ")))
            }
        }
    }

    /// Those that a name or a domain stands for; empty: all.
    fn those(&self, domain: &str) -> Result<Vec<Certificate>> {
        match domain {
            "" => Ok(self.config.load().certificates.clone()),
            domain => Ok(vec![self.named(domain)?]),
        }
    }

    /// When the daily check is next, and how much later this host makes it.
    fn next_check(&self) -> (Option<Timestamp>, Duration) {
        let config = self.config.load();
        let splay = crate::scheduler::calendar::splay(&self.host.host_id, CHECK, config.splay);
        let from = plan::minus(self.now(), splay);
        (config.schedule.next_after(from).map(|at| plan::plus(at, splay)), splay)
    }
}

/// What a run is told by: two of one certificate never go on together.
fn key(name: &str) -> String {
    format!("{RENEW}/{name}")
}

/// The same of a run beside that one, which does only what takes no CA.
fn key_beside(name: &str) -> String {
    format!("{}/beside", key(name))
}

#[async_trait]
impl Follower for Certificates {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.certificates.clone()));
        let names: BTreeMap<&str, ()> =
            config.certificates.certificates.iter().map(|it| (it.name.as_str(), ())).collect();
        lock(&self.served).retain(|name, _| names.contains_key(name.as_str()));
        self.bell.ring();
        self.wake.notify_one();
    }
}
