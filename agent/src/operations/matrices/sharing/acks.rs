//! What hosts say of the fleet's matrix.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::Matrices;
use super::Sharing;
use super::published::{Pointer, Published};
use crate::error::Result;

/// How a host stands to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its consumers use it.
    InForce,
    /// A share of them does.
    RollingOut,
    /// It is taken as soon as something else is over.
    Waiting,
    /// It can't be taken.
    Refused,
    /// The host went back from it.
    RolledBack,
}

/// What a host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Its name.
    pub host: String,
    /// Whether it publishes or follows.
    pub sharing: Sharing,
    /// Of which version of the fleet's it speaks; 0: there is none.
    pub number: u64,
    /// How it stands to that.
    pub state: State,
    /// Of its consumers, while it is rolled out.
    pub percent: u32,
    /// The version that it is there; 0: none.
    pub version: u64,
    /// Since when.
    pub since: Timestamp,
    /// In words.
    pub why: String,
}

/// A host, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// Its identity.
    pub host_id: String,
    /// What it said.
    pub ack: Ack,
    /// Its agent lives.
    pub alive: bool,
}

/// The fleet's matrix, and who has it.
#[derive(Debug, Clone, Default)]
pub struct OfFleet {
    /// All versions that are kept, newest first.
    pub versions: Vec<Published>,
    /// By name.
    pub hosts: Vec<Acked>,
}

impl Matrices {
    /// The fleet's matrix, and who has it, as the fleet knows it now.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `FLEET_MATRIX_UNREADABLE`.
    pub async fn of_fleet(&self) -> Result<OfFleet> {
        let keys = self.fleet.keys();
        let pointer = match self.fleet.get(&keys.matrix()).await? {
            Some(entry) => {
                Some(Pointer::read(&entry.value).map_err(|why| super::unreadable(&why))?)
            }
            None => None,
        };
        let versions = pointer.into_iter().flat_map(|it| [vec![it.current], it.earlier].concat());
        let acks = keys.matrix_acks();
        let said = self.fleet.list(&acks).await?;
        let members = keys.members();
        let alive: BTreeSet<String> = self
            .fleet
            .list(&members)
            .await?
            .iter()
            .filter_map(|it| it.key.strip_prefix(&members)?.split_once('/'))
            .map(|(host_id, _)| host_id.to_owned())
            .collect();
        let acked = |entry: &crate::outside::coordinator::Entry| {
            let host_id = entry.key.strip_prefix(&acks)?.to_owned();
            // One of a later agent, perhaps; what it says is not known here.
            let ack: Ack = serde_json::from_slice(&entry.value).unwrap_or_else(|_| Ack {
                host: host_id.clone(),
                sharing: Sharing::Follow,
                number: 0,
                state: State::Waiting,
                percent: 0,
                version: 0,
                since: self.now(),
                why: "what it says can't be read by this agent".to_owned(),
            });
            Some(Acked { alive: alive.contains(&host_id), host_id, ack })
        };
        let mut hosts: Vec<Acked> = said.iter().filter_map(acked).collect();
        hosts.sort_by(|one, other| {
            (&one.ack.host, &one.host_id).cmp(&(&other.ack.host, &other.host_id))
        });
        Ok(OfFleet { versions: versions.collect(), hosts })
    }
}
