//! What alerts keep in the database: taken over at the start, written as it changes. What can't be written yet waits
//! in memory and is in force all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    AlertRecord, AlertTold, DeliveryOutcome, DeliveryRecord, JobMark, OutboxRecord, SilenceRecord,
};
use jiff::Timestamp;

use super::message::Occasion;
use super::plan;
use super::{Alerts, Config, Live, Trouble};
use crate::error::{Error, Result};

/// So many alerts are kept that are over.
const ALERTS_KEPT: usize = 5_000;
/// So many deliveries are kept.
pub(super) const DELIVERIES_KEPT: u64 = 5_000;
/// A disk that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many records of a kind wait to be written; beyond them the oldest go that can be done without.
const UNWRITTEN_LIMIT: usize = 10_000;
/// The mark of the digest.
const DIGEST: &str = "alerts.digest";
/// Alerts are thinned out at every so many writes.
const PRUNE_EVERY: u64 = 256;

/// What is to be written.
#[derive(Default)]
pub(super) struct Unwritten {
    alerts: BTreeMap<String, AlertRecord>,
    /// `None`: it is to be taken out.
    messages: BTreeMap<u64, Option<OutboxRecord>>,
    deliveries: Vec<DeliveryRecord>,
    digest: Option<Timestamp>,
    writes: u64,
    /// A write failed, and it was said.
    said: bool,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty()
            && self.messages.is_empty()
            && self.deliveries.is_empty()
            && self.digest.is_none()
    }

    pub(super) fn alert(&mut self, alert: &AlertRecord) {
        self.alerts.insert(alert.id.clone(), alert.clone());
        // A disk that has been full for long must not cost all memory: what is over is history.
        if self.alerts.len() > UNWRITTEN_LIMIT {
            let over = self.alerts.iter().find(|(_, alert)| !alert.open());
            let over = over.map(|(id, _)| id.clone());
            over.into_iter().for_each(|id| drop(self.alerts.remove(&id)));
        }
    }

    pub(super) fn message(&mut self, message: &OutboxRecord) {
        self.messages.insert(message.sequence, Some(message.clone()));
    }

    pub(super) fn no_message(&mut self, sequence: u64) {
        self.messages.insert(sequence, None);
        // The oldest that are gone, for the same reason: at worst one of them is sent again after a restart.
        if self.messages.len() > UNWRITTEN_LIMIT {
            let gone = self.messages.iter().find(|(_, message)| message.is_none());
            let gone = gone.map(|(sequence, _)| *sequence);
            gone.into_iter().for_each(|sequence| drop(self.messages.remove(&sequence)));
        }
    }

    pub(super) fn delivery(&mut self, delivery: DeliveryRecord) {
        if self.deliveries.len() >= UNWRITTEN_LIMIT {
            self.deliveries.remove(0);
        }
        self.deliveries.push(delivery);
    }

    pub(super) fn digest(&mut self, at: Timestamp) {
        self.digest = Some(at);
    }

    /// Takes back what could not be written; what is newer stays.
    fn take_back(&mut self, older: Self) {
        for (id, alert) in older.alerts {
            self.alerts.entry(id).or_insert(alert);
        }
        for (sequence, message) in older.messages {
            self.messages.entry(sequence).or_insert(message);
        }
        let newer = std::mem::replace(&mut self.deliveries, older.deliveries);
        newer.into_iter().for_each(|delivery| self.delivery(delivery));
        self.digest = self.digest.or(older.digest);
    }
}

impl Alerts {
    /// Takes over what fires, what is to be sent, and what is wrong with the channels.
    pub(super) fn load(&self) -> Result<()> {
        let now = self.outside.clock.moment();
        let mut live = self.live();
        let live = &mut *live;
        self.state.read(|reading| {
            let alerts = reading.alerts();
            for mut message in alerts.outbox()? {
                live.next = live.next.max(message.sequence + 1);
                let known =
                    [Some(&mut message.queued), message.tried.as_mut(), message.failing.as_mut()];
                known.into_iter().flatten().for_each(|moment| moment.settle(&now));
                // It may have been mended while no agent ran.
                message.tried = message.tried.filter(|_| !message.refused);
                live.outbox.insert(message.sequence, message);
            }
            let wanted: BTreeSet<&String> =
                live.outbox.values().flat_map(|message| &message.alerts).collect();
            let (mut firing, mut ended) = (Vec::new(), Vec::new());
            for mut alert in alerts.list(false, usize::MAX)? {
                let known = [Some(&mut alert.opened), alert.gone.as_mut(), alert.told_at.as_mut()];
                let known = known.into_iter().flatten().chain(&mut alert.changes);
                let known = known.chain(alert.ack.as_mut().map(|ack| &mut ack.since));
                known.for_each(|moment| moment.settle(&now));
                match alert.open() {
                    true => firing.push(alert),
                    false if wanted.contains(&alert.id) => ended.push(alert),
                    false => {}
                }
            }
            // The newest first: an older one of the same key was left open by an agent that could not write.
            for mut alert in firing {
                if live.firing.contains_key(&alert.key) {
                    alert.resolved_at = Some(now.wall);
                    live.unwritten.alert(&alert);
                    live.ended.insert(alert.id.clone(), alert);
                } else {
                    live.firing.insert(alert.key.clone(), alert);
                }
            }
            live.ended.extend(ended.into_iter().map(|alert| (alert.id.clone(), alert)));
            live.silences = alerts.silences()?;
            live.silences.iter_mut().for_each(|silence| silence.since.settle(&now));
            // The latest of each channel says whether it takes what it is given.
            let mut known = BTreeSet::new();
            for delivery in alerts.deliveries(1_000)? {
                if matches!(delivery.outcome, DeliveryOutcome::Accepted | DeliveryOutcome::Refused)
                    && known.insert(delivery.channel.clone())
                    && delivery.outcome == DeliveryOutcome::Refused
                {
                    let mut since = now.clone();
                    since.wall = delivery.at;
                    let trouble = Trouble { since, why: delivery.detail, refused: true };
                    live.trouble.insert(delivery.channel, trouble);
                }
            }
            live.digest = reading.jobs().mark(DIGEST)?.and_then(|mark| mark.last_due_at);
            Ok(())
        })?;
        let failing: Vec<(String, Trouble)> = live
            .outbox
            .values()
            .filter_map(|message| {
                let since = message.failing.clone()?;
                let why = message.error.clone();
                Some((message.channel.clone(), Trouble { since, why, refused: message.refused }))
            })
            .collect();
        for (channel, trouble) in failing {
            live.trouble.entry(channel).or_insert(trouble);
        }
        Ok(())
    }

    /// Writes what has changed; a disk that hangs is not waited for.
    pub(super) async fn persist(self: &Arc<Self>) {
        let Ok(alone) = Arc::clone(&self.writing).try_lock_owned() else { return };
        let (taken, needed) = {
            let mut live = self.live();
            if live.unwritten.is_empty() {
                return;
            }
            let (writes, said) = (live.unwritten.writes + 1, live.unwritten.said);
            let taken = std::mem::take(&mut live.unwritten);
            live.unwritten.writes = writes;
            live.unwritten.said = said;
            let prune = writes.is_multiple_of(PRUNE_EVERY);
            let needed: Option<BTreeSet<String>> =
                prune.then(|| live.ended.keys().cloned().collect());
            (taken, needed)
        };
        let alerts = Arc::clone(self);
        let write = tokio::spawn(async move {
            let (records, messages) = (taken.alerts.clone(), taken.messages.clone());
            let (deliveries, digest) = (taken.deliveries.clone(), taken.digest);
            let written = alerts
                .state
                .bookkeep(move |books| {
                    for alert in records.values() {
                        books.alerts().put(alert)?;
                    }
                    for (sequence, message) in &messages {
                        match message {
                            Some(message) => books.alerts().put_message(message)?,
                            None => drop(books.alerts().remove_message(*sequence)?),
                        }
                    }
                    for delivery in &deliveries {
                        books.alerts().put_delivery(delivery, DELIVERIES_KEPT)?;
                    }
                    if let Some(at) = digest {
                        let mark = JobMark { last_due_at: Some(at), ..JobMark::default() };
                        books.jobs().set_mark(DIGEST, &mark)?;
                    }
                    if let Some(needed) = needed {
                        books.alerts().prune(ALERTS_KEPT, |id| needed.contains(id))?;
                    }
                    Ok::<_, Error>(())
                })
                .await;
            let mut live = alerts.live();
            if let Err(error) = &written
                && !live.unwritten.said
            {
                tracing::error!(
                    error = error.chain(),
                    "alerts can't be recorded; they are sent all the same, and it is tried again"
                );
            }
            live.unwritten.said = written.is_err();
            if written.is_err() {
                live.unwritten.take_back(taken);
            }
            drop(live);
            drop(alone);
        });
        tokio::select! {
            _ = write => {}
            () = self.outside.clock.sleep(PATIENCE) => {}
        }
    }

    /// Other channels are in force: those that were refused may be mended, and what was for one that is gone is for
    /// nobody.
    pub(super) fn use_channels(&self, before: &Config) {
        let config = self.config();
        let now = self.outside.clock.now();
        let mut live = self.live();
        let live = &mut *live;
        let same = |name: &str| {
            let of = |config: &Config| config.channels.iter().find(|it| it.name == name).cloned();
            let known = of(&config);
            known.is_some() && known == of(before)
        };
        let there = |name: &str| config.channels.iter().any(|channel| channel.name == name);
        // Nothing would ever end the trouble of one that is not there any more.
        live.trouble.retain(|name, trouble| there(name) && (!trouble.refused || same(name)));
        live.held.retain(|name, _| same(name));
        let gone: Vec<u64> = live
            .outbox
            .values()
            .filter(|message| !there(&message.channel) && !live.sending.contains(&message.channel))
            .map(|message| message.sequence)
            .collect();
        for sequence in gone {
            let Some(message) = live.outbox.remove(&sequence) else { continue };
            live.unwritten.no_message(sequence);
            live.unwritten.delivery(delivery(
                &message,
                DeliveryOutcome::Dropped,
                now,
                "its channel is not configured any more",
            ));
        }
        for message in live.outbox.values_mut().filter(|it| it.refused && !same(&it.channel)) {
            message.tried = None;
            live.unwritten.message(message);
        }
        if config.channels != before.channels {
            // There may be somebody now who can stand in.
            for message in live.outbox.values_mut().filter(|message| message.handed_over) {
                message.handed_over = false;
                live.unwritten.message(message);
            }
        }
        // Who was told where it can't be known is told again.
        forget_refusals(live, |_| true);
    }

    /// The latest alerts, newest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn list(&self, open_only: bool, limit: usize) -> Result<Vec<AlertRecord>> {
        let mut found: BTreeMap<String, AlertRecord> = BTreeMap::new();
        if !open_only {
            let kept = self.state.read(|reading| Ok(reading.alerts().list(false, limit)?))?;
            found.extend(kept.into_iter().map(|alert| (alert.id.clone(), alert)));
        }
        let live = self.live();
        // What is in memory is newer.
        let newer = live.unwritten.alerts.values().chain(live.ended.values());
        for alert in newer.chain(live.firing.values()) {
            if alert.open() || !open_only {
                found.insert(alert.id.clone(), alert.clone());
            }
        }
        Ok(found.into_values().rev().take(limit).collect())
    }

    /// What became of the latest messages, newest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>> {
        self.state.read(|reading| Ok(reading.alerts().deliveries(limit)?))
    }

    /// The silences in force; with `all` those that are over, too.
    pub fn silences(&self, all: bool) -> Vec<SilenceRecord> {
        let now = self.outside.clock.moment();
        let live = self.live();
        let wanted = live.silences.iter().filter(|it| all || plan::in_force(it, &now));
        wanted.cloned().collect()
    }
}

/// People who were to be told by a channel that did not take it, and has nothing waiting for them, are told again.
pub(super) fn forget_refusals(live: &mut Live, of: impl Fn(&AlertTold) -> bool) {
    let waiting: BTreeSet<(&str, &str)> = live
        .outbox
        .values()
        .filter(|message| message.occasion == Occasion::Firing.name())
        .flat_map(|message| {
            message.alerts.iter().map(|alert| (message.channel.as_str(), alert.as_str()))
        })
        .collect();
    for alert in live.firing.values_mut() {
        let known = alert.told.len();
        alert.told.retain(|told| {
            let waits = waiting.contains(&(told.channel.as_str(), alert.id.as_str()));
            told.accepted || waits || !of(told)
        });
        if alert.told.len() != known {
            live.unwritten.alert(alert);
        }
    }
}

/// The record of how a message ended.
pub(super) fn delivery(
    message: &OutboxRecord,
    outcome: DeliveryOutcome,
    at: Timestamp,
    detail: &str,
) -> DeliveryRecord {
    DeliveryRecord {
        at,
        message: message.message.clone(),
        channel: message.channel.clone(),
        occasion: message.occasion.clone(),
        alerts: message.alerts.clone(),
        outcome,
        attempts: message.attempts,
        detail: detail.to_owned(),
    }
}
