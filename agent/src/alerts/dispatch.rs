//! Sends what is in the outbox: one message at a time for each channel, so that none waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{AlertRecord, AlertTold, DeliveryOutcome, Moment, OutboxRecord};

use super::channel::Channel;
use super::look::forget_ended;
use super::message::{Item, Message, Occasion};
use super::plan::{self, Due};
use super::record::delivery;
use super::{Alerts, Live, Trouble};
use crate::outside::failpoint;
use crate::outside::notify::Sent;

/// Beyond the channel's own time, for a channel that does not keep it.
const GRACE: Duration = Duration::from_secs(5);

/// How an attempt ended.
pub(super) struct Ended {
    channel: String,
    /// What was sent: a message of the outbox, or a sign of life.
    sequence: Option<u64>,
    sent: Sent,
}

/// A channel that took nothing for so long was away; one message that it does not take among others is no such thing.
const OUTAGE: Duration = Duration::from_secs(10);

impl Alerts {
    /// Begins to send whatever may be sent now.
    pub async fn dispatch(self: &Arc<Self>) {
        let config = self.config();
        let now = self.outside.clock.moment();
        let mut begun = Vec::new();
        {
            let mut live = self.live();
            let live = &mut *live;
            self.give_up(live, &now);
            let hushed = match live.outbox.is_empty() {
                true => BTreeSet::new(),
                false => plan::hushed(&live.firing, &live.silences, &now),
            };
            self.hand_over(live, &hushed, &now);
            for channel in &config.channels {
                let beat = config.heartbeat.as_ref().filter(|it| it.channel == channel.name);
                if live.sending.contains(&channel.name) {
                    continue;
                }
                let at = self.outside.clock.monotonic();
                let sent_at = live.sent_at.get(&channel.name).copied();
                if sent_at.is_some_and(|sent_at| at < sent_at + channel.pause) {
                    continue;
                }
                // Who asks to be left alone means every message, not the one that was answered so.
                if live.held.get(&channel.name).is_some_and(|until| at < *until) {
                    continue;
                }
                let beats = |it: &&super::config::Heartbeat| {
                    live.beat_at.is_none_or(|before| at >= before + it.every)
                };
                let message = if beat.filter(beats).is_some() {
                    live.beat_at = Some(at);
                    Some((None, self.sign_of_life(&now)))
                } else {
                    self.begin(live, channel, &hushed, &now)
                        .map(|(sequence, message)| (Some(sequence), message))
                };
                if let Some((sequence, message)) = message {
                    live.sending.insert(channel.name.clone());
                    live.sent_at.insert(channel.name.clone(), at);
                    begun.push((channel.clone(), sequence, message));
                }
            }
        }
        // That it may have been sent is known before it is, wherever the disk lets it be.
        self.persist().await;
        for (channel, sequence, message) in begun {
            failpoint::hit("alerts.before-send");
            self.send(channel, sequence, message);
        }
    }

    fn send(self: &Arc<Self>, channel: Channel, sequence: Option<u64>, message: Message) {
        let alerts = Arc::clone(self);
        tokio::spawn(async move {
            let name = channel.name.clone();
            let limit = channel.patience() + GRACE;
            // A task of its own, so that a defect in a channel ends that attempt and nothing else.
            let notifier = Arc::clone(&alerts.outside.notifier);
            let sending = tokio::spawn(async move { notifier.send(&channel, &message).await });
            let abort = sending.abort_handle();
            let later = |why: &str| Sent::Later { after: None, why: why.to_owned() };
            let sent = tokio::select! {
                sent = sending => sent.unwrap_or_else(|_| later("the attempt was cut off by a defect")),
                () = alerts.outside.clock.sleep(limit) => {
                    abort.abort();
                    later("no answer in time")
                }
            };
            failpoint::hit("alerts.sent");
            // Nobody takes it in any more when the agent stops; it is sent again then.
            let _ = alerts.ended.send(Ended { channel: name, sequence, sent });
        });
    }

    /// The next message of a channel, and that it is tried.
    fn begin(
        &self,
        live: &mut Live,
        channel: &Channel,
        hushed: &BTreeSet<String>,
        now: &Moment,
    ) -> Option<(u64, Message)> {
        let found = plan::next(&live.outbox, &channel.name, channel.groups(), hushed, now);
        let found: Vec<OutboxRecord> = found.into_iter().cloned().collect();
        let (first, others) = found.split_first()?;
        let mut message = first.clone();
        for other in others {
            message.alerts.extend(other.alerts.iter().cloned());
            live.outbox.remove(&other.sequence);
            live.unwritten.no_message(other.sequence);
        }
        message.attempts = message.attempts.saturating_add(1);
        message.tried = Some(now.clone());
        message.wait = plan::wait(message.attempts, None);
        let items: Vec<Item> = message.alerts.iter().filter_map(|id| item(live, id)).collect();
        let sequence = message.sequence;
        if items.is_empty() {
            // Its record was lost with an older database; there is nothing to say.
            live.outbox.remove(&sequence);
            live.unwritten.no_message(sequence);
            return None;
        }
        live.unwritten.message(&message);
        let occasion = occasion(&message.occasion);
        let sent = Message {
            id: message.message.clone(),
            occasion,
            items,
            note: message.note.clone(),
            sender: self.sender.clone(),
            at: message.queued.wall,
        };
        live.outbox.insert(sequence, message);
        Some((sequence, sent))
    }

    fn sign_of_life(&self, now: &Moment) -> Message {
        Message {
            id: self.new_id(),
            occasion: Occasion::Heartbeat,
            items: Vec::new(),
            note: String::new(),
            sender: self.sender.clone(),
            at: now.wall,
        }
    }

    /// Takes in how an attempt ended.
    pub(super) fn take_ending(&self, ended: Ended) {
        let now = self.outside.clock.moment();
        let mut live = self.live();
        let live = &mut *live;
        live.sending.remove(&ended.channel);
        self.metrics.sent(&ended.channel, &ended.sent);
        let since = live.trouble.get(&ended.channel).map(|trouble| trouble.since.clone());
        self.judge(live, &ended.channel, &ended.sent, &now);
        if let (Sent::Accepted { .. }, Some(since)) = (&ended.sent, since)
            && now.since(&since) >= OUTAGE
        {
            answers(live, &ended.channel);
        }
        let Some(mut message) = ended.sequence.and_then(|it| live.outbox.remove(&it)) else {
            return;
        };
        match ended.sent {
            Sent::Accepted { detail } => {
                live.unwritten.no_message(message.sequence);
                if message.occasion == Occasion::Firing.name() {
                    accepted(live, &message);
                }
                let done = delivery(&message, DeliveryOutcome::Accepted, now.wall, &detail);
                live.unwritten.delivery(done);
                if message.occasion == Occasion::Firing.name() {
                    let waited = now.since(&message.queued);
                    self.metrics.waited(waited);
                }
            }
            Sent::Later { after, why } => {
                message.wait = plan::wait(message.attempts, after);
                // The pause begins with the answer: an attempt that was cut off late has been none.
                message.tried = Some(now.clone());
                if after.is_some() {
                    let until = self.outside.clock.monotonic() + message.wait;
                    live.held.insert(ended.channel.clone(), until);
                }
                message.failing.get_or_insert_with(|| now.clone());
                message.error = why;
                live.unwritten.message(&message);
                live.outbox.insert(message.sequence, message);
            }
            Sent::Mend { why } => {
                message.wait = plan::MENDED_AFTER;
                message.tried = Some(now.clone());
                let until = self.outside.clock.monotonic() + message.wait;
                live.held.insert(ended.channel.clone(), until);
                message.failing.get_or_insert_with(|| now.clone());
                message.error.clone_from(&why);
                message.refused = true;
                if !std::mem::replace(&mut message.handed_over, true) {
                    self.pass_on(live, &message, &format!("refuses it: {why}"), &now);
                }
                live.unwritten.message(&message);
                live.outbox.insert(message.sequence, message);
            }
            Sent::Never { why } => {
                live.unwritten.no_message(message.sequence);
                live.unwritten.delivery(delivery(
                    &message,
                    DeliveryOutcome::Refused,
                    now.wall,
                    &why,
                ));
                if message.occasion == Occasion::Firing.name() {
                    never_told(live, &message);
                }
                if message.occasion == Occasion::Digest.name() {
                    self.not_digested(live, &message);
                }
                self.pass_on(live, &message, &format!("refuses it: {why}"), &now);
            }
        }
        forget_ended(live);
    }

    /// What an attempt says about its channel.
    pub(super) fn judge(&self, live: &mut Live, channel: &str, sent: &Sent, now: &Moment) {
        let trouble =
            |why: &str, refused| Trouble { since: now.clone(), why: why.to_owned(), refused };
        match sent {
            Sent::Accepted { .. } => {
                if live.trouble.remove(channel).is_some() {
                    tracing::info!(channel, "the alert channel answers again");
                }
            }
            Sent::Later { why, .. } => {
                let known = live.trouble.entry(channel.to_owned());
                let known = known.or_insert_with(|| {
                    tracing::warn!(channel, why, "an alert channel does not take what it is given");
                    trouble(why, false)
                });
                known.why.clone_from(why);
            }
            Sent::Mend { why } | Sent::Never { why } => {
                let known = live.trouble.get(channel);
                if known.is_none_or(|known| !known.refused || known.why != *why) {
                    tracing::error!(channel, why, "an alert channel refuses what it is given");
                    live.trouble.insert(channel.to_owned(), trouble(why, true));
                }
            }
        }
    }

    /// What is critical and has failed for too long is given to another channel as well.
    fn hand_over(&self, live: &mut Live, hushed: &BTreeSet<String>, now: &Moment) {
        let due = |message: &&OutboxRecord| {
            let trouble = live.trouble.get(&message.channel);
            trouble.is_some_and(|trouble| plan::hands_over(message, &trouble.since, now))
                && !message.alerts.iter().all(|alert| hushed.contains(alert))
        };
        let due: Vec<OutboxRecord> = live.outbox.values().filter(due).cloned().collect();
        for mut message in due {
            message.handed_over = true;
            live.unwritten.message(&message);
            live.outbox.insert(message.sequence, message.clone());
            let Some(trouble) = live.trouble.get(&message.channel) else { continue };
            let why = match trouble.refused {
                true => format!("refuses what it is given: {}", trouble.why),
                false => {
                    format!("has not answered since {:.0}: {}", trouble.since.wall, trouble.why)
                }
            };
            self.pass_on(live, &message, &why, now);
        }
    }

    /// Gives what a channel does not take to the next one, and says so.
    fn pass_on(&self, live: &mut Live, message: &OutboxRecord, why: &str, now: &Moment) {
        let told = [Occasion::Firing.name(), Occasion::Repeat.name()];
        if !message.urgent || !told.contains(&message.occasion.as_str()) {
            return;
        }
        let config = self.config();
        let channels = config.names();
        for id in &message.alerts {
            let Some(alert) = live.firing.values().find(|alert| alert.id == *id).cloned() else {
                continue;
            };
            // Once another channel stands in, a second dead one changes nothing.
            let stands_in = |told: &AlertTold| {
                told.stands_in
                    && channels.contains(&told.channel)
                    && !live.trouble.contains_key(&told.channel)
            };
            if alert.told.iter().any(stands_in) {
                continue;
            }
            let mut told: Vec<&str> = alert.told.iter().map(|told| told.channel.as_str()).collect();
            told.push(&message.channel);
            let troubled = live.trouble.keys().map(String::as_str);
            let better: Vec<&str> = told.iter().copied().chain(troubled).collect();
            // One that is in trouble itself is better than none: it may be the first to come back.
            let next = plan::next_channel(&config.policy, &channels, &better)
                .or_else(|| plan::next_channel(&config.policy, &channels, &told));
            let Some(next) = next else {
                tracing::error!(alert = id, channel = message.channel, "no other channel is left");
                continue;
            };
            let note = format!("for {}, which {why}", message.channel);
            let due = Due { channel: next.clone(), occasion: Occasion::Firing };
            self.enqueue(live, &alert, &due, now, note);
            if let Some(alert) = live.firing.get_mut(&alert.key) {
                plan::tell(alert, &[due], now);
                let stand_in = alert.told.iter_mut().find(|told| told.channel == next);
                stand_in.into_iter().for_each(|told| told.stands_in = true);
                live.unwritten.alert(alert);
            }
            let detail = format!("given to {next}: {} {why}", message.channel);
            let record = delivery(message, DeliveryOutcome::HandedOver, now.wall, &detail);
            live.unwritten.delivery(record);
        }
    }

    /// What is over, was never accepted, and has been waiting for a day or behind too much else, is given up.
    fn give_up(&self, live: &mut Live, now: &Moment) {
        let old = |message: &OutboxRecord| now.since(&message.queued) >= plan::OLD;
        let firing: BTreeSet<&str> = live.firing.values().map(|alert| alert.id.as_str()).collect();
        let over = live.outbox.values().filter(|message| {
            !live.sending.contains(&message.channel)
                && message.occasion != Occasion::Digest.name()
                && message.alerts.iter().all(|alert| !firing.contains(alert.as_str()))
        });
        let mut by_channel: BTreeMap<&str, Vec<&OutboxRecord>> = BTreeMap::new();
        for message in over {
            by_channel.entry(&message.channel).or_default().push(message);
        }
        let mut given_up: Vec<(u64, &str)> = Vec::new();
        for (channel, messages) in by_channel {
            let excess = messages.len().saturating_sub(plan::OVER_LIMIT);
            // The oldest, each with what else waits about the same alerts.
            let first = messages.iter().take(excess).flat_map(|message| &message.alerts);
            let crowded: BTreeSet<&String> = first.collect();
            for message in &messages {
                let behind = message.alerts.iter().all(|alert| crowded.contains(alert));
                let known = !behind && message.alerts.iter().any(|id| knows(live, channel, id));
                match (behind, old(message) && !known) {
                    (true, _) => given_up.push((message.sequence, "too much else waits")),
                    (_, true) => given_up.push((message.sequence, "given up after a day")),
                    _ => {}
                }
            }
        }
        for (sequence, why) in given_up {
            let Some(message) = live.outbox.remove(&sequence) else { continue };
            live.unwritten.no_message(sequence);
            let why = format!("{why}: {}", message.error);
            let dropped = delivery(&message, DeliveryOutcome::Dropped, now.wall, &why);
            live.unwritten.delivery(dropped);
        }
    }
}

/// A channel takes something again: what it did not take before need not wait for its sake any longer.
fn answers(live: &mut Live, channel: &str) {
    let waits = |it: &&mut OutboxRecord| {
        it.channel == channel && it.failing.is_some() && !it.wait.is_zero()
    };
    for message in live.outbox.values_mut().filter(waits) {
        message.wait = Duration::ZERO;
        live.unwritten.message(message);
    }
}

/// Whether a channel has accepted an alert that is over.
fn knows(live: &Live, channel: &str, id: &str) -> bool {
    let told = live.ended.get(id).into_iter().flat_map(|alert| &alert.told);
    told.into_iter().any(|told| told.channel == channel && told.accepted)
}

/// A channel knows of these alerts now.
fn accepted(live: &mut Live, message: &OutboxRecord) {
    let known = live.firing.values_mut().chain(live.ended.values_mut());
    for alert in known.filter(|alert| message.alerts.contains(&alert.id)) {
        for told in alert.told.iter_mut().filter(|told| told.channel == message.channel) {
            told.accepted = true;
        }
        live.unwritten.alert(alert);
    }
}

/// A channel that refused to hear that something holds need not hear that it is over.
fn never_told(live: &mut Live, message: &OutboxRecord) {
    let about = |other: &&OutboxRecord| {
        other.channel == message.channel
            && other.occasion == Occasion::Resolved.name()
            && other.alerts.iter().all(|alert| message.alerts.contains(alert))
    };
    let needless: Vec<u64> = live.outbox.values().filter(about).map(|it| it.sequence).collect();
    for sequence in needless {
        live.outbox.remove(&sequence);
        live.unwritten.no_message(sequence);
    }
}

/// An alert as it is told, by its id.
fn item(live: &Live, id: &str) -> Option<Item> {
    let firing = live.firing.values().find(|alert| alert.id == id);
    firing.or_else(|| live.ended.get(id)).map(to_item)
}

/// An alert as it is told.
pub(super) fn to_item(alert: &AlertRecord) -> Item {
    Item {
        id: alert.id.clone(),
        source: alert.source.clone(),
        subject: alert.subject.clone(),
        severity: plan::severity(alert),
        title: alert.title.clone(),
        details: alert.details.clone(),
        runbook: alert.runbook.clone(),
        since: alert.since,
        resolved: alert.resolved_at,
    }
}

fn occasion(name: &str) -> Occasion {
    const ALL: [Occasion; 7] = [
        Occasion::Firing,
        Occasion::Repeat,
        Occasion::Resolved,
        Occasion::Acknowledged,
        Occasion::Test,
        Occasion::Heartbeat,
        Occasion::Digest,
    ];
    ALL.into_iter().find(|occasion| occasion.name() == name).unwrap_or(Occasion::Firing)
}
