//! Tells the fleet what this host has tallied of its experiments: all of it, when it is other than what was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::Experiments;
use super::plan;
use super::record::{Share, written};
use crate::error::Result;
use crate::outside::coordinator::{Act, Guard};

/// Nobody is told less often than this, whatever the owner asks for.
const LONGEST: Duration = Duration::from_secs(60);
/// So many are told at once, each with two guards; etcd takes 128.
const TOGETHER: usize = 50;

/// What was told.
#[derive(Default)]
pub(in super::super) struct Told {
    /// By the connection of that number; by another one all is told again.
    connection: u64,
    /// By number of the experiment.
    shares: BTreeMap<u64, Share>,
    /// The revision of what the fleet has of this host, 0 for nothing, by number of the experiment, where that is known.
    revisions: BTreeMap<u64, i64>,
    /// When, by the monotonic clock.
    at: Option<Duration>,
}

impl Experiments {
    /// What this host has of each experiment of the fleet, and the revision that made that.
    fn shares(&self) -> Vec<(u64, i64, Share)> {
        let host = &self.fleet.me().host;
        let mut shares = Vec::new();
        for defined in self.fleets() {
            let Some(entry) = self.fleet.known(&self.fleet.keys().experiment(defined.number))
            else {
                continue;
            };
            let record = self.here(&defined);
            let share = match record {
                // What has ended with the fleet was counted.
                _ if defined.conclusion.is_some() => None,
                Some(record) => {
                    let live = self.live();
                    let tally = live.tallies.get(&record.number);
                    tally.map(|tally| Share::of(host, &record, tally))
                }
                None => {
                    let part = self.part();
                    let why = part.refused.get(&defined.number);
                    why.map(|(why, _)| Share::refused(host, &defined, why))
                }
            };
            shares.extend(share.map(|share| (defined.number, entry.created, share)));
        }
        shares
    }

    /// Tells what is other than what was told, unless that was too short a time ago; how long to wait for the rest.
    ///
    /// # Errors
    /// `FLEET_UNREACHABLE`.
    pub(in super::super) async fn tell_once(&self, told: &mut Told) -> Result<Duration> {
        if !self.fleet.is_open() {
            return Ok(super::LOOK);
        }
        let (_, _, connection) = self.fleet.connection();
        if connection != told.connection {
            *told = Told { connection, ..Told::default() };
        }
        let now = self.outside.clock.monotonic();
        let shares = self.shares();
        let pace = |number: u64| {
            let owner = self.fleets_owner(number);
            let asked = Duration::from_secs(owner.map_or(0, |owner| owner.pace));
            asked.clamp(plan::PACE, LONGEST)
        };
        let pace = shares.iter().map(|(number, ..)| pace(*number)).max().unwrap_or(plan::PACE);
        if let Some(at) = told.at
            && now.saturating_sub(at) < pace
        {
            return Ok(pace - now.saturating_sub(at));
        }
        let numbers: Vec<u64> = shares.iter().map(|(number, ..)| *number).collect();
        told.shares.retain(|number, _| numbers.contains(number));
        told.revisions.retain(|number, _| numbers.contains(number));
        let other = |it: &(u64, i64, Share)| told.shares.get(&it.0) != Some(&it.2);
        let news: Vec<(u64, i64, Share)> = shares.into_iter().filter(other).collect();
        for some in news.chunks(TOGETHER) {
            let made = self.tell_some(some, told).await?;
            match made {
                Some(revision) => {
                    told.revisions.extend(some.iter().map(|(number, ..)| (*number, revision)));
                    let shares = some.iter().map(|(number, _, share)| (*number, share.clone()));
                    told.shares.extend(shares);
                }
                // Something came in late, or was forgotten: it is looked at anew.
                None => told.revisions.retain(|known, _| some.iter().all(|it| it.0 != *known)),
            }
            told.at = Some(now);
        }
        Ok(super::LOOK)
    }

    /// Tells these, where the fleet has of this host what it is known to have: one that was told before, and whose answer was
    /// lost, must not come in behind what was told since.
    ///
    /// # Errors
    /// `FLEET_UNREACHABLE`.
    async fn tell_some(&self, some: &[(u64, i64, Share)], told: &mut Told) -> Result<Option<i64>> {
        let (keys, host) = (self.fleet.keys(), &self.fleet.me().host_id);
        let (mut guards, mut acts) = (Vec::new(), Vec::new());
        for (number, created, share) in some {
            let key = keys.tally(*number, host);
            let known = match told.revisions.get(number) {
                Some(known) => *known,
                None => self.fleet.get(&key).await?.map_or(0, |entry| entry.modified),
            };
            told.revisions.insert(*number, known);
            // What is forgotten stays so.
            guards.push(Guard::Created(keys.experiment(*number), *created));
            guards.push(match known {
                0 => Guard::Absent(key.clone()),
                known => Guard::Modified(key.clone(), known),
            });
            acts.push(Act::Put { key, value: written(share), lease: 0 });
        }
        self.fleet.change(&guards, &acts).await
    }

    /// Tells for ever: at once after it was quiet for a while, or after a connection was made.
    pub(super) async fn tell_fleet(self: &Arc<Self>) {
        let (mut fleet, mut tallied) = (self.fleet.follow(), self.tallies());
        let mut told = Told::default();
        loop {
            let wait = match self.tell_once(&mut told).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "tallies could not be told");
                    super::LOOK
                }
            };
            // What comes meanwhile is told with it.
            if told.at.is_some() && wait != super::LOOK {
                self.outside.clock.sleep(wait).await;
                continue;
            }
            tokio::select! {
                biased;
                _ = fleet.changed() => {}
                _ = tallied.changed() => {}
                () = self.outside.clock.sleep(wait) => {}
            }
        }
    }
}
