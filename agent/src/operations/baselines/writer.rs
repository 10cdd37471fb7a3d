//! The one writer of observations: a thread that commits batches in groups, and answers each once it is durable.
//!
//! A group is whatever waits when the commit before has ended, so that a slow disk makes larger groups and keeps senders
//! waiting, and a fast one answers at once. Sketches, raw columns and how far each producer is are one commit: a batch
//! counts as a whole and once, or not at all.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use genesis_stats::Sketch;
use genesis_storage::{Observations, ObservationsWriting};
use tokio::sync::{mpsc, oneshot};

use super::prepare::{Prepared, Share};
use super::{Baselines, What, raw, upkeep};
use crate::batches::{Producers, Stream, broken};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// So many batches wait for the disk at most.
pub const WAITING: usize = 64;
/// A group has at most so many observations, so that its commit takes no time that a sender notices.
const GROUP: usize = 2_000_000;
/// So many sketches of hours are kept in memory.
const CACHED: usize = 4_096;
/// What became of a batch that is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Which batch.
    pub sequence: u64,
    /// It was durable before.
    pub duplicate: bool,
    /// Observations that count.
    pub counted: u32,
    /// Those whose value is none.
    pub rejected: u32,
    /// Those that are too old.
    pub late: u32,
    /// Those that lie in the future.
    pub ahead: u32,
    /// Those of new operations for which there is no room.
    pub crowded_out: u32,
}

/// A batch on its way to the disk.
pub struct Work {
    /// The batch.
    pub prepared: Prepared,
    /// Of which stream.
    pub stream: Stream,
    /// Who waits for it.
    pub answer: oneshot::Sender<Result<Answer>>,
}

/// What the writer is asked for.
pub enum Order {
    /// To write a batch.
    Batch(Work),
    /// To forget an operation.
    Forget(String, u32, oneshot::Sender<Result<()>>),
}

/// The writer's own state. What it has in memory is what is on the disk.
pub(super) struct Writer {
    /// Gone with whoever sends, so that the thread ends, and closes the file.
    pub(super) baselines: Weak<Baselines>,
    pub(super) store: Arc<Observations>,
    pub(super) producers: Producers,
    /// Sketches by operation and hour.
    pub(super) hours: HashMap<(u32, u32), Sketch>,
    /// A commit failed, and whether it is on the disk all the same shows only there.
    pub(super) stale: bool,
}

/// What a group changes, until it is durable.
#[derive(Default)]
struct Group {
    operations: Vec<(String, u32)>,
    hours: HashMap<(u32, u32), Sketch>,
    /// By operation and minute, for the windows.
    minutes: Vec<(u32, i64, Sketch)>,
    rows: Vec<Vec<u8>>,
    answers: Vec<Result<Answer>>,
}

impl Writer {
    /// Writes until nobody sends any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(first) = waiting.blocking_recv()
            && let Some(baselines) = self.baselines.upgrade()
        {
            let (mut next, mut group, mut rows) = (Some(first), Vec::new(), 0);
            while let Some(Order::Batch(work)) = next {
                rows += size(&work);
                group.push(work);
                next = if rows < GROUP { waiting.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write(&baselines, group);
            }
            if let Some(Order::Forget(name, number, answer)) = next {
                // Whoever asked may have left.
                let _ = answer.send(self.forget(&baselines, &name, number));
            }
        }
    }

    fn forget(&mut self, baselines: &Baselines, name: &str, number: u32) -> Result<()> {
        let forgotten = self.store.write(|writing| {
            // Something may have come since it was asked for.
            let silent = writing.last_hour(number)?.is_none();
            if silent {
                writing.forget_operation(name, number)?;
            }
            Ok::<_, Error>(silent)
        });
        if forgotten.as_ref().is_ok_and(|silent| *silent) {
            self.hours.retain(|(id, _), _| *id != number);
            baselines.live().forget(name, number);
        }
        self.stale |= forgotten.is_err();
        forgotten.map(drop)
    }

    fn write(&mut self, baselines: &Baselines, works: Vec<Work>) {
        let now = baselines.outside.clock.now();
        let (batches, answers): (Vec<(Prepared, Stream)>, Vec<_>) =
            works.into_iter().map(|work| ((work.prepared, work.stream), work.answer)).unzip();
        let store = Arc::clone(&self.store);
        failpoint::pause("baselines.before-commit");
        failpoint::hit("baselines.before-commit");
        let written = store.write(|writing| {
            if self.stale {
                self.producers = Producers::new(writing.producers()?);
                baselines.learn(writing.operations()?);
                self.stale = false;
            }
            let group = self.group(baselines, &batches, now.as_millisecond(), writing)?;
            put(baselines, &self.producers, &group, writing)?;
            Ok::<_, Error>(group)
        });
        failpoint::hit("baselines.after-commit");
        let group = match written {
            Ok(group) => group,
            Err(error) => {
                self.hours.clear();
                self.stale = true;
                batches.iter().for_each(|(_, stream)| stream.store(true, Ordering::Relaxed));
                let text = error.chain();
                baselines.failing(What::Writing, Some(&text));
                for answer in answers {
                    let told = Error::new(error.kind, error.code, text.clone());
                    // Whoever waited may have left.
                    let _ = answer.send(Err(told));
                }
                return;
            }
        };
        self.producers.end();
        if self.hours.len() > CACHED {
            self.hours.clear();
        }
        self.hours.extend(group.hours);
        // A group of refused batches alone says nothing of the disk.
        if group.answers.iter().any(Result::is_ok) {
            baselines.failing(What::Writing, None);
        }
        baselines.took(group.operations, &group.minutes, &group.answers);
        for (answer, outcome) in answers.into_iter().zip(group.answers) {
            let _ = answer.send(outcome);
        }
    }

    /// What the batches change, in their order.
    fn group(
        &mut self,
        baselines: &Baselines,
        batches: &[(Prepared, Stream)],
        at_millis: i64,
        writing: &ObservationsWriting<'_>,
    ) -> Result<Group> {
        let mut group = Group::default();
        let (mut row, mut rows) = (Vec::new(), 0);
        self.producers.begin();
        for (batch, stream) in batches {
            if stream.load(Ordering::Relaxed) {
                group.answers.push(Err(broken(batch.sequence)));
                continue;
            }
            match self.producers.take(&batch.producer, batch.sequence, at_millis) {
                Ok(true) => {}
                Ok(false) => {
                    let duplicate =
                        Answer { sequence: batch.sequence, duplicate: true, ..Answer::default() };
                    group.answers.push(Ok(duplicate));
                    continue;
                }
                Err(error) => {
                    stream.store(true, Ordering::Relaxed);
                    group.answers.push(Err(error));
                    continue;
                }
            }
            let mut answer = Answer {
                sequence: batch.sequence,
                late: batch.late,
                ahead: batch.ahead,
                ..Answer::default()
            };
            for share in &batch.shares {
                // What has nothing that counts takes no operation's place.
                if share.counted == 0 && !baselines.live().numbers.contains_key(&share.operation) {
                    answer.rejected += share.rejected;
                    continue;
                }
                let Some(operation) = number(baselines, &share.operation, &mut group) else {
                    answer.crowded_out += share.counted + share.rejected;
                    continue;
                };
                answer.counted += share.counted;
                answer.rejected += share.rejected;
                self.merge(operation, share, &mut group, writing)?;
                if !share.raw.is_empty() {
                    raw::put(&mut row, operation, &share.raw);
                }
                rows += share.counted as usize;
                if row.len() >= raw::ROW || rows >= raw::ROWS {
                    group.rows.push(std::mem::take(&mut row));
                    rows = 0;
                }
            }
            group.answers.push(Ok(answer));
        }
        if !row.is_empty() {
            group.rows.push(row);
        }
        Ok(group)
    }

    fn merge(
        &mut self,
        operation: u32,
        share: &Share,
        group: &mut Group,
        writing: &ObservationsWriting<'_>,
    ) -> Result<()> {
        for (hour, sketch) in &share.hours {
            let key = (operation, *hour);
            let of_hour = match group.hours.entry(key) {
                std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => {
                    let before = match self.hours.remove(&key) {
                        Some(cached) => cached,
                        None => read(writing.hour(operation, *hour)?)?,
                    };
                    free.insert(before)
                }
            };
            of_hour.merge(sketch);
        }
        let minutes = share.minutes.iter().map(|(at, sketch)| (operation, *at, sketch.clone()));
        group.minutes.extend(minutes);
        Ok(())
    }
}

/// The operation's number, a new one if need be; `None`: there is no room for another.
fn number(baselines: &Baselines, name: &str, group: &mut Group) -> Option<u32> {
    if let Some((_, number)) = group.operations.iter().find(|(it, _)| it == name) {
        return Some(*number);
    }
    let live = baselines.live();
    if let Some(number) = live.numbers.get(name) {
        return Some(*number);
    }
    let limit = baselines.config.load().operations;
    if live.numbers.len() + group.operations.len() >= limit {
        return None;
    }
    let greatest = live.numbers.values().chain(group.operations.iter().map(|(_, it)| it)).max();
    let number = greatest.map_or(0, |it| it.saturating_add(1));
    group.operations.push((name.to_owned(), number));
    Some(number)
}

fn put(
    baselines: &Baselines,
    producers: &Producers,
    group: &Group,
    writing: &ObservationsWriting<'_>,
) -> Result<()> {
    for (name, number) in &group.operations {
        writing.put_operation(name, *number)?;
    }
    for name in producers.forgotten() {
        writing.forget_producer(name)?;
    }
    for (name, producer) in producers.changed() {
        writing.put_producer(name, *producer)?;
    }
    let hours: Vec<((u32, u32), Vec<u8>)> =
        group.hours.iter().map(|(key, sketch)| (*key, sketch.to_bytes())).collect();
    writing.put_hours(hours.iter().map(|((id, hour), bytes)| (*id, *hour, bytes.as_slice())))?;
    if !group.rows.is_empty() {
        writing.append_raw(group.rows.iter().map(Vec::as_slice))?;
        upkeep::make_room(writing, baselines.config.load().raw_quota)?;
    }
    Ok(())
}

fn size(work: &Work) -> usize {
    work.prepared.shares.iter().map(|share| share.counted as usize).sum()
}

/// A sketch as it was written; an empty one where there was none.
pub(super) fn read(bytes: Option<Vec<u8>>) -> Result<Sketch> {
    let Some(bytes) = bytes else { return Ok(Sketch::new()) };
    Sketch::from_own_bytes(&bytes).map_err(|error| {
        let message = format!("a sketch of the observations can't be read: {error}");
        Error::internal("STORAGE_RECORD_UNREADABLE", message)
    })
}
