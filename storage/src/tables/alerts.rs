//! Alerts: what people are told, what is still to be sent and by which channel, what was sent, and what they do not
//! want to hear.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::moment::Moment;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{ALERT_DELIVERIES, ALERT_OUTBOX, ALERT_SILENCES, ALERTS};
use crate::view::{Sink, Source};

/// Somebody takes care of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertAck {
    /// Who.
    pub by: String,
    /// Since when.
    pub since: Moment,
    /// It ends by itself after so long.
    pub lasts: Duration,
    /// What they said.
    pub note: String,
    /// How bad it was then; what gets worse is another matter.
    #[serde(default)]
    pub severity: String,
}

/// A channel that an alert was given to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTold {
    /// Its name.
    pub channel: String,
    /// It has accepted the alert; until then it may or may not know of it.
    pub accepted: bool,
    /// How bad it was when it was given it.
    #[serde(default)]
    pub severity: String,
    /// It stands in for a channel that did not take it.
    #[serde(default)]
    pub stands_in: bool,
}

/// One condition, from when it was first heard of until it was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// A ULID.
    pub id: String,
    /// The condition's key.
    pub key: String,
    /// Who knows of it, such as "health".
    pub source: String,
    /// What it is about.
    pub subject: String,
    /// "low", "medium", "high" or "critical".
    pub severity: String,
    /// In one line.
    pub title: String,
    /// What is known of it, and what was tried.
    pub details: Vec<String>,
    /// The page of the runbook.
    pub runbook: String,
    /// Keys of conditions that explain it.
    pub behind: Vec<String>,
    /// Since when the condition holds.
    pub since: Timestamp,
    /// When it was first heard of.
    pub opened: Moment,
    /// It is gone since then, and is waited for whether it comes back.
    pub gone: Option<Moment>,
    /// When it was over for good; `None`: it is firing.
    pub resolved_at: Option<Timestamp>,
    /// When it came or went lately, oldest first.
    pub changes: Vec<Moment>,
    /// The channels that it was given to.
    pub told: Vec<AlertTold>,
    /// When people were last told, or told again.
    pub told_at: Option<Moment>,
    /// How often they were told again.
    pub repeats: u32,
    /// It has been in a digest.
    pub digested: bool,
    /// Somebody takes care of it.
    pub ack: Option<AlertAck>,
}

impl Record for AlertRecord {
    const TABLE: &'static str = "alerts";
    const VERSION: u8 = 1;
}

impl AlertRecord {
    /// Whether it is firing.
    pub fn open(&self) -> bool {
        self.resolved_at.is_none()
    }
}

/// A message that a channel has not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// Messages of a channel about one alert go in this order.
    pub sequence: u64,
    /// The message's id (a ULID), the same at each attempt.
    pub message: String,
    /// The channel.
    pub channel: String,
    /// Why it is sent, such as "firing".
    pub occasion: String,
    /// The alerts that it is about, by id.
    pub alerts: Vec<String>,
    /// Words of its own.
    pub note: String,
    /// It goes before what is not urgent.
    pub urgent: bool,
    /// When it was put here.
    pub queued: Moment,
    /// How often it was tried, written down before each attempt.
    pub attempts: u32,
    /// It is not tried again for so long after the last attempt.
    pub wait: Duration,
    /// When it was last tried.
    pub tried: Option<Moment>,
    /// Since when it fails.
    pub failing: Option<Moment>,
    /// What the channel said last.
    pub error: String,
    /// The channel itself has to be mended before it takes it.
    #[serde(default)]
    pub refused: bool,
    /// Another channel was given it instead.
    pub handed_over: bool,
}

impl OutboxRecord {
    /// A message that was not tried yet.
    pub fn new(
        sequence: u64,
        message: String,
        (channel, occasion): (&str, &str),
        alerts: Vec<String>,
        queued: Moment,
    ) -> Self {
        Self {
            sequence,
            message,
            channel: channel.to_owned(),
            occasion: occasion.to_owned(),
            alerts,
            note: String::new(),
            urgent: false,
            queued,
            attempts: 0,
            wait: Duration::ZERO,
            tried: None,
            failing: None,
            error: String::new(),
            refused: false,
            handed_over: false,
        }
    }
}

impl Record for OutboxRecord {
    const TABLE: &'static str = "alert_outbox";
    const VERSION: u8 = 1;
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The channel accepted it.
    Accepted,
    /// The channel will never accept it.
    Refused,
    /// Another channel was given it as well.
    HandedOver,
    /// It was over before anybody was told, or too old.
    Dropped,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// When.
    pub at: Timestamp,
    /// The message's id.
    pub message: String,
    /// The channel.
    pub channel: String,
    /// Why it was sent.
    pub occasion: String,
    /// The alerts that it was about.
    pub alerts: Vec<String>,
    /// How it ended.
    pub outcome: DeliveryOutcome,
    /// After so many attempts.
    pub attempts: u32,
    /// What the channel said.
    pub detail: String,
}

impl Record for DeliveryRecord {
    const TABLE: &'static str = "alert_deliveries";
    const VERSION: u8 = 1;
}

/// What people do not want to hear for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceRecord {
    /// A ULID.
    pub id: String,
    /// Alerts of this source; empty: of any.
    pub source: String,
    /// Alerts whose subject matches this glob; empty: any.
    pub subject: String,
    /// Alerts that are no worse than this.
    pub severity: String,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Moment,
    /// It ends by itself after so long.
    pub lasts: Duration,
    /// It was ended before.
    pub ended: Option<Timestamp>,
}

impl Record for SilenceRecord {
    const TABLE: &'static str = "alert_silences";
    const VERSION: u8 = 1;
}

/// Reads alerts.
#[derive(Clone, Copy)]
pub struct Alerts<'t> {
    source: Source<'t>,
}

impl<'t> Alerts<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` alerts, newest first; with `open_only` those that fire.
    pub fn list(&self, open_only: bool, limit: usize) -> Result<Vec<AlertRecord>, StorageError> {
        self.source.view(ALERTS)?.last(limit, |record: &AlertRecord| !open_only || record.open())
    }

    /// The alerts whose ids begin with `prefix`, at most `limit`.
    pub fn with_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<AlertRecord>, StorageError> {
        self.source.view(ALERTS)?.with_prefix(prefix, limit)
    }

    /// What is still to be sent, oldest first.
    pub fn outbox(&self) -> Result<Vec<OutboxRecord>, StorageError> {
        let view = self.source.view(ALERT_OUTBOX)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// At most `limit` of what was sent, newest first.
    pub fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>, StorageError> {
        let view = self.source.view(ALERT_DELIVERIES)?;
        let rows = view.all()?.rev().take(limit).map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// Every silence that is kept, oldest first.
    pub fn silences(&self) -> Result<Vec<SilenceRecord>, StorageError> {
        let view = self.source.view(ALERT_SILENCES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }
}

/// Writes what needs no oplog entry: the alerts themselves, which follow from what they are about, and their way.
#[derive(Clone, Copy)]
pub struct AlertsBookkeeping<'t> {
    reading: Alerts<'t>,
    sink: Sink<'t>,
}

reads_as!(AlertsBookkeeping => Alerts, reading);

impl<'t> AlertsBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Alerts::new(sink.source()), sink }
    }

    /// Writes an alert.
    pub fn put(&self, record: &AlertRecord) -> Result<(), StorageError> {
        check_name(AlertRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(ALERTS)?.insert(record.id.as_str(), bytes.as_slice())
    }

    /// Of the alerts that are over, and not in `needed`, the oldest go where there are more than `keep`.
    pub fn prune(&self, keep: usize, needed: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let all = self.list(false, usize::MAX)?;
        let oldest = all.iter().skip(keep).filter(|alert| !alert.open() && !needed(&alert.id));
        let mut table = self.sink.edit(ALERTS)?;
        for alert in oldest {
            table.remove(alert.id.as_str())?;
        }
        Ok(())
    }

    /// Puts a message into the outbox, or writes what became of an attempt.
    pub fn put_message(&self, record: &OutboxRecord) -> Result<(), StorageError> {
        let bytes = encode(&record.sequence, record)?;
        self.sink.edit(ALERT_OUTBOX)?.insert(record.sequence, bytes.as_slice())
    }

    /// Takes a message out of the outbox.
    pub fn remove_message(&self, sequence: u64) -> Result<bool, StorageError> {
        self.sink.edit(ALERT_OUTBOX)?.remove(sequence)
    }

    /// Writes what became of a message; the oldest go where there are more than `keep`.
    pub fn put_delivery(&self, record: &DeliveryRecord, keep: u64) -> Result<(), StorageError> {
        let view = self.sink.source().view(ALERT_DELIVERIES)?;
        let last = view.all()?.next_back().transpose()?.map_or(0, |(key, _)| key.value());
        drop(view);
        let next = last.saturating_add(1);
        let bytes = encode(&next, record)?;
        let mut table = self.sink.edit(ALERT_DELIVERIES)?;
        table.insert(next, bytes.as_slice())?;
        table.remove_range(0..=next.saturating_sub(keep)).map(drop)
    }
}

/// Writes alerts.
#[derive(Clone, Copy)]
pub struct AlertsWriting<'t> {
    bookkeeping: AlertsBookkeeping<'t>,
    sink: Sink<'t>,
}

reads_as!(AlertsWriting => AlertsBookkeeping, bookkeeping);

impl<'t> AlertsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { bookkeeping: AlertsBookkeeping::new(sink), sink }
    }

    /// Writes a silence; the oldest that are not in `needed` go where there are more than `keep`.
    pub fn put_silence(
        &self,
        record: &SilenceRecord,
        keep: usize,
        needed: impl Fn(&SilenceRecord) -> bool,
    ) -> Result<(), StorageError> {
        check_name(SilenceRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(ALERT_SILENCES)?.insert(record.id.as_str(), bytes.as_slice())?;
        let all = self.silences()?;
        let excess = all.len().saturating_sub(keep);
        let mut table = self.sink.edit(ALERT_SILENCES)?;
        for silence in all.iter().filter(|silence| !needed(silence)).take(excess) {
            table.remove(silence.id.as_str())?;
        }
        Ok(())
    }
}
