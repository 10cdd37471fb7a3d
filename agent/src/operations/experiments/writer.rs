//! The one writer of trades: a thread that commits batches in groups and answers each once it is durable, as that of
//! observations does. Tallies, looks, ids and how far each producer is are one commit. What a look ends is ended in the
//! agent's state before the batch is answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use genesis_stats::experiment::Moments;
use genesis_storage::{ExperimentRecord, Trades, TradesReading, TradesWriting};
use tokio::sync::{mpsc, oneshot};

use super::prepare::{Prepared, Row, Share};
use super::tally::{Ended, Tally, day_from_bytes, day_to_bytes};
use super::{Experiments, plan};
use crate::batches::{Producers, Stream, broken};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// So many batches wait for the disk at most.
pub const WAITING: usize = 64;
/// A group has at most so many trades.
const GROUP: usize = 500_000;
/// So many late trades of an experiment are kept, in bytes.
const LATE_BYTES: usize = 1 << 20;

/// What became of a batch that is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Which batch.
    pub sequence: u64,
    /// The batch was durable before.
    pub repeated: bool,
    /// Trades that count.
    pub counted: u32,
    /// Those whose ids were there before.
    pub duplicate: u32,
    /// Those that are too old.
    pub late: u32,
    /// Those that are none.
    pub rejected: u32,
    /// Those of experiments that have ended.
    pub after_end: u32,
    /// Those of experiments that are not known here.
    pub unknown: u32,
    /// What the looks after this batch ended.
    pub ended: Vec<u64>,
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
    /// To take a new experiment in.
    Begin(Arc<ExperimentRecord>, oneshot::Sender<Result<()>>),
    /// To take an experiment's end in.
    End(u64, oneshot::Sender<Result<()>>),
    /// To forget what is past its time.
    KeepSmall(oneshot::Sender<Result<u64>>),
}

/// Ids are hashes already.
#[derive(Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(whole);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// Ids that were there.
pub type Ids = HashSet<u128, BuildHasherDefault<Same>>;

/// An experiment as the writer has it.
pub(super) struct Kept {
    record: Arc<ExperimentRecord>,
    tally: Tally,
    ids: Ids,
}

/// The writer's own state. What it has in memory is what is on the disk.
pub(super) struct Writer {
    /// Gone with whoever sends, so that the thread ends, and closes the file.
    pub(super) experiments: Weak<Experiments>,
    pub(super) store: Arc<Trades>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) producers: Producers,
    pub(super) kept: HashMap<u64, Kept>,
    /// A commit failed, and whether it is on the disk all the same shows only there.
    pub(super) stale: bool,
}

/// What became of each batch of a group, and which experiments it changed.
type Committed = (Vec<Result<Answer>>, Vec<u64>);

/// What a group changes of an experiment on the disk.
#[derive(Default)]
struct Changed {
    ids: Vec<u128>,
    /// The time of the newest of them.
    newest: i64,
    days: BTreeMap<u32, [Moments; 2]>,
    late: Vec<u8>,
}

impl Writer {
    /// Writes until nobody sends any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(first) = waiting.blocking_recv()
            && let Some(experiments) = self.experiments.upgrade()
        {
            let (mut next, mut group, mut rows) = (Some(first), Vec::new(), 0);
            while let Some(Order::Batch(work)) = next {
                rows += work.prepared.shares.values().map(|share| share.rows.len()).sum::<usize>();
                group.push(work);
                next = if rows < GROUP { waiting.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write(&experiments, group);
            }
            // Whoever asked may have left.
            match next {
                Some(Order::Begin(record, answer)) => {
                    let _ = answer.send(self.begin(record));
                }
                Some(Order::End(number, answer)) => {
                    let _ = answer.send(self.end(number));
                }
                Some(Order::KeepSmall(answer)) => {
                    let oldest = experiments.horizon().oldest;
                    let _ = answer.send(self.keep_small(oldest));
                }
                Some(Order::Batch(_)) | None => {}
            }
        }
    }

    /// Its first commit writes its tally: where there is none, it is that of no trades.
    fn begin(&mut self, record: Arc<ExperimentRecord>) -> Result<()> {
        let tally = Tally::new(&record).map_err(|why| unreadable(&why))?;
        self.kept.insert(record.number, Kept { record, tally, ids: Ids::default() });
        Ok(())
    }

    /// Of what has ended the ids are of no use any more. It has ended also where they can't be forgotten.
    fn end(&mut self, number: u64) -> Result<()> {
        if let Some(kept) = self.kept.get_mut(&number) {
            kept.ids = Ids::default();
            kept.tally.ended.get_or_insert_default();
        }
        self.store.write(|writing| writing.forget(number, false).map_err(Error::from))
    }

    /// Forgets runs of ids whose trades would be late by now; how many.
    fn keep_small(&mut self, oldest: i64) -> Result<u64> {
        let mut gone = 0;
        for (number, kept) in &mut self.kept {
            let (mut old, mut ids) = (Vec::new(), Ids::default());
            self.store.read(|reading| {
                reading.ids(*number, |run, bytes| {
                    match run_of(bytes) {
                        Some((newest, of_run)) if newest >= oldest => ids.extend(of_run),
                        _ => old.push(run),
                    }
                    Ok::<_, Error>(())
                })
            })?;
            if old.is_empty() {
                continue;
            }
            self.store.write(|writing| {
                for run in &old {
                    writing.remove_ids(*number, *run)?;
                }
                Ok::<_, Error>(())
            })?;
            kept.ids = ids;
            gone += old.len() as u64;
        }
        Ok(gone)
    }

    fn write(&mut self, experiments: &Arc<Experiments>, works: Vec<Work>) {
        let now = experiments.now();
        let (batches, answers): (Vec<(Prepared, Stream)>, Vec<_>) =
            works.into_iter().map(|work| ((work.prepared, work.stream), work.answer)).unzip();
        failpoint::pause("experiments.before-commit");
        failpoint::hit("experiments.before-commit");
        let written = self.commit(experiments, &batches, now.as_millisecond());
        failpoint::hit("experiments.after-commit");
        match written {
            Err(error) => {
                self.stale = true;
                batches.iter().for_each(|(_, stream)| stream.store(true, Ordering::Relaxed));
                let text = error.chain();
                experiments.failing(Some(&text));
                for answer in answers {
                    let told = Error::new(error.kind, error.code, text.clone());
                    let _ = answer.send(Err(told));
                }
            }
            Ok((told, changed)) => {
                experiments.failing(None);
                let tallies = changed
                    .iter()
                    .filter_map(|number| Some((*number, self.kept.get(number)?.tally.clone())));
                experiments.took(tallies.collect(), &told);
                let ended: Vec<u64> =
                    told.iter().flatten().flat_map(|it| it.ended.clone()).collect();
                for number in ended {
                    // What can't be ended now is ended by the loop that looks for such.
                    let ending = experiments.settle(number);
                    if let Err(error) = self.runtime.block_on(ending) {
                        tracing::error!(
                            error = error.chain(),
                            number,
                            "an experiment was decided, and is not ended yet"
                        );
                    }
                }
                for (answer, outcome) in answers.into_iter().zip(told) {
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    /// Makes a group durable: what became of each batch, and which experiments changed.
    fn commit(
        &mut self,
        experiments: &Experiments,
        batches: &[(Prepared, Stream)],
        at_millis: i64,
    ) -> Result<Committed> {
        if self.stale {
            self.load(&experiments.known())?;
            self.stale = false;
        }
        let mut changes: BTreeMap<u64, Changed> = BTreeMap::new();
        let mut told = Vec::with_capacity(batches.len());
        self.producers.begin();
        for (batch, stream) in batches {
            if stream.load(Ordering::Relaxed) {
                told.push(Err(broken(batch.sequence)));
                continue;
            }
            match self.producers.take(&batch.producer, batch.sequence, at_millis) {
                Err(error) => {
                    stream.store(true, Ordering::Relaxed);
                    told.push(Err(error));
                }
                Ok(false) => told.push(Ok(Answer {
                    sequence: batch.sequence,
                    repeated: true,
                    ..Answer::default()
                })),
                Ok(true) => {
                    let answer = self.batch(batch, experiments.host(), at_millis, &mut changes);
                    told.push(Ok(answer));
                }
            }
        }
        let store = Arc::clone(&self.store);
        let written = store.write(|writing| {
            for name in self.producers.forgotten() {
                writing.forget_producer(name)?;
            }
            for (name, producer) in self.producers.changed() {
                writing.put_producer(name, *producer)?;
            }
            for (number, changed) in &changes {
                self.put(writing, *number, changed)?;
            }
            Ok::<_, Error>(())
        });
        // What was changed in memory is not on the disk.
        written.inspect_err(|_| self.stale = true)?;
        self.producers.end();
        Ok((told, changes.into_keys().collect()))
    }

    fn put(&self, writing: &TradesWriting<'_>, number: u64, changed: &Changed) -> Result<()> {
        let Some(kept) = self.kept.get(&number) else { return Ok(()) };
        writing.put_tally(number, &kept.tally.to_bytes())?;
        if !changed.ids.is_empty() {
            writing.append_ids(number, &run_to_bytes(changed.newest, &changed.ids))?;
        }
        for (day, arms) in &changed.days {
            let mut of_day = match writing.day(number, *day)? {
                Some(bytes) => day_from_bytes(&bytes)
                    .ok_or_else(|| unreadable(&format!("day {day} of experiment {number}")))?,
                None => [Moments::new(); 2],
            };
            of_day.iter_mut().zip(arms).for_each(|(sum, more)| sum.merge(more));
            writing.put_day(number, *day, &day_to_bytes(&of_day))?;
        }
        let there: usize = match changed.late.is_empty() {
            true => return Ok(()),
            false => writing.late(number)?.iter().map(Vec::len).sum(),
        };
        if there < LATE_BYTES {
            writing.append_late(number, &changed.late)?;
        }
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &Prepared,
        host: &str,
        at_millis: i64,
        changes: &mut BTreeMap<u64, Changed>,
    ) -> Answer {
        let mut answer =
            Answer { sequence: batch.sequence, unknown: batch.unknown, ..Answer::default() };
        for (number, share) in &batch.shares {
            let Some(kept) = self.kept.get_mut(number) else {
                answer.unknown += (share.rows.len() + share.late.len()) as u32 + share.rejected;
                continue;
            };
            let changed = changes.entry(*number).or_default();
            if kept.take(share, changed, &mut answer) && kept.record.owner == host {
                let look = kept.tally.look(at_millis);
                if let Some(how) = plan::ends(look.decision.verdict) {
                    let line = look.decision.row.number;
                    let how = how.to_owned();
                    kept.tally.ended = Some(Ended { line, at: at_millis, how });
                    answer.ended.push(*number);
                }
            }
        }
        answer
    }

    /// Takes over what is on the disk.
    pub(super) fn load(&mut self, known: &BTreeMap<u64, Arc<ExperimentRecord>>) -> Result<()> {
        let (producers, kept) = self
            .store
            .read(|reading| Ok::<_, Error>((reading.producers()?, load(reading, known)?)))?;
        self.producers = Producers::new(producers);
        self.kept = kept;
        Ok(())
    }
}

/// What is on the disk of the experiments that are known.
pub(super) fn load(
    reading: &TradesReading<'_>,
    known: &BTreeMap<u64, Arc<ExperimentRecord>>,
) -> Result<HashMap<u64, Kept>> {
    let mut kept = HashMap::new();
    let written: BTreeMap<u64, Vec<u8>> = reading.tallies()?.into_iter().collect();
    for (number, record) in known {
        let mut tally = match written.get(number) {
            Some(bytes) => Tally::from_bytes(record, bytes).map_err(|why| unreadable(&why))?,
            None => Tally::new(record).map_err(|why| unreadable(&why))?,
        };
        let mut ids = Ids::default();
        if record.conclusion.is_some() {
            tally.ended.get_or_insert_default();
        } else {
            reading.ids(*number, |_, bytes| {
                ids.extend(run_of(bytes).into_iter().flat_map(|(_, ids)| ids));
                Ok::<_, Error>(())
            })?;
        }
        kept.insert(*number, Kept { record: Arc::clone(record), tally, ids });
    }
    Ok(kept)
}

impl Kept {
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes trades in; whether any counts.
    fn take(&mut self, share: &Share, changed: &mut Changed, answer: &mut Answer) -> bool {
        let tally = &mut self.tally;
        tally.counts.rejected += u64::from(share.rejected);
        answer.rejected += share.rejected;
        if tally.ended.is_some() {
            let all = share.rows.len() + share.late.len();
            tally.counts.after_end += all as u64;
            answer.after_end += all as u32;
            return false;
        }
        tally.counts.late += share.late.len() as u64;
        answer.late += share.late.len() as u32;
        share.late.iter().for_each(|row| put_late(&mut changed.late, row));
        let mut counted = 0;
        for row in &share.rows {
            if !self.ids.insert(row.id) {
                tally.counts.duplicate += 1;
                answer.duplicate += 1;
                continue;
            }
            changed.ids.push(row.id);
            changed.newest = changed.newest.max(row.time);
            // A duplicate of what is no use is one too.
            if !tally.trial.record(row.arm, row.pnl) {
                tally.counts.rejected += 1;
                answer.rejected += 1;
                continue;
            }
            let day = row.time.div_euclid(86_400_000_000_000).clamp(0, i64::from(u32::MAX)) as u32;
            let arms = changed.days.entry(day).or_insert([Moments::new(); 2]);
            arms[row.arm as usize].push(row.pnl);
            tally.last_trade = tally.last_trade.max(Some(row.time));
            counted += 1;
        }
        answer.counted += counted;
        counted > 0
    }
}

fn put_late(bytes: &mut Vec<u8>, row: &Row) {
    bytes.extend_from_slice(&row.id.to_le_bytes());
    bytes.extend_from_slice(&row.time.to_le_bytes());
    bytes.extend_from_slice(&row.pnl.to_bits().to_le_bytes());
    bytes.push(row.arm as u8);
}

/// A sorted run of ids, behind the time of the newest trade of it.
fn run_to_bytes(newest: i64, ids: &[u128]) -> Vec<u8> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut bytes = Vec::with_capacity(8 + 16 * sorted.len());
    bytes.extend_from_slice(&newest.to_le_bytes());
    sorted.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
    bytes
}

/// What was written; what is cut off is left out.
fn run_of(bytes: &[u8]) -> Option<(i64, impl Iterator<Item = u128> + '_)> {
    let (newest, ids) = bytes.split_first_chunk::<8>()?;
    let ids = ids.chunks_exact(16).map(|id| {
        let mut whole = [0; 16];
        whole.copy_from_slice(id);
        u128::from_le_bytes(whole)
    });
    Some((i64::from_le_bytes(*newest), ids))
}

fn unreadable(why: &str) -> Error {
    Error::internal("STORAGE_RECORD_UNREADABLE", format!("a tally of trades can't be read: {why}"))
}
