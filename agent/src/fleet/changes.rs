//! Changes of what operations keep in the fleet: made whole or not at all, also where an answer is lost, and some only by the
//! holder of a lock.

use super::emergency::FleetEmergency;
use super::locks::Held;
use super::{Fleet, Open};
use crate::error::Result;
use crate::outside::coordinator::{Act, Entry, Guard, Trouble};

/// A change whose answer was lost is tried for so often.
const TRIES: usize = 5;

impl Fleet {
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

    /// What must hold so that no emergency of the fleet is in force; `None`: one is, or what is known of it can't be read.
    pub fn no_emergency(&self) -> Option<Guard> {
        let now = self.now();
        let key = self.keys.emergency();
        let Some(entry) = now.mirror.get(&key) else { return Some(Guard::Absent(key)) };
        let known: FleetEmergency = serde_json::from_slice(&entry.value).ok()?;
        (!known.active()).then_some(Guard::Modified(key, entry.modified))
    }

    /// Makes a change if all guards hold; the revision that did it, or `None` where they don't. What became of one whose answer
    /// was lost is found out by the first key that it sets, so that what this holds must be its own: before it is made again,
    /// and where it could not be, since it may have come in late.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`: then it may have been made.
    pub async fn change(&self, guards: &[Guard], acts: &[Act]) -> Result<Option<i64>> {
        let (mut lost, mut trouble) = (false, None);
        for _ in 0..TRIES {
            let open = self.open().await?;
            let made = match lost {
                true => self.was_made(&open, acts).await,
                false => Ok(None),
            };
            let tried = match made {
                Ok(None) => match open.link.commit(guards, acts).await {
                    Ok(committed) if committed.done => Ok(Some(committed.revision)),
                    Ok(_) if lost => self.was_made(&open, acts).await,
                    Ok(_) => Ok(None),
                    Err(found) => Err(found),
                },
                known => known,
            };
            match tried {
                Ok(made) => return Ok(made),
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
    async fn was_made(&self, open: &Open, acts: &[Act]) -> Result<Option<i64>, Trouble> {
        let set = acts.iter().find_map(|act| match act {
            Act::Put { key, value, .. } => Some((key, value)),
            Act::Delete(_) => None,
        });
        let Some((key, value)) = set else { return Ok(None) };
        let listed = open.link.list(key).await?;
        let found = listed.entries.into_iter().find(|entry| entry.key == *key);
        Ok(found.filter(|entry| entry.value == *value).map(|entry| entry.modified))
    }
}

impl Held {
    /// Makes a change if the lock is still this host's and all guards hold; the revision that did it.
    ///
    /// # Errors
    /// `FLEET_LOCK_LOST`, `FLEET_UNREACHABLE`.
    pub async fn change(&self, guards: &[Guard], acts: &[Act]) -> Result<Option<i64>> {
        self.check()?;
        let guards = [self.guards().as_slice(), guards].concat();
        self.fleet.change(&guards, acts).await
    }

    /// The lease that it ends with.
    pub fn lease(&self) -> i64 {
        self.lease
    }
}
