//! The looks at what all hosts have tallied. Whoever holds the experiment's lock takes them, and goes on with what the looks
//! before have shown, which is in the fleet. All that it writes is guarded by the lock's token, so that one that was frozen
//! writes nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use genesis_stats::experiment::{Look, TABLE};
use genesis_storage::ExperimentRecord;
use jiff::Timestamp;

use super::super::tally::{Ended, Tally};
use super::super::{ACTOR, Experiments, plan as local};
use super::plan;
use super::record::{
    Concluded, Defined, Looked, Owner, Share, read, tally_of, tally_text, written,
};
use crate::error::{Error, Result};
use crate::fleet::locks::Held;
use crate::outside::coordinator::{Act, Entry, Guard};
use crate::outside::failpoint;

/// When an experiment has no owner, the hosts try to be it within this, not all at once.
const SPLAY: Duration = Duration::from_secs(2);

/// What this host owns, and what it may come to own.
#[derive(Default)]
pub(in super::super) struct Looking {
    held: BTreeMap<u64, Turn>,
    /// From when on it is tried, by the monotonic clock.
    tries: BTreeMap<u64, Duration>,
}

/// The turn to take the looks at one.
struct Turn {
    lock: Held,
    /// When the tallies were last listed, by the monotonic clock.
    listed: Option<Duration>,
    pace: Duration,
}

/// What the fleet has of an experiment's trades.
pub(in super::super) struct Counted {
    /// By identity of the host.
    pub(super) shares: Vec<(String, Share)>,
    /// What all hosts have tallied, with what the looks have shown.
    pub(super) tally: Tally,
    /// So many hosts have tallied something.
    pub(super) hosts: u64,
    /// What the last look saw, and its key.
    pub(super) looked: Option<(Entry, Looked, Tally)>,
}

impl Counted {
    /// What must hold so that nobody took a look meanwhile.
    fn guard(&self, key: &str) -> Guard {
        match &self.looked {
            Some((entry, ..)) => Guard::Modified(key.to_owned(), entry.modified),
            None => Guard::Absent(key.to_owned()),
        }
    }
}

impl Experiments {
    /// What all hosts have told of an experiment.
    ///
    /// # Errors
    /// `FLEET_UNREACHABLE`, `STORAGE_RECORD_UNREADABLE`.
    pub(in super::super) async fn counted(&self, defined: &Defined) -> Result<Counted> {
        let (keys, record) = (self.fleet.keys(), defined.record());
        let unreadable = |why: String| {
            let id = plan::id(defined.number);
            let message = format!("what the looks at {id} have shown can't be read: {why}");
            Error::internal("STORAGE_RECORD_UNREADABLE", message)
        };
        let looked = self.fleet.get(&keys.look(defined.number)).await?;
        let looked = looked.map(|entry| {
            let looked: Looked = read(&entry.value)?;
            let tally = tally_of(&record, &looked.tally);
            Ok::<_, String>((entry, looked, tally))
        });
        // Looks at another experiment that had its number are none.
        let looked = match looked.transpose().map_err(unreadable)? {
            Some((entry, looked, Ok(tally))) => Some((entry, looked, tally)),
            Some((entry, looked, Err(why))) => match looked_at_other(&record, &looked) {
                true => Some((entry, looked, Tally::new(&record).map_err(unreadable)?)),
                false => return Err(unreadable(why)),
            },
            None => None,
        };
        let prefix = keys.tallies(defined.number);
        let listed = self.fleet.list(&prefix).await?;
        // In order of their names, which is that of the hosts' identities.
        let shares = listed.iter().filter_map(|entry| {
            let host_id = entry.key.strip_prefix(&prefix)?.to_owned();
            Some((host_id, read::<Share>(&entry.value).ok()?))
        });
        let shares: Vec<(String, Share)> = shares.collect();
        let before = looked.as_ref().map(|(_, _, tally)| tally.clone());
        let added = plan::together(&record, before, shares.iter().map(|(_, share)| share));
        let (tally, hosts) = added.map_err(unreadable)?;
        Ok(Counted { shares, tally, hosts, looked })
    }

    /// Takes looks for ever, at what this host owns.
    pub(super) async fn look_for_fleet(self: &Arc<Self>) {
        let (mut fleet, mut looking) = (self.fleet.follow(), Looking::default());
        loop {
            let wait = self.look_once(&mut looking).await;
            tokio::select! {
                biased;
                _ = fleet.changed() => {}
                () = self.outside.clock.sleep(wait) => {}
            }
        }
    }

    /// Takes each lock that nobody holds, and looks at each experiment whose lock this host holds; how long to wait.
    pub(in super::super) async fn look_once(&self, looking: &mut Looking) -> Duration {
        let now = self.outside.clock.monotonic();
        if !self.fleet.is_open() {
            return super::LOOK;
        }
        let going = |it: &Arc<Defined>| {
            let here = self.here(it).filter(|record| record.conclusion.is_none());
            it.conclusion.is_none() && here.is_some()
        };
        let fleet: Vec<Arc<Defined>> = self.fleets().into_iter().filter(going).collect();
        let numbers: Vec<u64> = fleet.iter().map(|it| it.number).collect();
        looking.tries.retain(|number, _| numbers.contains(number));
        let over =
            |number: &u64, turn: &Turn| !numbers.contains(number) || turn.lock.check().is_err();
        let over: Vec<u64> = looking
            .held
            .iter()
            .filter(|(number, turn)| over(number, turn))
            .map(|it| *it.0)
            .collect();
        for number in over {
            if let Some(turn) = looking.held.remove(&number) {
                turn.lock.give_back().await;
            }
        }
        self.be_owner_no_more(&numbers, looking).await;
        let mut wait = super::LOOK;
        for defined in &fleet {
            let number = defined.number;
            if !looking.held.contains_key(&number) {
                let until = self.try_from(number, now, looking);
                if now < until {
                    wait = wait.min(until - now);
                    continue;
                }
                match self.take_turn(defined).await {
                    Ok(turn) => drop(looking.held.insert(number, turn)),
                    Err(error) => {
                        tracing::debug!(number, error = error.chain(), "its looks are another's");
                        looking.tries.insert(number, now + SPLAY + self.splay(number));
                        continue;
                    }
                }
                looking.tries.remove(&number);
            }
            let Some(turn) = looking.held.get_mut(&number) else { continue };
            match self.look_at(turn, defined).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(number, error = error.chain(), "no look was taken");
                    if error.code == "FENCED" || error.code == "FLEET_LOCK_LOST" {
                        looking.held.remove(&number);
                    }
                }
            }
        }
        wait
    }

    /// Takes back that this host owns what it has ended by itself: others look at it only where nobody is known to.
    async fn be_owner_no_more(&self, going: &[u64], looking: &Looking) {
        for defined in self.fleets() {
            let number = defined.number;
            if going.contains(&number) || looking.held.contains_key(&number) {
                continue;
            }
            let me = &self.fleet.me().host_id;
            if self.fleets_owner(number).is_some_and(|owner| owner.host_id == *me) {
                let key = self.fleet.keys().owner(number);
                let guards = [self.fleet.unchanged(&key)];
                if let Err(error) = self.fleet.change(&guards, &[Act::Delete(key)]).await {
                    tracing::warn!(number, error = error.chain(), "its owner is not taken back");
                }
            }
        }
    }

    /// Looks at what this host believes to own, as one does that was frozen after it had made sure.
    #[cfg(test)]
    pub(in super::super) async fn look_frozen(&self, looking: &mut Looking) {
        for (number, turn) in &mut looking.held {
            turn.listed = None;
            let (_, defined) = self.fleets_one(*number).unwrap();
            let refused = self.look_at(turn, &defined).await.unwrap_err();
            assert!(["FENCED", "FLEET_LOCK_LOST"].contains(&refused.code), "{refused:?}");
        }
    }

    /// From when on this host tries to own it: never while somebody is known to.
    fn try_from(&self, number: u64, now: Duration, looking: &mut Looking) -> Duration {
        if let Some(owner) = self.fleets_owner(number)
            && owner.host_id != self.fleet.me().host_id
        {
            looking.tries.remove(&number);
            return now + super::LOOK;
        }
        *looking.tries.entry(number).or_insert_with(|| now + self.splay(number))
    }

    /// Its own for each host and experiment.
    fn splay(&self, number: u64) -> Duration {
        let mut hash = DefaultHasher::new();
        (&self.fleet.me().host_id, number).hash(&mut hash);
        SPLAY * u32::try_from(hash.finish() % 1_000).unwrap_or(0) / 1_000
    }

    /// Takes the lock, and tells everybody.
    async fn take_turn(&self, defined: &Defined) -> Result<Turn> {
        let id = plan::id(defined.number);
        let lock = self.fleet.take(&plan::lock(defined.number), &format!("looks at {id}")).await?;
        let lock = lock.ok_or_else(|| self.fleet.out_of_reach())?;
        let turn = Turn { lock, listed: None, pace: plan::PACE };
        self.show_owner(&turn, defined.number).await?;
        Ok(turn)
    }

    async fn show_owner(&self, turn: &Turn, number: u64) -> Result<()> {
        let me = self.fleet.me();
        let owner = Owner {
            host: me.host.clone(),
            host_id: me.host_id.clone(),
            token: turn.lock.token(),
            pace: turn.pace.as_secs(),
        };
        if self.fleets_owner(number).as_ref() == Some(&owner) {
            return Ok(());
        }
        let (key, lease) = (self.fleet.keys().owner(number), turn.lock.lease());
        let acts = [Act::Put { key, value: written(&owner), lease }];
        match turn.lock.change(&[], &acts).await? {
            Some(_) => Ok(()),
            None => Err(turn.lock.fenced()),
        }
    }

    /// Looks at what all hosts have tallied, if something came in since the last look.
    async fn look_at(&self, turn: &mut Turn, defined: &Defined) -> Result<()> {
        let now = self.outside.clock.monotonic();
        // As often as hosts tell, but a second after it was told.
        let pace = turn.pace.saturating_sub(plan::PACE).max(super::LOOK);
        if turn.listed.is_some_and(|at| now.saturating_sub(at) < pace) {
            return Ok(());
        }
        turn.listed = Some(now);
        self.show_owner(turn, defined.number).await?;
        let mut counted = self.counted(defined).await?;
        turn.pace = plan::pace(counted.shares.len());
        let decided = counted.tally.ended.is_some();
        let before = counted.looked.as_ref().map(|(_, _, tally)| tally);
        let news = match before {
            Some(before) => plan::news(&counted.tally, before),
            None => counted.hosts > 0 && counted.tally.last_trade.is_some(),
        };
        if !news && !decided {
            return Ok(());
        }
        if !decided {
            let at = self.now().as_millisecond();
            let look = counted.tally.look(at);
            if let Some(how) = local::ends(look.decision.verdict) {
                let line = look.decision.row.number;
                counted.tally.end(Ended { line, at, how: how.to_owned() }, &look);
            }
        }
        failpoint::pause("experiments.fleet-look");
        let ended = counted.tally.ended.clone();
        let promoted = ended.as_ref().is_some_and(|ended| ended.how == local::PROMOTED);
        // A promotion waits for the end of an emergency; a decision stays one.
        let ended = ended.filter(|_| !promoted || (self.may_promote)().is_ok());
        let key = self.fleet.keys().look(defined.number);
        let mut guards = vec![counted.guard(&key)];
        let looked = Looked {
            token: turn.lock.token(),
            host: self.fleet.me().host.clone(),
            hosts: counted.hosts,
            tally: tally_text(&counted.tally),
        };
        let mut acts = vec![Act::Put { key, value: written(&looked), lease: 0 }];
        match ended {
            Some(ended) => {
                let row = TABLE.iter().find(|row| local::ends(row.verdict) == Some(&ended.how));
                let at = Timestamp::from_millisecond(ended.at).unwrap_or_else(|_| self.now());
                let end = End {
                    how: &ended.how,
                    forced: false,
                    by: ACTOR,
                    reason: row.map_or("", |row| row.says),
                    line: ended.line,
                    at,
                };
                self.ends(defined, &counted.tally, end, (&mut guards, &mut acts))?;
                acts.push(Act::Delete(self.fleet.keys().owner(defined.number)));
            }
            // It waits, and that was noted before.
            None if decided => return Ok(()),
            None => {}
        }
        match turn.lock.change(&guards, &acts).await? {
            Some(_) => Ok(()),
            // Whether the lock is gone shows with the next one.
            None => Err(turn.lock.fenced()),
        }
    }

    /// What ends an experiment in the fleet: its record, and the parameters that it was about, whole or not at all.
    ///
    /// # Errors
    /// `FLEET_CONFLICT`.
    pub(super) fn ends(
        &self,
        defined: &Defined,
        tally: &Tally,
        end: End<'_>,
        (guards, acts): (&mut Vec<Guard>, &mut Vec<Act>),
    ) -> Result<()> {
        let (keys, host) = (self.fleet.keys(), &self.fleet.me().host);
        let changed = || {
            let message = format!("{} changed meanwhile; look again", plan::id(defined.number));
            Error::conflict("FLEET_CONFLICT", message)
        };
        let known = self.fleets_one(defined.number);
        let (modified, _) = known.filter(|(_, now)| **now == *defined).ok_or_else(changed)?;
        let promoted = end.how == local::PROMOTED;
        if promoted {
            guards.push(self.fleet.no_emergency().ok_or_else(|| {
                let message = "an emergency of the fleet is in force; nothing is promoted in it";
                Error::conflict("FLEET_CONFLICT", message)
            })?);
        }
        guards.push(Guard::Modified(keys.experiment(defined.number), modified));
        let mut set = Vec::new();
        for trial in &defined.trials {
            let Some((modified, parameter)) = self.fleets_parameter(&defined.strategy, &trial.name)
            else {
                // Somebody took it away; there is nothing to be promoted to.
                continue;
            };
            let key = keys.parameter(&defined.strategy, &trial.name);
            guards.push(Guard::Modified(key.clone(), modified));
            let mut next = (*parameter).clone();
            next.in_test = 0;
            if promoted {
                next.value.clone_from(&trial.variant);
                next.version += 1;
                next.at = plan::after(Some(next.at), self.now());
                next.by = end.by.to_owned();
                next.reason = end.reason.to_owned();
                next.host.clone_from(host);
                next.cause = local::PROMOTED.to_owned();
                next.experiment = plan::id(defined.number);
                set.push((trial.name.clone(), next.stamp()));
            }
            acts.push(Act::Put { key, value: written(&next), lease: 0 });
        }
        // The curve stays beside it.
        let mut kept = tally.clone();
        kept.curve = Vec::new();
        let tally = tally_text(&kept);
        let concluded = Concluded {
            at: end.at,
            how: end.how.to_owned(),
            forced: end.forced,
            by: end.by.to_owned(),
            reason: end.reason.to_owned(),
            line: end.line,
            host: host.clone(),
            tally,
            set,
        };
        let over = Defined { conclusion: Some(concluded), ..defined.clone() };
        let key = keys.experiment(defined.number);
        // First, by which it is found out whether it was done.
        acts.insert(0, Act::Put { key, value: written(&over), lease: 0 });
        Ok(())
    }
}

/// An end, before it is one.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) how: &'a str,
    pub(super) forced: bool,
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
    pub(super) line: u8,
    pub(super) at: Timestamp,
}

/// What a look shows of all hosts' trades.
pub(super) fn look_of(tally: &Tally) -> Look {
    tally.trial.view()
}

fn looked_at_other(record: &ExperimentRecord, looked: &Looked) -> bool {
    let of = hex::decode(&looked.tally).ok().and_then(|bytes| Tally::identity_of(&bytes));
    of.is_some_and(|of| of != super::super::tally::identity(record))
}
