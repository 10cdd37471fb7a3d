//! Health: what each check went through, the issues that came of it, the attempts to mend them, and what
//! holds remediation back.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::moment::Moment;
use crate::record::{Record, check_name, decode, encode, pair};
use crate::schema::{HEALTH_ATTEMPTS, HEALTH_CHECKS, HEALTH_CONTROLS, HEALTH_ISSUES};
use crate::view::{Sink, Source};

/// So many attempts are kept.
pub const ATTEMPTS_KEPT: u64 = 2_000;
/// And so many issues of each check.
pub const ISSUES_KEPT: u64 = 100;

/// Where an issue is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueState {
    /// Bad, but not for long enough yet.
    Suspect,
    /// Bad for long enough.
    Failing,
    /// An action goes on.
    Remediating,
    /// The action has ended; whether it helped is being looked at.
    Verifying,
    /// The action did not help; the next attempt waits.
    Cooldown,
    /// People were called, and nothing more is done automatically.
    Escalated,
    /// The condition cleared and stayed clear.
    Resolved,
}

/// Why people were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The attempts are used up.
    AttemptsFailed,
    /// Critical for too long.
    CriticalTooLong,
    /// Several issues at once.
    Cascade,
    /// Somebody flagged it.
    Flagged,
    /// Too many actions in too short a time.
    Storm,
    /// So much turned bad at once that the checks themselves are doubted.
    CheckerSuspect,
    /// An emergency was declared.
    Emergency,
    /// Something was taken back.
    Rollback,
    /// Somebody opened it.
    ByHand,
}

impl Trigger {
    /// Those by which health calls people, and whose end it sees.
    pub const OF_HEALTH: [Self; 6] = [
        Self::AttemptsFailed,
        Self::CriticalTooLong,
        Self::Cascade,
        Self::Flagged,
        Self::Storm,
        Self::CheckerSuspect,
    ];

    /// Its stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::AttemptsFailed => "ATTEMPTS_FAILED",
            Self::CriticalTooLong => "CRITICAL_TOO_LONG",
            Self::Cascade => "CASCADE",
            Self::Flagged => "FLAGGED",
            Self::Storm => "STORM",
            Self::CheckerSuspect => "CHECKER_SUSPECT",
            Self::Emergency => "EMERGENCY",
            Self::Rollback => "ROLLBACK",
            Self::ByHand => "BY_HAND",
        }
    }
}

/// Why nothing was done about an issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The gate's code.
    pub code: String,
    /// In words.
    pub message: String,
    /// Since when it has denied without a break.
    pub since: Timestamp,
}

/// One episode of one check's trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueRecord {
    /// The check.
    pub check: String,
    /// From 1 for each check.
    pub episode: u64,
    /// Where it is.
    pub state: IssueState,
    /// Since when it is in that state.
    pub since: Moment,
    /// When the check turned bad.
    pub opened: Moment,
    /// The attempts so far, those that an operator has forgiven by resuming not counted.
    pub attempts: u32,
    /// The attempt that goes on, or was the last: its id in the table of attempts.
    pub attempt: String,
    /// Bad results in a row.
    #[serde(default)]
    pub bad_streak: u32,
    /// Good results in a row.
    pub clear_streak: u32,
    /// Since when it has been good without a break.
    pub clear_since: Option<Moment>,
    /// In state cooldown: how long that lasts.
    pub cooldown: Duration,
    /// People were called: why and when.
    pub escalated: Option<(Trigger, Timestamp)>,
    /// Somebody has taken notice: who, when, and what they said.
    pub acked: Option<(String, Timestamp, String)>,
    /// Why nothing was done at the latest look.
    pub denials: Vec<Denial>,
    /// What the check said last.
    pub detail: String,
    /// How it ended.
    pub resolution: String,
}

impl Record for IssueRecord {
    const TABLE: &'static str = "health_issues";
    const VERSION: u8 = 1;
}

impl IssueRecord {
    /// Whether it goes on.
    pub fn open(&self) -> bool {
        self.state != IssueState::Resolved
    }
}

/// What outlives a check's single episodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// The check.
    pub check: String,
    /// The latest episode.
    pub episode: u64,
    /// Whether it was bad at last.
    pub bad: bool,
    /// When it changed between good and bad, the latest ones.
    pub transitions: Vec<Moment>,
    /// It changes so often that nothing is done.
    pub flapping: bool,
    /// It could not be told for so many times in a row.
    pub unknown_streak: u32,
    /// When it could not be told for long: from when, and until when; the latest ones, the oldest first.
    #[serde(default)]
    pub untold: Vec<(Timestamp, Option<Timestamp>)>,
}

impl Record for CheckRecord {
    const TABLE: &'static str = "health_checks";
    const VERSION: u8 = 1;
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Announced; after a crash it may or may not have been carried out.
    Intent,
    /// Carried out; whether it helped is being looked at.
    Done,
    /// The condition cleared and stayed clear.
    Succeeded,
    /// It did not help, or could not be carried out.
    Failed,
    /// The condition was gone when it was looked at again, so nothing was done.
    NotNeeded,
    /// Planned only.
    DryRun,
    /// Whether it helped could not be found out.
    Unknown,
}

/// One attempt to mend an issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// A ULID.
    pub id: String,
    /// The check.
    pub check: String,
    /// Its episode; 0 where a person ran the action.
    pub episode: u64,
    /// From 1 within the episode.
    pub number: u32,
    /// What was done.
    pub action: String,
    /// What it was planned to do, and how far it reaches.
    pub plan: Vec<String>,
    /// Whether what it changes can't be had back.
    pub destructive: bool,
    /// By whom.
    pub actor: String,
    /// When it was announced.
    pub at: Moment,
    /// When its outcome was known.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What the check said before.
    pub before: String,
    /// What the check said afterwards.
    pub after: String,
    /// What the action said.
    pub detail: String,
}

impl Record for AttemptRecord {
    const TABLE: &'static str = "health_attempts";
    const VERSION: u8 = 1;
}

/// Something that holds remediation back for the whole host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Since when.
    pub since: Moment,
    /// For how long; `None`: until somebody ends it.
    pub lasts: Option<Duration>,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Record for ControlRecord {
    const TABLE: &'static str = "health_controls";
    const VERSION: u8 = 1;
}

impl ControlRecord {
    /// Whether it still holds.
    pub fn holds(&self, now: &Moment) -> bool {
        self.lasts.is_none_or(|lasts| now.since(&self.since) < lasts)
    }
}

/// What can hold remediation back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Control {
    /// Switched off by a person.
    Disabled,
    /// Too many actions in too short a time.
    Brake,
    /// So much turned bad at once that the checks are doubted.
    CheckerSuspect,
    /// Not a hold, but when the last one by hand was over: actions wait as after a start, so that what was missed
    /// does not come in a burst.
    Resumed,
    /// Not a hold, but when the brake was last released: attempts before do not set it again.
    BrakeReleased,
}

impl Control {
    fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Brake => "brake",
            Self::CheckerSuspect => "checker_suspect",
            Self::Resumed => "resumed",
            Self::BrakeReleased => "brake_released",
        }
    }
}

/// Reads health.
#[derive(Clone, Copy)]
pub struct Health<'t> {
    source: Source<'t>,
}

impl<'t> Health<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// What is remembered of a check.
    pub fn check(&self, check: &str) -> Result<Option<CheckRecord>, StorageError> {
        let view = self.source.view(HEALTH_CHECKS)?;
        let row = view.get(check)?;
        row.map(|row| decode(&check, row.value())).transpose()
    }

    /// What is remembered of every check that was ever made.
    pub fn checks(&self) -> Result<Vec<CheckRecord>, StorageError> {
        let view = self.source.view(HEALTH_CHECKS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// An issue.
    pub fn issue(&self, check: &str, episode: u64) -> Result<Option<IssueRecord>, StorageError> {
        let view = self.source.view(HEALTH_ISSUES)?;
        let row = view.get((check, episode))?;
        row.map(|row| decode(&pair(check, episode), row.value())).transpose()
    }

    /// The issues of a check, newest first, at most `limit`.
    pub fn issues(&self, check: &str, limit: usize) -> Result<Vec<IssueRecord>, StorageError> {
        let view = self.source.view(HEALTH_ISSUES)?;
        let rows = view.range((check, 0)..=(check, u64::MAX))?;
        let newest = rows.rev().take(limit).map(|row| {
            let (key, value) = row?;
            decode(&pair(key.value().0, key.value().1), value.value())
        });
        newest.collect()
    }

    /// At most `limit` attempts, newest first; of one check, or of all when it is empty.
    pub fn attempts(&self, check: &str, limit: usize) -> Result<Vec<AttemptRecord>, StorageError> {
        let view = self.source.view(HEALTH_ATTEMPTS)?;
        let mut found = Vec::new();
        for row in view.all()?.rev() {
            if found.len() >= limit {
                break;
            }
            let (key, value) = row?;
            let attempt: AttemptRecord = decode(&key.value(), value.value())?;
            if check.is_empty() || attempt.check == check {
                found.push(attempt);
            }
        }
        Ok(found)
    }

    /// The attempts that were announced at `from` or later, newest first. Ids grow with time, so that older ones are not
    /// looked at; those of the hour before are, lest a clock that was set hides one.
    pub fn attempts_since(&self, from: Timestamp) -> Result<Vec<AttemptRecord>, StorageError> {
        let early = from.saturating_sub(jiff::SignedDuration::from_hours(1)).unwrap_or(from);
        let view = self.source.view(HEALTH_ATTEMPTS)?;
        let mut found = Vec::new();
        for row in view.all()?.rev() {
            let (key, value) = row?;
            let attempt: AttemptRecord = decode(&key.value(), value.value())?;
            if attempt.at.wall < early {
                break;
            }
            if attempt.at.wall >= from {
                found.push(attempt);
            }
        }
        Ok(found)
    }

    /// The attempt of this id.
    pub fn attempt(&self, id: &str) -> Result<Option<AttemptRecord>, StorageError> {
        let view = self.source.view(HEALTH_ATTEMPTS)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// What holds remediation back, also when its time is over.
    pub fn control(&self, control: Control) -> Result<Option<ControlRecord>, StorageError> {
        let view = self.source.view(HEALTH_CONTROLS)?;
        let row = view.get(control.name())?;
        row.map(|row| decode(&control.name(), row.value())).transpose()
    }
}

/// Writes what needs no oplog entry: what the checks went through.
#[derive(Clone, Copy)]
pub struct HealthBookkeeping<'t> {
    reading: Health<'t>,
    sink: Sink<'t>,
}

reads_as!(HealthBookkeeping => Health, reading);

impl<'t> HealthBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Health::new(sink.source()), sink }
    }

    /// Writes what is remembered of a check.
    pub fn put_check(&self, record: &CheckRecord) -> Result<(), StorageError> {
        check_name(CheckRecord::TABLE, &record.check)?;
        let bytes = encode(&record.check.as_str(), record)?;
        self.sink.edit(HEALTH_CHECKS)?.insert(record.check.as_str(), bytes.as_slice())
    }

    /// Writes an issue; those of the same check before the latest `keep` go.
    pub fn put_issue(&self, record: &IssueRecord, keep: u64) -> Result<(), StorageError> {
        check_name(IssueRecord::TABLE, &record.check)?;
        let key = (record.check.as_str(), record.episode);
        let bytes = encode(&pair(key.0, key.1), record)?;
        let mut table = self.sink.edit(HEALTH_ISSUES)?;
        table.insert(key, bytes.as_slice())?;
        let oldest = record.episode.saturating_sub(keep);
        table.remove_range((key.0, 0)..=(key.0, oldest)).map(drop)
    }

    /// Forgets an issue that turned out to be none.
    pub fn remove_issue(&self, check: &str, episode: u64) -> Result<bool, StorageError> {
        self.sink.edit(HEALTH_ISSUES)?.remove((check, episode))
    }
}

/// Writes health.
#[derive(Clone, Copy)]
pub struct HealthWriting<'t> {
    bookkeeping: HealthBookkeeping<'t>,
    sink: Sink<'t>,
}

reads_as!(HealthWriting => HealthBookkeeping, bookkeeping);

impl<'t> HealthWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { bookkeeping: HealthBookkeeping::new(sink), sink }
    }

    /// Writes an attempt; the oldest go where there are more than `keep`.
    pub fn put_attempt(&self, record: &AttemptRecord, keep: u64) -> Result<(), StorageError> {
        check_name(AttemptRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(HEALTH_ATTEMPTS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let view = self.sink.source().view(HEALTH_ATTEMPTS)?;
        let excess = view.len()?.saturating_sub(keep);
        let mut oldest = Vec::new();
        for row in view.all()?.take(usize::try_from(excess).unwrap_or(usize::MAX)) {
            oldest.push(row?.0.value().to_owned());
        }
        drop(view);
        let mut table = self.sink.edit(HEALTH_ATTEMPTS)?;
        for id in oldest {
            table.remove(id.as_str())?;
        }
        Ok(())
    }

    /// Holds remediation back, or replaces what did.
    pub fn set_control(
        &self,
        control: Control,
        record: &ControlRecord,
    ) -> Result<(), StorageError> {
        let bytes = encode(&control.name(), record)?;
        self.sink.edit(HEALTH_CONTROLS)?.insert(control.name(), bytes.as_slice())
    }

    /// Holds it back no longer; false if it did not.
    pub fn clear_control(&self, control: Control) -> Result<bool, StorageError> {
        self.sink.edit(HEALTH_CONTROLS)?.remove(control.name())
    }
}
