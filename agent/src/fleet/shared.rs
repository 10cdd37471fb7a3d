//! What operations keep in the fleet: keys that are read and changed through the connection that is open.

use super::Fleet;
use super::keys::Keys;
use crate::error::Result;
use crate::outside::coordinator::{Act, Committed, Entry, Guard, Trouble};

/// What only reads is asked again so often.
const TRIES: u32 = 4;

impl Fleet {
    /// The names of its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether there is a connection at this moment.
    pub fn is_open(&self) -> bool {
        self.opened().is_some()
    }

    /// A key that every member follows, as it is known here.
    pub fn known(&self, key: &str) -> Option<Entry> {
        self.now().mirror.get(key).cloned()
    }

    /// A key as it is now.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.list(key).await?.into_iter().find(|entry| entry.key == key))
    }

    /// The keys that begin so.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut tries = 0;
        loop {
            let open = self.open().await?;
            match open.link.list(prefix).await {
                Ok(listed) => return Ok(listed.entries),
                Err(trouble) => {
                    self.broken(&open, &trouble);
                    tries += 1;
                    // The next member of etcd answers, or the next leader.
                    if tries >= TRIES || !matches!(trouble, Trouble::Away(_)) {
                        return Err(self.unreachable(&trouble));
                    }
                }
            }
        }
    }

    /// Makes a change if all guards hold.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`; then it may have been made all the same.
    pub async fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed> {
        let open = self.open().await?;
        open.link.commit(guards, acts).await.map_err(|trouble| {
            self.broken(&open, &trouble);
            self.unreachable(&trouble)
        })
    }
}
