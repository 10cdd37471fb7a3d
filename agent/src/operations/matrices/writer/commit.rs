//! A group of batches becomes durable: one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use genesis_storage::{MatrixRecord, ValuesReading, ValuesWriting};

use super::super::hours::{HOUR, Hour};
use super::super::prepare::{Fared, Rows};
use super::super::stage::Stage;
use super::super::{Matrices, plan};
use super::{Answer, Content, Work, Writer};
use crate::batches::{Producers, broken};
use crate::error::{Error, Result};

/// So many consumers of a stage are told apart; how those are split tells how all are.
const CONSUMERS: usize = 100_000;
/// The code of what can't be read.
const UNREADABLE: &str = "STORAGE_RECORD_UNREADABLE";

/// What a group changes on the disk.
#[derive(Default)]
struct Changes {
    /// Hours that were looked at, and whether they changed.
    hours: HashMap<(u32, u32), (Hour, bool)>,
    names: Vec<(String, u32)>,
    consumers: Vec<(u64, u8)>,
    staged: bool,
}

impl Changes {
    /// The values of an hour, as the group has left them by now.
    fn hour(&mut self, reading: &ValuesReading<'_>, key: (u32, u32)) -> Result<&mut (Hour, bool)> {
        Ok(match self.hours.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let there = reading.hour(key.0, key.1)?;
                let hour = there.map(|bytes| {
                    Hour::from_bytes(&bytes).unwrap_or_else(|| {
                        tracing::error!(hour = key.0, "an hour of a series can't be read");
                        Hour::default()
                    })
                });
                entry.insert((hour.unwrap_or_default(), false))
            }
        })
    }

    fn put(&self, writing: &ValuesWriting<'_>) -> Result<()> {
        for (name, number) in &self.names {
            writing.put_name(name, *number)?;
        }
        let mut days = BTreeSet::new();
        for ((hour, series), (values, changed)) in &self.hours {
            if *changed {
                writing.put_hour(*hour, *series, &values.to_bytes())?;
                // The first return of a day is made with the last price of the day before.
                days.extend([hour / 24, (hour + 1) / 24]);
            }
        }
        for day in days {
            writing.touch(day)?;
        }
        Ok(())
    }
}

impl Writer {
    /// Makes a group durable: what became of each batch.
    pub(super) fn commit(
        &mut self,
        matrices: &Matrices,
        works: &[Work],
    ) -> Result<Vec<Result<Answer>>> {
        if self.stale {
            self.load(matrices)?;
            self.stale = false;
        }
        self.follow(matrices)?;
        let (bucket, most) = {
            let config = matrices.config();
            (u64::from(config.bucket) * 1_000_000_000, config.most)
        };
        let at_millis = matrices.now().as_millisecond();
        let mut told = Vec::with_capacity(works.len());
        self.producers.begin();
        let store = Arc::clone(&self.store);
        let written = store.write(|writing| {
            let mut changes = Changes::default();
            for work in works {
                if work.stream.load(Ordering::Relaxed) {
                    told.push(Err(broken(work.sequence)));
                    continue;
                }
                let new = match self.producers.take(&work.key, work.sequence, at_millis) {
                    Ok(new) => new,
                    Err(error) => {
                        work.stream.store(true, Ordering::Relaxed);
                        told.push(Err(error));
                        continue;
                    }
                };
                let outcomes = matches!(work.content, Content::Outcomes { .. });
                let mut answer = Answer {
                    sequence: work.sequence,
                    outcomes,
                    repeated: !new,
                    ..Answer::default()
                };
                match &work.content {
                    _ if !new => {}
                    Content::Values(columns, left) => {
                        answer.missing = left.missing;
                        answer.late = left.late;
                        answer.rejected = left.rejected;
                        let bounds = (bucket, most);
                        self.values(writing, columns, bounds, (&mut changes, &mut answer))?;
                    }
                    Content::Outcomes { consumer, columns, newest } => {
                        let of = (consumer.as_str(), columns.as_slice(), *newest);
                        self.outcomes(of, at_millis, (&mut changes, &mut answer));
                    }
                }
                told.push(Ok(answer));
            }
            for name in self.producers.forgotten() {
                writing.forget_producer(name)?;
            }
            for (name, producer) in self.producers.changed() {
                writing.put_producer(name, *producer)?;
            }
            changes.put(writing)?;
            if let Some(stage) = self.stage.as_ref().filter(|_| changes.staged) {
                let of = (stage.version, stage.percent);
                if self.fresh {
                    // What is there may be of another version that had its number.
                    writing.forget_stage(of.0, of.1)?;
                }
                writing.put_stage(of.0, of.1, stage.to_text().as_bytes())?;
                for (consumer, arm) in &changes.consumers {
                    writing.put_consumer(of, *consumer, *arm)?;
                }
            }
            Ok::<_, Error>(changes.staged)
        });
        // What was changed in memory is not on the disk.
        let staged = written.inspect_err(|_| self.stale = true)?;
        self.fresh &= !staged;
        self.producers.end();
        Ok(told)
    }

    fn values(
        &mut self,
        reading: &ValuesReading<'_>,
        columns: &[Rows],
        (bucket, most): (u64, usize),
        (changes, answer): (&mut Changes, &mut Answer),
    ) -> Result<()> {
        for (name, rows) in columns.iter().filter(|(_, rows)| !rows.is_empty()) {
            let number = match self.names.get(name) {
                Some(number) => *number,
                None if self.names.len() >= most => {
                    answer.unknown += rows.len() as u32;
                    continue;
                }
                None => {
                    let next = self.names.values().max().map_or(0, |last| last.wrapping_add(1));
                    self.names.insert(name.clone(), next);
                    changes.names.push((name.clone(), next));
                    next
                }
            };
            self.told.insert(number);
            for (time, value) in rows {
                let hour = time.div_euclid(HOUR).clamp(0, i64::from(u32::MAX) - 1) as u32;
                let (values, changed) = changes.hour(reading, (hour, number))?;
                if values.put(time.rem_euclid(HOUR) as u64, *value, bucket) {
                    *changed = true;
                    answer.counted += 1;
                } else {
                    answer.superseded += 1;
                }
            }
        }
        Ok(())
    }

    fn outcomes(
        &mut self,
        (consumer, columns, newest): (&str, &[Fared], i64),
        at_millis: i64,
        (changes, answer): (&mut Changes, &mut Answer),
    ) {
        let known = stands_for(consumer);
        for Fared { version, times, values } in columns {
            let rows = times.len() as u32;
            let Some(stage) = self.stage.as_mut() else {
                answer.other += rows;
                continue;
            };
            changes.staged = true;
            let Some(arm) = stage.arm(*version).filter(|_| stage.decided.is_none()) else {
                stage.counts.other += u64::from(rows);
                answer.other += rows;
                continue;
            };
            let mut counted = 0;
            for (time, value) in times.iter().zip(values) {
                // Of what is told by the second nobody knows when in that it was.
                if *time < stage.began - stage.began.rem_euclid(1_000_000_000) {
                    stage.counts.late += 1;
                    answer.late += 1;
                } else if *time <= newest && stage.record(arm, *value) {
                    counted += 1;
                } else {
                    stage.counts.rejected += 1;
                    answer.rejected += 1;
                }
            }
            answer.counted += counted;
            if counted > 0 {
                if self.consumers.len() < CONSUMERS && self.consumers.insert(known) {
                    stage.new_consumer(consumer);
                    changes.consumers.push((known, arm as u8));
                }
                stage.look(at_millis);
            }
        }
    }

    /// Takes over what is on the disk.
    fn load(&mut self, matrices: &Matrices) -> Result<()> {
        let (producers, names) = self.store.read(|reading| {
            Ok::<_, Error>((Producers::new(reading.producers()?), reading.names()?))
        })?;
        self.producers = producers;
        self.names = names.into_iter().collect();
        self.following = None;
        self.stage = None;
        self.follow(matrices)
    }

    /// Goes over to the stage that goes on by now. One that can't be read takes no outcomes, and keeps no value from being
    /// kept.
    pub(in super::super) fn follow(&mut self, matrices: &Matrices) -> Result<()> {
        let record = matrices.canary();
        let wanted = record.as_deref().and_then(|it| Some((it.version, it.stages.last()?)));
        let wanted = wanted.map(|(version, last)| (version, last.percent));
        if self.following == wanted {
            return Ok(());
        }
        (self.stage, self.consumers, self.fresh) = (None, HashSet::new(), false);
        let mut unreadable = None;
        if let Some(record) = record {
            match self.store.read(|reading| load_stage(reading, &record)) {
                Ok((stage, consumers, fresh)) => {
                    (self.stage, self.consumers, self.fresh) = (Some(stage), consumers, fresh);
                }
                Err(error) if error.code == UNREADABLE => {
                    tracing::error!(error = error.chain(), "a rollout can't be judged");
                    unreadable = Some((record.version, error.message));
                }
                Err(error) => return Err(error),
            }
        }
        self.following = wanted;
        matrices.follows(self.stage.as_ref(), unreadable);
        Ok(())
    }

    /// Forgets what is before a day, series without any value, and what was reported of versions that are through.
    /// `silent`: the numbers of series that had none a while ago.
    pub(super) fn keep_small(
        &mut self,
        matrices: &Matrices,
        day: u32,
        silent: &BTreeSet<u32>,
    ) -> Result<u64> {
        // Those that have come since are there, and whoever begins anew is.
        let told = std::mem::take(&mut self.told);
        let silent: BTreeSet<u32> = silent.difference(&told).copied().collect();
        let versions = matrices.versions();
        let canary = plan::in_state(&versions, plan::CANARY).map(|it| it.version);
        let through = canary.unwrap_or_else(|| {
            versions.keys().next_back().map_or(0, |last| last.saturating_add(1))
        });
        let gone = self.store.write(|writing| {
            let gone = writing.forget_before(day)?;
            writing.forget_stages_before(through)?;
            for (name, _) in self.names.iter().filter(|(_, number)| silent.contains(number)) {
                writing.forget_name(name)?;
            }
            Ok::<_, Error>(gone)
        });
        // Where it failed, names are there all the same.
        let gone = gone.inspect_err(|_| self.stale = true)?;
        self.names.retain(|_, number| !silent.contains(number));
        Ok(gone)
    }
}

/// The stage of a version that goes on, with what was reported in it by now.
fn load_stage(
    reading: &ValuesReading<'_>,
    record: &MatrixRecord,
) -> Result<(Stage, HashSet<u64>, bool)> {
    let unreadable = |why: String| {
        let version = record.version;
        let message = format!("what was reported of version {version} can't be read: {why}");
        Error::internal(UNREADABLE, message)
    };
    let mut stage = Stage::of(record).map_err(unreadable)?;
    let written = reading.stages(record.version)?;
    let written = written.into_iter().find(|(percent, _)| *percent == stage.percent);
    let (mut consumers, mut fresh) = (HashSet::new(), true);
    if let Some((_, bytes)) = written
        && stage.take_over(&bytes).map_err(unreadable)?
    {
        let there = reading.consumers(record.version, stage.percent)?;
        consumers.extend(there.into_iter().map(|(consumer, _)| consumer));
        fresh = false;
    }
    Ok((stage, consumers, fresh))
}

/// 64 bits of BLAKE3.
fn stands_for(consumer: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(consumer.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
