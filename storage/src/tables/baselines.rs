//! Performance baselines: what was calculated, generation by generation, and the episodes in which it was left.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{floors, reads_as};
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode, pair};
use crate::schema::{BASELINE_EPISODES, BASELINES};
use crate::view::{Sink, Source};

/// So many generations of an operation's baseline are kept.
pub const KEPT_BASELINES: u32 = 10;

/// So many of them, the newest, are kept whole: with what is usual by hour of the week, so that one can go back to them.
pub const WHOLE_BASELINES: u32 = 3;

/// What is usual at some time of the week: how many values that is known by, and for each quantile the value and the
/// share of values above it.
pub type ReferenceRecord = (u64, [(f64, f64); 3]);

/// What was usual for an operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BaselineRecord {
    /// The operation.
    pub operation: String,
    /// From 1, one more with each calculation.
    pub generation: u32,
    /// When it was calculated.
    pub calculated_at: Timestamp,
    /// Observations from here count.
    pub from: Timestamp,
    /// And to before there.
    pub until: Timestamp,
    /// Hours that were left out, since an episode went on in them.
    #[serde(default)]
    pub left_out: u32,
    /// What came before is not what is usual any more, and no later calculation looks at it.
    pub since: Option<Timestamp>,
    /// The sketch of all of them, in hexadecimal digits.
    pub sketch: String,
    /// By hour of the week, from Monday 00:00 UTC; empty in generations that are not kept whole any more.
    pub hours: Vec<Option<ReferenceRecord>>,
    /// By part of the day, see the baselines' own account; empty in generations that are not whole any more.
    pub parts: Vec<Option<ReferenceRecord>>,
    /// At any time.
    pub all: Option<ReferenceRecord>,
    /// Why it was calculated.
    pub cause: String,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The generation whose content it has, where somebody went back; 0: it was calculated.
    #[serde(default)]
    pub restores: u32,
}

impl Record for BaselineRecord {
    const TABLE: &'static str = "baselines";
    const VERSION: u8 = 1;
}

/// A time in which an operation left what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpisodeRecord {
    /// ULID.
    pub id: String,
    /// The operation.
    pub operation: String,
    /// When the window began that tripped.
    pub since: Timestamp,
    /// When the window that tripped was over: what changed later is not behind it.
    #[serde(default)]
    pub noticed: Option<Timestamp>,
    /// When it was over; `None` while it goes on.
    pub until: Option<Timestamp>,
    /// Which quantile left the furthest: 0, 1, 2.
    pub quantile: u8,
    /// What is usual for it, in seconds.
    pub usual: f64,
    /// What it was at worst, in seconds.
    pub worst: f64,
    /// z at the most.
    pub worst_z: f64,
    /// How it ended: "cleared", "accepted", "recalculated"; empty while it goes on.
    pub ended: String,
    /// What changed shortly before it.
    pub changes: Vec<String>,
    /// What the host was like.
    pub surroundings: Vec<String>,
    /// The slowest queries.
    pub queries: Vec<String>,
    /// What may be rolled back.
    pub rollbacks: Vec<String>,
}

impl Record for EpisodeRecord {
    const TABLE: &'static str = "baseline_episodes";
    const VERSION: u8 = 1;
}

/// Reads baselines.
#[derive(Clone, Copy)]
pub struct Baselines<'t> {
    source: Source<'t>,
}

impl<'t> Baselines<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The generations of an operation, oldest first.
    pub fn generations(&self, operation: &str) -> Result<Vec<BaselineRecord>, StorageError> {
        let view = self.source.view(BASELINES)?;
        let rows = view.range((operation, 0)..=(operation, u32::MAX))?.map(|row| {
            let (key, value) = row?;
            let (name, generation) = key.value();
            decode(&pair(name, generation), value.value())
        });
        rows.collect()
    }

    /// The newest generation of each operation, by operation.
    pub fn newest(&self) -> Result<Vec<BaselineRecord>, StorageError> {
        let view = self.source.view(BASELINES)?;
        let mut newest: Vec<(String, u32)> = Vec::new();
        for row in view.all()? {
            let (key, _) = row?;
            let (name, generation) = key.value();
            match newest.last_mut().filter(|last| last.0 == name) {
                Some(last) => last.1 = generation,
                None => newest.push((name.to_owned(), generation)),
            }
        }
        let mut records = Vec::with_capacity(newest.len());
        for (name, generation) in newest {
            if let Some(value) = view.get((name.as_str(), generation))? {
                records.push(decode(&pair(&name, generation), value.value())?);
            }
        }
        Ok(records)
    }

    /// Every generation, by operation and number.
    pub fn all(&self) -> Result<Vec<BaselineRecord>, StorageError> {
        let view = self.source.view(BASELINES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            let (name, generation) = key.value();
            decode(&pair(name, generation), value.value())
        });
        rows.collect()
    }

    /// At most `limit` episodes, newest first; with an `operation` only those of it.
    pub fn episodes(
        &self,
        operation: Option<&str>,
        limit: usize,
    ) -> Result<Vec<EpisodeRecord>, StorageError> {
        self.source.view(BASELINE_EPISODES)?.last(limit, |record: &EpisodeRecord| {
            operation.is_none_or(|operation| record.operation == operation)
        })
    }

    /// The episodes that go on.
    pub fn open_episodes(&self) -> Result<Vec<EpisodeRecord>, StorageError> {
        let view = self.source.view(BASELINE_EPISODES)?;
        view.last(usize::MAX, |record: &EpisodeRecord| record.until.is_none())
    }
}

/// Writes baselines.
#[derive(Clone, Copy)]
pub struct BaselinesWriting<'t> {
    reading: Baselines<'t>,
    sink: Sink<'t>,
}

reads_as!(BaselinesWriting => Baselines, reading);

impl<'t> BaselinesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Baselines::new(sink.source()), sink }
    }

    /// Writes the next generation of an operation's baseline under its number, which it returns. What only those
    /// need that are kept whole is taken out of the others, and the oldest are forgotten.
    pub fn put_next(&self, mut record: BaselineRecord) -> Result<u32, StorageError> {
        check_name(BaselineRecord::TABLE, &record.operation)?;
        let name = record.operation.clone();
        let before = self.reading.generations(&name)?;
        let last = before.last().map(|last| u64::from(last.generation));
        let number = floors::next(self.sink.source(), &floors::of_baseline(&name), last)?;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        record.generation = number;
        let mut table = self.sink.edit(BASELINES)?;
        // By how many there are: numbers are left out where a state went back.
        for (newer, mut past) in (1..).zip(before.into_iter().rev()) {
            let key = (name.as_str(), past.generation);
            if newer >= KEPT_BASELINES {
                table.remove(key)?;
            } else if newer >= WHOLE_BASELINES && !past.hours.is_empty() {
                (past.hours, past.parts) = (Vec::new(), Vec::new());
                let bytes = encode(&pair(&name, past.generation), &past)?;
                table.insert(key, bytes.as_slice())?;
            }
        }
        let bytes = encode(&pair(&name, number), &record)?;
        table.insert((name.as_str(), number), bytes.as_slice())?;
        Ok(number)
    }

    /// Writes an episode.
    pub fn put_episode(&self, record: &EpisodeRecord) -> Result<(), StorageError> {
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(BASELINE_EPISODES)?.insert(record.id.as_str(), bytes.as_slice())
    }

    /// Forgets the episodes whose ids are below this one, but none that goes on; how many.
    pub fn expire_episodes(&self, before: &str) -> Result<usize, StorageError> {
        let all = self.reading.episodes(None, usize::MAX)?;
        let mut table = self.sink.edit(BASELINE_EPISODES)?;
        let mut forgotten = 0;
        for past in all.iter().filter(|it| it.until.is_some() && it.id.as_str() < before) {
            table.remove(past.id.as_str())?;
            forgotten += 1;
        }
        Ok(forgotten)
    }
}
