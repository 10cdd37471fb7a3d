//! The head of this host's operation log, kept in the fleet: whoever cuts the log off, or puts an older state back, can't
//! take that back with it. The fleet's head goes on with the log, and never back by itself.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Head, Intent, Reading, StorageError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Fleet;
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Entry, Guard};
use crate::plan::{Plan, PlanStep, demand_reason};
use crate::state::State;

/// The fleet is told at most so often.
const PACE: Duration = Duration::from_secs(10);
/// So many heads that were given up are remembered.
const ACCEPTED: usize = 10;

/// A head that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Of the entry; 0: it could not be read.
    pub sequence: u64,
    /// In hex.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What the fleet has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of the newest entry when it was told.
    pub sequence: u64,
    /// In hex.
    pub hash: String,
    /// When it was told.
    pub at: Timestamp,
    /// The host's name.
    pub host: String,
    /// What was given up, newest first.
    #[serde(default)]
    pub accepted: Vec<Accepted>,
}

impl Told {
    /// As the log has it; `None`: its hash is none.
    pub fn head(&self) -> Option<Head> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        Some(Head { sequence: self.sequence, hash })
    }
}

/// How the log stands to what the fleet has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// The fleet has nothing of this log.
    Absent,
    /// The log has that entry.
    Agrees,
    /// The log ends before it.
    Short {
        /// What the fleet has.
        fleet: u64,
        /// Where the log ends.
        log: u64,
    },
    /// Another entry stands there.
    Other(u64),
    /// None stands there that could be read, though later ones do.
    Missing(u64),
    /// What the fleet has can't be read.
    Unreadable,
}

impl Compared {
    /// What is wrong, in words; `None`: nothing is.
    pub fn wrong(&self) -> Option<String> {
        let cause =
            "it was cut off, an older state of the agent was put back, or it was written anew";
        match self {
            Self::Absent | Self::Agrees => None,
            Self::Short { fleet, log } => Some(format!(
                "the operation log ends at entry {log}, and the fleet knows entry {fleet} of it: {cause}"
            )),
            Self::Other(sequence) => Some(format!(
                "entry {sequence} of the operation log is not the one that the fleet knows: {cause}"
            )),
            Self::Missing(sequence) => Some(format!(
                "the operation log has no entry {sequence} that could be read, and the fleet knows it"
            )),
            Self::Unreadable => Some(
                "what the fleet has of the operation log can't be read: somebody changed it there"
                    .to_owned(),
            ),
        }
    }
}

/// Compares what the fleet has (`Some(None)`: it can't be read) with the end of a log, and with the hash of the log's entry
/// where the fleet's head is.
pub fn compare(fleet: Option<Option<Head>>, log: Head, there: Option<[u8; 32]>) -> Compared {
    let Some(fleet) = fleet else { return Compared::Absent };
    let Some(fleet) = fleet else { return Compared::Unreadable };
    if fleet.sequence == 0 {
        return Compared::Agrees;
    }
    match there {
        Some(hash) if hash == fleet.hash => Compared::Agrees,
        Some(_) => Compared::Other(fleet.sequence),
        None if fleet.sequence > log.sequence => {
            Compared::Short { fleet: fleet.sequence, log: log.sequence }
        }
        None => Compared::Missing(fleet.sequence),
    }
}

/// What is in the fleet, read once.
#[derive(Debug, Clone)]
pub struct Kept {
    entry: Option<Entry>,
    /// As it can be read.
    pub told: Option<Told>,
}

impl Kept {
    fn of(entry: Option<Entry>) -> Self {
        let told = entry.as_ref().and_then(|it| serde_json::from_slice::<Told>(&it.value).ok());
        Self { told: told.filter(|it| it.head().is_some()), entry }
    }

    /// How a log stands to it.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn compare(&self, reading: &Reading<'_>) -> Result<(Head, Compared)> {
        let oplog = reading.oplog();
        let (log, fleet) = (oplog.head()?, self.told.as_ref().and_then(Told::head));
        let there = match fleet.map(|it| oplog.get(it.sequence)) {
            // One that can't be read is not there: the chain's own check says more of it.
            None | Some(Err(StorageError::Record { .. } | StorageError::UnknownVersion { .. })) => {
                None
            }
            Some(entry) => entry?.map(|it| it.hash),
        };
        Ok((log, compare(self.entry.as_ref().map(|_| fleet), log, there)))
    }

    fn guard(&self, key: &str) -> Guard {
        match &self.entry {
            Some(entry) => Guard::Modified(key.to_owned(), entry.modified),
            None => Guard::Absent(key.to_owned()),
        }
    }
}

impl Fleet {
    /// The head that the fleet has of this host's operation log.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn kept_head(&self) -> Result<Kept> {
        Ok(Kept::of(self.get(&self.keys.head(&self.me.host_id)).await?))
    }

    /// Has the fleet keep this head, if it still has what was read. Whether it was done.
    async fn keep(&self, kept: &Kept, log: Head, accepted: Vec<Accepted>) -> Result<bool> {
        let key = self.keys.head(&self.me.host_id);
        let told = Told {
            sequence: log.sequence,
            hash: hex::encode(log.hash),
            at: self.clock.now(),
            host: self.me.host.clone(),
            accepted,
        };
        let guard = kept.guard(&key);
        // Of strings, numbers and times: it can be written.
        let value = serde_json::to_vec(&told).unwrap_or_default();
        Ok(self.change(&[guard], &[Act::Put { key, value, lease: 0 }]).await?.is_some())
    }

    fn note_head(&self, compared: Compared) {
        let now = self.clock.now();
        let said = {
            let mut known = self.now();
            let before = known.head.as_ref().and_then(|(before, _)| before.wrong());
            let wrong = compared.wrong();
            let other = before.is_some() != wrong.is_some();
            match &mut known.head {
                Some((before, _)) if !other => *before = compared,
                head => *head = Some((compared, now)),
            }
            other.then_some(wrong)
        };
        if let Some(wrong) = said {
            self.bell.ring();
            match wrong {
                Some(wrong) => tracing::error!("{wrong}"),
                None => tracing::info!("the operation log and the fleet's head of it agree"),
            }
        }
    }

    /// What is wrong with the log, as the fleet knows it, and since when that is known.
    pub fn head_wrong(&self) -> Option<(String, Timestamp)> {
        let now = self.now();
        let (compared, since) = now.head.as_ref()?;
        Some((compared.wrong()?, *since))
    }

    /// Compares the log with the fleet's head once, and has that go on with the log where they agree. The sequence that the
    /// fleet has then; `None`: they don't.
    async fn tell_head(&self, state: &State) -> Result<Option<u64>> {
        let kept = self.kept_head().await?;
        let (log, compared) = state.read(|reading| kept.compare(reading))?;
        self.note_head(compared.clone());
        let known = kept.told.as_ref().map_or(0, |told| told.sequence);
        match compared {
            Compared::Agrees if known == log.sequence => Ok(Some(known)),
            Compared::Absent | Compared::Agrees => {
                let accepted = kept.told.clone().map(|told| told.accepted).unwrap_or_default();
                // Where somebody changed it meanwhile it is looked at anew.
                let done = self.keep(&kept, log, accepted).await?;
                Ok(done.then_some(log.sequence))
            }
            _ => Ok(None),
        }
    }

    /// Has the fleet keep the head of the operation log, for ever.
    pub async fn keep_head(self: Arc<Self>, state: State) {
        if !self.is_configured() {
            return;
        }
        let mut changed = self.follow();
        let mut known = None;
        loop {
            if !self.is_open() {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let newest = state.read(|reading| Ok(reading.oplog().head()?.sequence)).ok();
            if known.is_none() || newest != known {
                known = match self.tell_head(&state).await {
                    Ok(known) => known,
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "the fleet's head of the log");
                        None
                    }
                };
            }
            self.clock.sleep(PACE).await;
        }
    }

    async fn unaccepted(&self, state: &State) -> Result<(Kept, Head, Plan)> {
        let kept = self.kept_head().await?;
        let (log, compared) = state.read(|reading| kept.compare(reading))?;
        let Some(wrong) = compared.wrong() else {
            let message = match compared {
                Compared::Absent => "the fleet has no head of this log yet: it gets one by itself",
                _ => "the log has the entry that the fleet knows: there is nothing to accept",
            };
            return Err(Error::conflict("HEAD_AGREES", message));
        };
        let shown = match &kept.told {
            Some(told) => format!("{}:{}", told.sequence, told.hash),
            None => "unreadable".to_owned(),
        };
        let modified = kept.entry.as_ref().map_or(0, |entry| entry.modified).to_string();
        let steps = vec![
            PlanStep::new("give-up", format!("the fleet's head {shown}"), wrong),
            PlanStep::new(
                "keep",
                "the head of the log as it is then",
                "what was given up stays in the fleet beside it, with who did it and why",
            ),
        ];
        let plan = Plan::new("oplog.accept-head", &[&shown, &modified], steps);
        Ok((kept, log, plan))
    }

    /// What accepting the log as it is would do.
    ///
    /// # Errors
    /// `HEAD_AGREES`, `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `STORAGE_FAILED`.
    pub async fn plan_accept_head(&self, state: &State) -> Result<Plan> {
        Ok(self.unaccepted(state).await?.2)
    }

    /// Has the fleet keep the head of the log as it is, in place of one that it does not agree with. What it has then, and
    /// what it had.
    ///
    /// # Errors
    /// As [`Fleet::plan_accept_head`], and `REASON_MISSING`, `PLAN_CHANGED`, `FLEET_CONFLICT`.
    pub async fn accept_head(
        &self,
        state: &State,
        hash: &str,
        (who, reason): (&str, &str),
    ) -> Result<(Head, Option<Told>)> {
        demand_reason(reason, "a log that is not what it was is accepted with a reason")?;
        let (kept, log, plan) = self.unaccepted(state).await?;
        plan.accept(hash)?;
        let at = self.clock.now();
        let before = kept.told.clone();
        let shown = before.as_ref().map_or_else(
            || "one that could not be read".to_owned(),
            |told| format!("{}:{}, told at {:.0}", told.sequence, told.hash, told.at),
        );
        // Before it is done, so that the head that is kept has it.
        let intent = Intent::new(at, who, "oplog.head-accepted")
            .target(self.me.host_id.clone())
            .reason(reason)
            .outcome("intent")
            .detail(format!("the fleet had {shown}; the log ended at entry {}", log.sequence));
        state.note(intent).await?;
        let log = state.read(|reading| Ok(reading.oplog().head()?))?;
        let given_up = Accepted {
            sequence: before.as_ref().map_or(0, |told| told.sequence),
            hash: before.as_ref().map(|told| told.hash.clone()).unwrap_or_default(),
            at,
            by: who.to_owned(),
            reason: reason.to_owned(),
        };
        let earlier = before.iter().flat_map(|told| told.accepted.iter().cloned());
        let accepted = std::iter::once(given_up).chain(earlier).take(ACCEPTED).collect();
        if !self.keep(&kept, log, accepted).await? {
            let message = "the fleet's head of this log changed meanwhile; look again";
            return Err(Error::conflict("FLEET_CONFLICT", message));
        }
        self.note_head(Compared::Agrees);
        Ok((log, before))
    }
}

#[cfg(test)]
mod tests;
