//! What operations keep in the fleet: keys that every member follows, changes that are made whole or not at all, and
//! changes that only the holder of a lock may make.

use super::keys::Keys;
use super::locks::Held;
use super::{Fleet, Open};
use crate::error::Result;
use crate::outside::coordinator::{Act, Entry, Guard, Listed, Trouble};

/// A change whose answer was lost is tried for so often.
const TRIES: usize = 5;

impl Fleet {
    /// The names of its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The connection, if there is one now.
    pub fn opened(&self) -> Option<Open> {
        self.now().open.clone()
    }

    /// Whether what is known of the keys that every member follows is what there is, as far as this host can tell.
    pub fn is_open(&self) -> bool {
        self.now().open.is_some()
    }

    /// A key that every member follows, as it is known.
    pub fn common(&self, key: &str) -> Option<Entry> {
        self.now().mirror.get(key).cloned()
    }

    /// Shows each key that every member follows and that begins so, in order.
    pub fn each_common(&self, prefix: &str, show: impl FnMut(&Entry)) {
        self.now().mirror.under(prefix).for_each(show);
    }

    /// What must hold so that a key which every member follows is as it is known.
    pub fn unchanged(&self, key: &str) -> Guard {
        match self.now().mirror.get(key) {
            Some(entry) => Guard::Modified(key.to_owned(), entry.modified),
            None => Guard::Absent(key.to_owned()),
        }
    }

    /// What must hold so that no emergency of the fleet is declared that is not known here.
    pub fn no_other_emergency(&self) -> Guard {
        self.unchanged(&self.keys.emergency())
    }

    /// All keys that begin so.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn list(&self, prefix: &str) -> Result<Listed> {
        let open = self.open().await?;
        open.link.list(prefix).await.map_err(|trouble| {
            self.broken(&open, &trouble);
            self.unreachable(&trouble)
        })
    }

    /// Makes a change if all guards hold; the revision that did it, or `None` where they don't. An answer that was lost is
    /// found out by the first key that it sets, so that what this holds must be its own.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`: then it may have been made.
    pub async fn change(&self, guards: &[Guard], acts: &[Act]) -> Result<Option<i64>> {
        let (mut lost, mut trouble) = (false, None);
        for _ in 0..TRIES {
            let open = self.open().await?;
            if lost && let Some(done) = self.was_made(&open, acts).await {
                return Ok(Some(done));
            }
            match open.link.commit(guards, acts).await {
                Ok(committed) => return Ok(committed.done.then_some(committed.revision)),
                Err(found) => {
                    self.broken(&open, &found);
                    if !matches!(found, Trouble::Away(_)) {
                        return Err(self.unreachable(&found));
                    }
                    (lost, trouble) = (true, Some(found));
                }
            }
        }
        let away = || Trouble::Away("it does not stay connected".to_owned());
        Err(self.unreachable(&trouble.unwrap_or_else(away)))
    }

    /// The revision by which the first key that is set has what it is set to.
    async fn was_made(&self, open: &Open, acts: &[Act]) -> Option<i64> {
        let set = acts.iter().find_map(|act| match act {
            Act::Put { key, value, .. } => Some((key, value)),
            Act::Delete(_) => None,
        });
        let (key, value) = set?;
        let listed = open.link.list(key).await.ok()?;
        let found = listed.entries.into_iter().find(|entry| entry.key == *key);
        found.filter(|entry| entry.value == *value).map(|entry| entry.modified)
    }
}

impl Held {
    /// Makes a change if the lock is still this host's and all guards hold; the revision that did it.
    ///
    /// # Errors
    /// `FLEET_LOCK_LOST`, `FLEET_UNREACHABLE`.
    pub async fn change(&self, guards: &[Guard], acts: &[Act]) -> Result<Option<i64>> {
        self.check()?;
        let own = Guard::Created(self.fleet.keys.lock(&self.name), self.token);
        let guards: Vec<Guard> = std::iter::once(own).chain(guards.iter().cloned()).collect();
        self.fleet.change(&guards, acts).await
    }

    /// The lease that it ends with.
    pub fn lease(&self) -> i64 {
        self.lease
    }
}
