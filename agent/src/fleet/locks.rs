//! What may be done by one host of the fleet at a time. A lock is a key that ends with its holder's lease; the revision
//! that made it is the token, which only grows. A lock alone keeps nobody out: whoever was frozen past the end of its
//! lease goes on when it wakes, so that the token goes to the resource with each step, which refuses an older one
//! (Kleppmann 2016, "How to do distributed locking").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fleet, Open};
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Entry, Guard, Link, Trouble};
use crate::outside::tasks;

/// A lock that is found to be nobody's is tried for so often.
const TRIES: usize = 5;

/// What a lock's key tells of its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    host: String,
    host_id: String,
    session: String,
    #[serde(rename = "for")]
    purpose: String,
    since: Timestamp,
}

/// A lock as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// Such as "database/orders".
    pub name: String,
    /// Grows each time that it is taken.
    pub token: i64,
    /// The name of the host that holds it.
    pub host: String,
    /// The identity of that host.
    pub host_id: String,
    /// What for: a run.
    pub purpose: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A lock that this host has taken; it is given back when it is dropped.
pub struct Held {
    pub(super) fleet: Arc<Fleet>,
    pub(super) name: String,
    pub(super) token: i64,
    pub(super) lease: i64,
    given_back: bool,
}

/// The locks of this host.
#[derive(Default)]
pub(super) struct Mine {
    /// Names and tokens of those that somebody here holds.
    held: BTreeSet<(String, i64)>,
    /// How often each is being taken at this moment.
    taking: BTreeMap<String, usize>,
}

/// A lock that is being taken.
struct Taking<'a> {
    fleet: &'a Fleet,
    name: &'a str,
}

impl<'a> Taking<'a> {
    fn begin(fleet: &'a Fleet, name: &'a str) -> Self {
        *fleet.mine().taking.entry(name.to_owned()).or_default() += 1;
        Self { fleet, name }
    }

    /// No other call of this host takes it too.
    fn alone(&self) -> bool {
        self.fleet.mine().taking.get(self.name).is_none_or(|count| *count <= 1)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut mine = self.fleet.mine();
        let left = mine.taking.get(self.name).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => drop(mine.taking.remove(self.name)),
            left => drop(mine.taking.insert(self.name.to_owned(), left)),
        }
    }
}

/// Of a lock's key. One that can't be read is held by somebody all the same.
fn view(name: String, entry: &Entry) -> LockView {
    let told = serde_json::from_slice::<Told>(&entry.value).ok();
    let (host, host_id, purpose, since) = told
        .map(|it| (it.host, it.host_id, it.purpose, Some(it.since)))
        .unwrap_or_else(|| ("unknown".into(), String::new(), "unknown".into(), None));
    LockView { name, token: entry.created, host, host_id, purpose, since }
}

impl Fleet {
    /// Takes a lock of the fleet for a run; `None`: this host is on its own, and its local locks are enough.
    ///
    /// # Errors
    /// `FLEET_UNREACHABLE`, and `FLEET_HELD` with who holds it.
    pub async fn take(self: &Arc<Self>, name: &str, purpose: &str) -> Result<Option<Held>> {
        if !self.is_configured() {
            return Ok(None);
        }
        let key = self.keys.lock(name);
        let told = Told {
            host: self.me.host.clone(),
            host_id: self.me.host_id.clone(),
            session: self.me.session.clone(),
            purpose: purpose.to_owned(),
            since: self.clock.now(),
        };
        let value = serde_json::to_vec(&told).unwrap_or_default();
        let (mut trouble, taking) = (None, Taking::begin(self, name));
        for _ in 0..TRIES {
            let open = self.open().await?;
            if open.lease == 0 {
                let why = self.full().unwrap_or_else(|| "it grants no lease".to_owned());
                return Err(self.unreachable(&Trouble::Full(why)));
            }
            let put = Act::Put { key: key.clone(), value: value.clone(), lease: open.lease };
            let tried = open.link.commit(&[Guard::Absent(key.clone())], &[put]).await;
            // Whether it was done is read back, for an answer may be lost.
            let read = match tried {
                Ok(_) | Err(Trouble::Away(_)) => self.lock_at(&open, &key).await,
                Err(trouble) => Err(trouble),
            };
            match read {
                Ok(Some(entry)) if entry.value == value && entry.lease == open.lease => {
                    let (name, token) = (name.to_owned(), entry.created);
                    tracing::info!(name, token, purpose, "took a lock of the fleet");
                    self.mine().held.insert((name.clone(), token));
                    let (fleet, lease) = (Arc::clone(self), open.lease);
                    return Ok(Some(Held { fleet, name, token, lease, given_back: false }));
                }
                // What this host held before, and could not give back, is in nobody's way.
                Ok(Some(entry)) if self.is_left(name, &entry) && taking.alone() => {
                    self.give_back(name, entry.created, entry.lease).await;
                }
                Ok(Some(entry)) => return Err(held(&view(name.to_owned(), &entry))),
                Ok(None) => {}
                Err(found) => {
                    self.broken(&open, &found);
                    if !matches!(found, Trouble::Away(_)) {
                        return Err(self.unreachable(&found));
                    }
                    trouble = Some(found);
                }
            }
        }
        let gone = || Trouble::Away("the lock is taken and given back all the time".to_owned());
        Err(self.unreachable(&trouble.unwrap_or_else(gone)))
    }

    fn mine(&self) -> MutexGuard<'_, Mine> {
        // Each change of it is complete in itself.
        self.mine.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether a lock is this agent's by its key, and nobody here holds it.
    fn is_left(&self, name: &str, entry: &Entry) -> bool {
        let told = serde_json::from_slice::<Told>(&entry.value).ok();
        let ours = told.is_some_and(|told| told.session == self.me.session);
        ours && !self.mine().held.contains(&(name.to_owned(), entry.created))
    }

    /// Gives back what this agent holds by the fleet's keys and nobody here does: an answer was lost, a lock could not be
    /// given back, or etcd was put back to when it was held.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn give_back_what_is_left(&self, link: &dyn Link) -> Result<(), Trouble> {
        let prefix = self.keys.locks();
        for entry in link.list(&prefix).await?.entries {
            let Some(name) = entry.key.strip_prefix(&prefix) else { continue };
            // In this order: whoever is taking one holds it before that is over.
            let is_taken = self.mine().taking.contains_key(name);
            if is_taken || !self.is_left(name, &entry) {
                continue;
            }
            tracing::warn!(name, token = entry.created, "a lock that was left is given back");
            let guards = [Guard::Created(entry.key.clone(), entry.created)];
            link.commit(&guards, &[Act::Delete(entry.key.clone())]).await?;
        }
        Ok(())
    }

    async fn lock_at(&self, open: &Open, key: &str) -> Result<Option<Entry>, Trouble> {
        let listed = open.link.list(key).await?;
        Ok(listed.entries.into_iter().find(|entry| entry.key == key))
    }

    /// All locks that are held, by name.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn locks(&self) -> Result<Vec<LockView>> {
        let open = self.open().await?;
        let prefix = self.keys.locks();
        let listed = open.link.list(&prefix).await.map_err(|trouble| {
            self.broken(&open, &trouble);
            self.unreachable(&trouble)
        })?;
        let name = |entry: &Entry| entry.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
        Ok(listed.entries.iter().map(|entry| view(name(entry), entry)).collect())
    }
}

fn held(lock: &LockView) -> Error {
    let since = lock.since.map_or_else(|| "unknown".to_owned(), |since| format!("{since:.0}"));
    let message = format!(
        "{} is done by one host of the fleet at a time, now by {} ({}, since {since}); see `genesisctl fleet locks`",
        lock.name, lock.host, lock.purpose
    );
    Error::conflict("FLEET_HELD", message)
}

/// What is so while a lock is held by whoever took it. By an etcd that was put back another host may have been given the same
/// token since, but never the same lease.
fn guards(key: &str, token: i64, lease: i64) -> [Guard; 2] {
    [Guard::Created(key.to_owned(), token), Guard::Leased(key.to_owned(), lease)]
}

fn fenced(name: &str, token: i64) -> Error {
    let message = format!(
        "the fleet's lock {name} is not this run's any more (its token was {token}): another host may do it by now, and \
         nothing further is done here"
    );
    Error::conflict("FENCED", message)
}

impl Held {
    /// The fencing token.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// What must be so for a change that this lock allows: whoever was frozen past its end changes nothing.
    pub fn guards(&self) -> [Guard; 2] {
        guards(&self.fleet.keys.lock(&self.name), self.token, self.lease)
    }

    /// What is told where the fleet refused a change by its token.
    pub fn fenced(&self) -> Error {
        fenced(&self.name, self.token)
    }

    /// Who holds it, as it is told to a resource.
    pub fn holder(&self) -> String {
        format!("{} ({})", self.fleet.me.host, self.fleet.me.host_id)
    }

    /// Whether it is still held, as far as this host can tell by itself. The resource has the last word.
    ///
    /// # Errors
    /// `FLEET_LOCK_LOST`.
    pub fn check(&self) -> Result<()> {
        let now = self.fleet.now();
        let silent = self.fleet.clock.monotonic().saturating_sub(now.kept);
        if now.lease == Some(self.lease) && silent < self.fleet.config.lease {
            return Ok(());
        }
        let message = format!(
            "the fleet's lock {} has ended, since etcd was not heard of for {:.1} s; another host may do this by now",
            self.name,
            silent.as_secs_f64()
        );
        Err(Error::conflict("FLEET_LOCK_LOST", message))
    }

    /// Notes the next step in the fleet, which refuses that where the lock is somebody else's by now: for what has no
    /// resource that could tell by itself, such as a CA.
    ///
    /// # Errors
    /// `FENCED`, `FLEET_LOCK_LOST`, `FLEET_UNREACHABLE`; the step must not be made then.
    pub async fn step(&self, what: &str) -> Result<()> {
        let step = serde_json::json!({
            "step": what,
            "token": self.token,
            "host": self.fleet.me.host,
            "host_id": self.fleet.me.host_id,
            "at": self.fleet.clock.now(),
        });
        let guards = self.guards();
        let key = self.fleet.keys.step(&self.name);
        let acts = [Act::Put { key, value: step.to_string().into_bytes(), lease: 0 }];
        let mut trouble = Trouble::NoLease;
        for _ in 0..TRIES {
            self.check()?;
            let open = self.fleet.open().await?;
            match open.link.commit(&guards, &acts).await {
                Ok(committed) if committed.done => return Ok(()),
                Ok(_) => return Err(fenced(&self.name, self.token)),
                Err(found) => {
                    self.fleet.broken(&open, &found);
                    trouble = found;
                }
            }
            if !matches!(trouble, Trouble::Away(_)) {
                break;
            }
        }
        Err(self.fleet.unreachable(&trouble))
    }

    /// Gives it back.
    pub async fn give_back(mut self) {
        self.given_back = true;
        self.fleet.give_back(&self.name, self.token, self.lease).await;
    }
}

impl Fleet {
    /// Whoever has it by now keeps it. One that can't be given back now is with the next connection.
    async fn give_back(&self, name: &str, token: i64, lease: i64) {
        let key = self.keys.lock(name);
        self.mine().held.remove(&(name.to_owned(), token));
        for _ in 0..TRIES {
            let Ok(open) = self.open().await else { break };
            let guards = guards(&key, token, lease);
            match open.link.commit(&guards, &[Act::Delete(key.clone())]).await {
                Ok(_) => return,
                Err(trouble) => self.broken(&open, &trouble),
            }
        }
        tracing::warn!(name, "a lock of the fleet could not be given back yet");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        // The run was cut off.
        let (fleet, name) = (Arc::clone(&self.fleet), self.name.clone());
        let (token, lease) = (self.token, self.lease);
        tasks::detached(async move { fleet.give_back(&name, token, lease).await });
    }
}
