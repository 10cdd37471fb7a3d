//! The turn to care for a database, among the hosts of a fleet: a lock there, whose token is the database's fence.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::locks::Held;
use crate::operations::database::turn::{Cared, Turn};
use crate::outside::coordinator::Act;

/// A lock of the fleet.
struct Locked {
    fleet: Arc<Fleet>,
    held: Held,
    /// Where it is told who cared last.
    key: String,
}

/// Takes it, for this run; `None`: this host is on its own.
///
/// # Errors
/// `FLEET_HELD`, `FLEET_UNREACHABLE`.
pub(super) async fn take(
    fleet: &Arc<Fleet>,
    identity: &str,
    run: &str,
) -> Result<Option<Box<dyn Turn>>> {
    let Some(held) = fleet.take(&format!("database/{identity}"), run).await? else {
        return Ok(None);
    };
    let key = fleet.keys().cared(identity);
    Ok(Some(Box::new(Locked { fleet: Arc::clone(fleet), held, key })))
}

#[async_trait]
impl Turn for Locked {
    fn token(&self) -> i64 {
        self.held.token()
    }

    fn holder(&self) -> String {
        self.held.holder()
    }

    fn check(&self) -> Result<()> {
        self.held.check()
    }

    async fn last(&self) -> Result<Option<Cared>> {
        let Some(entry) = self.fleet.get(&self.key).await? else { return Ok(None) };
        serde_json::from_slice(&entry.value).map(Some).map_err(|error| {
            let message = format!(
                "who cared last for this database can't be read in the fleet: delete the key {} in etcd",
                self.key
            );
            Error::conflict("FLEET_CONFLICT", message).caused_by(error)
        })
    }

    async fn give_back(self: Box<Self>, cared: Option<Cared>) {
        if let Some(cared) = cared {
            // Of strings and a time: it can be written.
            let value = serde_json::to_vec(&cared).unwrap_or_default();
            let put = Act::Put { key: self.key.clone(), value, lease: 0 };
            // Where the lock is another's by now, that one cares for it.
            if let Err(error) = self.held.change(&[], &[put]).await {
                tracing::warn!(error = error.chain(), "the fleet is not told of a care");
            }
        }
        self.held.give_back().await;
    }
}
