//! An experiment of the whole fleet as people see it: what all hosts have counted, and how each of them is at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use genesis_stats::experiment::Verdict;
use genesis_storage::{ConclusionRecord, ExperimentRecord};

use super::super::Experiments;
use super::super::tally::Tally;
use super::super::verbs::{State, View, Which, limited};
use super::owner::look_of;
use super::record::{Defined, Looked, Owner, Share, read, tally_of};
use crate::error::{Error, Result};

/// How one host is at it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostShare {
    /// Its identity.
    pub host_id: String,
    /// Its name.
    pub host: String,
    /// What it has told; `None`: nothing.
    pub share: Option<Share>,
}

impl HostShare {
    /// Why it does not count; empty: it does.
    pub fn trouble(&self) -> &str {
        match &self.share {
            Some(share) => &share.refused,
            None => "it has told nothing of it",
        }
    }
}

/// An experiment of the fleet.
#[derive(Debug, Clone)]
pub struct FleetView {
    /// As an experiment.
    pub view: View,
    /// What this host has of it.
    pub here: Option<Arc<ExperimentRecord>>,
    /// Why it has not begun here; empty: it has, or it has ended.
    pub refused: String,
}

/// An experiment of the fleet with all that is known.
#[derive(Debug, Clone)]
pub struct FleetDetails {
    /// The fleet's name.
    pub fleet: String,
    /// The experiment.
    pub of: FleetView,
    /// Who takes the looks.
    pub owner: Option<Owner>,
    /// How each host is at it, those with trouble first.
    pub hosts: Vec<HostShare>,
}

/// The record of an experiment as the fleet has it.
fn record(defined: &Defined) -> Arc<ExperimentRecord> {
    let ended = defined.conclusion.as_ref().map(|ended| ConclusionRecord {
        at: ended.at,
        how: ended.how.clone(),
        forced: ended.forced,
        by: format!("{} on {}", ended.by, ended.host),
        reason: ended.reason.clone(),
        line: ended.line,
        tally: ended.tally.clone(),
        fleet: Some(ended.tally.clone()),
    });
    Arc::new(ExperimentRecord { conclusion: ended, ..defined.record() })
}

fn view(defined: &Defined, tally: Tally) -> View {
    let (record, look) = (record(defined), look_of(&tally));
    let state = match (&record.conclusion, look.decision.verdict) {
        (Some(_), _) => State::Ended,
        (None, Verdict::Hold) => State::Held,
        (None, Verdict::Extend) => State::Extended,
        (None, _) => State::Running,
    };
    let together = record.conclusion.as_ref().map(|_| tally.clone());
    View { record, counts: tally.counts, tally, look, state, together }
}

impl Experiments {
    /// One with what all hosts have counted; of one that has ended, by then.
    ///
    /// # Errors
    /// `STORAGE_RECORD_UNREADABLE`.
    pub(super) fn fleet_view(&self, defined: &Defined, counted: Tally) -> Result<FleetView> {
        let tally = match &defined.conclusion {
            None => counted,
            Some(ended) => {
                let mut kept = tally_of(&defined.record(), &ended.tally).map_err(|why| {
                    let message = format!("its end can't be read: {why}");
                    Error::internal("STORAGE_RECORD_UNREADABLE", message)
                })?;
                kept.curve = counted.curve;
                kept
            }
        };
        let refused = match defined.conclusion {
            Some(_) => String::new(),
            None => {
                self.part().refused.get(&defined.number).map_or_else(String::new, |it| it.0.clone())
            }
        };
        Ok(FleetView { view: view(defined, tally), here: self.here(defined), refused })
    }

    /// What the fleet's experiments are, those that go on first, then those that ended, the newest first; with what the
    /// last look at each found.
    ///
    /// # Errors
    /// `LIMIT_INVALID`, `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn list_fleet(
        &self,
        strategy: &str,
        which: Which,
        limit: u32,
    ) -> Result<Vec<FleetView>> {
        let limit = limited(limit)?;
        let listed = self.fleet.list(&self.fleet.keys().looks()).await?;
        let looks: BTreeMap<String, Vec<u8>> =
            listed.into_iter().map(|entry| (entry.key, entry.value)).collect();
        let mut fleet = self.fleets();
        fleet.retain(|it| {
            let wanted = match which {
                Which::All => true,
                Which::Running => it.conclusion.is_none(),
                Which::Ended => it.conclusion.is_some(),
            };
            wanted && (strategy.is_empty() || it.strategy == strategy)
        });
        let ended = |it: &Defined| it.conclusion.as_ref().map(|ended| ended.at);
        fleet.sort_by(|one, other| {
            let by_end = ended(one).is_some().cmp(&ended(other).is_some());
            by_end.then((ended(other), other.number).cmp(&(ended(one), one.number)))
        });
        fleet.truncate(limit);
        let views = fleet.iter().map(|defined| {
            let record = defined.record();
            let of_look = || {
                let bytes = looks.get(&self.fleet.keys().look(defined.number))?;
                tally_of(&record, &read::<Looked>(bytes).ok()?.tally).ok()
            };
            let tally = of_look().map_or_else(|| Tally::new(&record), Ok);
            // One that can't be read has its trouble told.
            self.fleet_view(defined, tally.ok()?).ok()
        });
        Ok(views.flatten().collect())
    }

    /// One of the fleet's experiments, with all that is known of all hosts.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `STORAGE_RECORD_UNREADABLE`.
    pub async fn get_of_fleet(&self, id: &str) -> Result<FleetDetails> {
        self.fleet.open().await?;
        let (_, defined) = self.of_fleet(id)?;
        let counted = self.counted(&defined).await?;
        let of = self.fleet_view(&defined, counted.tally)?;
        let hosts =
            if defined.conclusion.is_none() { self.fleet.hosts().await? } else { Vec::new() };
        let told: BTreeSet<&String> = counted.shares.iter().map(|(host_id, _)| host_id).collect();
        let silent =
            hosts.into_iter().filter(|it| it.alive > 0 && !told.contains(&it.member.host_id));
        let silent: Vec<HostShare> = silent
            .map(|it| HostShare { host_id: it.member.host_id, host: it.member.host, share: None })
            .collect();
        let of_share = |(host_id, share): (String, Share)| HostShare {
            host_id,
            host: share.host.clone(),
            share: Some(share),
        };
        let mut hosts: Vec<HostShare> =
            silent.into_iter().chain(counted.shares.into_iter().map(of_share)).collect();
        hosts.sort_by(|one, other| {
            let of =
                |it: &HostShare| (it.trouble().is_empty(), it.host.clone(), it.host_id.clone());
            of(one).cmp(&of(other))
        });
        let fleet = self.fleet.config().name.clone();
        let owner = self.fleets_owner(defined.number);
        Ok(FleetDetails { fleet, of, owner, hosts })
    }
}
