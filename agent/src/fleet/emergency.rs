//! The emergency of the whole fleet. Whoever is a member has it in force once it knows of it, and keeps it whatever
//! becomes of the fleet's record, until that says that it is over.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{EmergencyRecord, FleetMark};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Fleet;
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Entry, Guard};

/// How often both are compared when nothing is heard.
const LOOK: Duration = Duration::from_secs(1);

/// The fleet's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetEmergency {
    /// Grows with each.
    pub epoch: u64,
    /// When it was declared.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// On which host.
    pub host: String,
    /// How it ended; `None`: it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<FleetRelease>,
}

/// The end of the fleet's emergency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRelease {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// On which host.
    pub host: String,
}

impl FleetEmergency {
    /// Whether it is in force.
    pub fn active(&self) -> bool {
        self.release.is_none()
    }
}

/// What has to be done so that a host and its fleet agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// They do.
    Nothing,
    /// Put it in force here.
    Join,
    /// Note that the fleet's of this number is the one in force here too.
    Note(u64),
    /// Tell the fleet, by this number.
    Tell(u64),
    /// End what was declared here for the fleet's sake.
    Leave,
}

/// Compares the emergency of a host with that of its fleet. `fleet` is what is known of the fleet's record, from a
/// connection that is open now: a record that is not there any more ends nothing, and is made anew.
pub fn settle(host: Option<&EmergencyRecord>, fleet: Option<&FleetEmergency>) -> Settle {
    let here = host.filter(|record| record.active());
    let mark = here.and_then(|record| record.fleet);
    match (here, mark, fleet) {
        (None, _, Some(fleet)) if fleet.active() => Settle::Join,
        (None, _, _) => Settle::Nothing,
        (Some(_), None, Some(fleet)) if fleet.active() => Settle::Note(fleet.epoch),
        (Some(_), None, _) => Settle::Nothing,
        (Some(_), Some(mark), Some(fleet)) if fleet.active() => {
            match mark == (FleetMark { epoch: fleet.epoch, told: true, ..mark }) {
                true => Settle::Nothing,
                false => Settle::Note(fleet.epoch),
            }
        }
        // The fleet's record is lost, or was put back to before this.
        (Some(_), Some(mark), None) => Settle::Tell(mark.epoch),
        (Some(_), Some(mark), Some(fleet)) if mark.told && mark.epoch > fleet.epoch => {
            Settle::Tell(mark.epoch)
        }
        (Some(_), Some(mark), Some(_)) if mark.told => match mark.only {
            true => Settle::Leave,
            false => Settle::Nothing,
        },
        // One that the fleet was never told of is not over because another one is.
        (Some(_), Some(mark), Some(fleet)) => {
            Settle::Tell(mark.epoch.max(fleet.epoch.saturating_add(1)))
        }
    }
}

fn read(entry: Option<&Entry>) -> Result<Option<FleetEmergency>, String> {
    let Some(entry) = entry else { return Ok(None) };
    serde_json::from_slice(&entry.value).map(Some).map_err(|error| {
        format!("the fleet's emergency can't be read ({error}); it counts as one that is in force")
    })
}

impl Fleet {
    /// What is known of the fleet's emergency; `None`: there has been none, or nothing is known.
    ///
    /// # Errors
    /// In words, where the record can't be read.
    pub fn known_emergency(&self) -> Result<Option<FleetEmergency>, String> {
        read(self.now().mirror.get(&self.keys.emergency()))
    }

    /// Wishes that the emergency in force here be the whole fleet's. It is told as soon as the fleet can be reached, also
    /// after a restart. `only`: it was declared for that alone, and ends with the fleet's.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `NO_EMERGENCY`, `EMERGENCY_NOT_DURABLE`.
    pub async fn declare_emergency(&self, only: bool) -> Result<()> {
        self.configured()?;
        self.emergency.wish_fleet(only).await.map(|_| ())
    }

    /// Ends the fleet's emergency. Each member ends what it has declared for the fleet's sake when it hears of it.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `NO_EMERGENCY`, `FLEET_CONFLICT`, `FLEET_UNREACHABLE`; after that it may be over all the same.
    pub async fn release_emergency(&self, by: &str, reason: &str) -> Result<()> {
        let key = self.keys.emergency();
        let none = || {
            let message =
                "the fleet has no emergency in force; one of this host is released without --fleet";
            Error::conflict("NO_EMERGENCY", message)
        };
        let entry = self.get(&key).await?.ok_or_else(none)?;
        let known: FleetEmergency = serde_json::from_slice(&entry.value).map_err(|error| {
            let message = format!(
                "the fleet's emergency can't be read ({error}): delete the key {key} in etcd, members write it again; then \
                 release it"
            );
            Error::conflict("FLEET_CONFLICT", message)
        })?;
        if !known.active() {
            return Err(none());
        }
        let release = FleetRelease {
            at: self.clock.now(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            host: self.me.host.clone(),
        };
        let over = FleetEmergency { release: Some(release), ..known };
        let guards = [Guard::Modified(key.clone(), entry.modified)];
        let value = serde_json::to_vec(&over).unwrap_or_default();
        // An answer that was lost is found out: nobody is to be told that what is over could not be ended.
        match self.change(&guards, &[Act::Put { key, value, lease: 0 }]).await? {
            Some(revision) => {
                // Known at once, so that what is released here next is not taken for the fleet's still.
                self.heard_of(revision).await;
                Ok(())
            }
            None => Err(Error::conflict(
                "FLEET_CONFLICT",
                "the fleet's emergency changed meanwhile; look again",
            )),
        }
    }

    async fn join_known(&self) -> Result<()> {
        let wishes = self.emergency.wishes();
        match self.known_emergency() {
            _ if self.emergency.active() => Ok(()),
            Ok(Some(fleet)) if fleet.active() => self.join_emergency(&fleet, wishes).await,
            Ok(_) => Ok(()),
            Err(why) => self.emergency.join_fleet("fleet", &why, 0, wishes).await.map(drop),
        }
    }

    async fn join_emergency(&self, fleet: &FleetEmergency, wishes: u64) -> Result<()> {
        let by = format!("{} by the fleet from {}", fleet.by, fleet.host);
        self.emergency.join_fleet(&by, &fleet.reason, fleet.epoch, wishes).await.map(drop)
    }

    /// Brings host and fleet together, once.
    pub(super) async fn settle_emergency(&self) -> Result<()> {
        // What is known from before is no reason to tell the fleet anything; but an emergency that was heard of counts, also
        // where the connection was lost before it could be put in force here.
        let Some(open) = self.opened() else { return self.join_known().await };
        let wishes = self.emergency.wishes();
        let host = self.emergency.current();
        let key = self.keys.emergency();
        let untold = host.as_ref().filter(|host| host.active()).and_then(|host| host.fleet);
        let entry = match untold.is_some_and(|mark| !mark.told) {
            // What is known may be of before a release that has not been heard of yet, and that was none of this one.
            true => match open.link.list(&key).await {
                Ok(listed) => listed.entries.into_iter().find(|entry| entry.key == key),
                Err(trouble) => {
                    self.broken(&open, &trouble);
                    return Ok(());
                }
            },
            false => self.now().mirror.get(&key).cloned(),
        };
        let fleet = match read(entry.as_ref()) {
            Ok(fleet) => fleet,
            Err(why) => {
                if !self.emergency.active() {
                    self.emergency.join_fleet("fleet", &why, 0, wishes).await?;
                }
                return Ok(());
            }
        };
        match (settle(host.as_ref(), fleet.as_ref()), &fleet, &host) {
            (Settle::Join, Some(fleet), _) => self.join_emergency(fleet, wishes).await?,
            (Settle::Note(epoch), ..) => {
                self.emergency.note_fleet(epoch, wishes).await?;
            }
            (Settle::Leave, Some(fleet), _) => {
                let Some(release) = &fleet.release else { return Ok(()) };
                // Where positions are being closed it ends after that: it is looked for again each second.
                let epoch = host.as_ref().map_or(0, |host| host.epoch);
                let _held = match self.ending.get() {
                    Some(ending) => match ending.may_end(epoch).await {
                        Some(held) => Some(held),
                        None => return Ok(()),
                    },
                    None => None,
                };
                let by = format!("{} by the fleet from {}", release.by, release.host);
                self.emergency.leave_fleet(fleet.epoch, &by, &release.reason).await?;
            }
            (Settle::Tell(epoch), _, Some(host)) => {
                let telling = FleetEmergency {
                    epoch,
                    since: host.since,
                    by: host.activated_by.clone(),
                    reason: host.reason.clone(),
                    host: self.me.host.clone(),
                    release: None,
                };
                let guard = match &entry {
                    Some(entry) => Guard::Modified(key.clone(), entry.modified),
                    None => Guard::Absent(key.clone()),
                };
                let value = serde_json::to_vec(&telling).unwrap_or_default();
                let acts = [Act::Put { key, value, lease: 0 }];
                // Where somebody else was faster, the watch tells of it, and this is done anew.
                match open.link.commit(&[guard], &acts).await {
                    Ok(committed) if committed.done => {
                        self.emergency.note_fleet(epoch, wishes).await?;
                    }
                    Ok(_) => {}
                    Err(trouble) => self.broken(&open, &trouble),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Brings host and fleet together for ever, and tells the fleet how this host stands. The one does not wait for the other:
    /// an emergency that is heard of while etcd owes an answer is in force at once.
    pub(super) async fn keep_emergency(self: Arc<Self>) {
        tokio::join!(self.keep_settled(), self.keep_told());
    }

    async fn keep_settled(&self) {
        let (mut host, mut fleet) = (self.emergency.follow(), self.follow());
        loop {
            if let Err(error) = self.settle_emergency().await {
                tracing::error!(
                    error = error.chain(),
                    "the fleet's emergency could not be settled"
                );
            }
            self.news(&mut host, &mut fleet).await;
        }
    }

    async fn keep_told(&self) {
        let (mut host, mut fleet) = (self.emergency.follow(), self.follow());
        loop {
            self.tell_stand().await;
            self.news(&mut host, &mut fleet).await;
        }
    }

    /// Waits until host or fleet may be other than before.
    async fn news(
        &self,
        host: &mut watch::Receiver<Option<EmergencyRecord>>,
        fleet: &mut watch::Receiver<u64>,
    ) {
        tokio::select! {
            biased;
            _ = host.changed() => {}
            _ = fleet.changed() => {}
            () = self.clock.tick(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(active: bool, fleet: Option<(u64, bool, bool)>) -> EmergencyRecord {
        EmergencyRecord {
            epoch: 7,
            since: Timestamp::UNIX_EPOCH,
            activated_by: "olga".into(),
            reason: "feed".into(),
            release: (!active).then(|| genesis_storage::EmergencyRelease {
                at: Timestamp::UNIX_EPOCH,
                by: "olga".into(),
                reason: "well".into(),
            }),
            fleet: fleet.map(|(epoch, only, told)| FleetMark { epoch, only, told }),
        }
    }

    fn fleet(epoch: u64, active: bool) -> FleetEmergency {
        let (since, by) = (Timestamp::UNIX_EPOCH, "olga".to_owned());
        let release = (!active).then(|| FleetRelease {
            at: since,
            by: by.clone(),
            reason: "well".into(),
            host: "b".into(),
        });
        FleetEmergency { epoch, since, by, reason: "feed".into(), host: "a".into(), release }
    }

    #[test]
    fn either_means_emergency_and_only_a_release_ends_it() {
        use Settle::{Join, Leave, Note, Nothing, Tell};

        let table = [
            // Nothing anywhere, or all over.
            (None, None, Nothing),
            (Some(host(false, None)), None, Nothing),
            (None, Some(fleet(9, false)), Nothing),
            // The fleet's reaches a host, also one that has ended its own, or the very same.
            (None, Some(fleet(9, true)), Join),
            (Some(host(false, None)), Some(fleet(9, true)), Join),
            (Some(host(false, Some((9, true, true)))), Some(fleet(9, true)), Join),
            // One of the host's own is nobody else's, and knows of the fleet's.
            (Some(host(true, None)), None, Nothing),
            (Some(host(true, None)), Some(fleet(9, false)), Nothing),
            (Some(host(true, None)), Some(fleet(9, true)), Note(9)),
            (Some(host(true, Some((9, false, true)))), Some(fleet(9, true)), Nothing),
            (Some(host(true, Some((9, true, true)))), Some(fleet(9, true)), Nothing),
            (Some(host(true, Some((8, true, true)))), Some(fleet(9, true)), Note(9)),
            // Told by another at the same time: it is one.
            (Some(host(true, Some((7, false, false)))), Some(fleet(9, true)), Note(9)),
            // Only what was declared for the fleet's sake ends with it.
            (Some(host(true, Some((9, true, true)))), Some(fleet(9, false)), Leave),
            (Some(host(true, Some((8, true, true)))), Some(fleet(9, false)), Leave),
            (Some(host(true, Some((9, false, true)))), Some(fleet(9, false)), Nothing),
            // The fleet has forgotten, or was put back: it is told anew.
            (Some(host(true, Some((9, true, true)))), None, Tell(9)),
            (Some(host(true, Some((9, true, true)))), Some(fleet(5, false)), Tell(9)),
            // Declared where the fleet could not be told, while another one came and went.
            (Some(host(true, Some((7, false, false)))), None, Tell(7)),
            (Some(host(true, Some((7, false, false)))), Some(fleet(5, false)), Tell(7)),
            (Some(host(true, Some((7, false, false)))), Some(fleet(9, false)), Tell(10)),
        ];
        for (host, fleet, is) in table {
            assert_eq!(settle(host.as_ref(), fleet.as_ref()), is, "{host:?} {fleet:?}");
        }
    }
}
