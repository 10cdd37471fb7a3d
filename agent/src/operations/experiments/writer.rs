//! The one writer of trades: a thread that commits batches in groups and answers each once it is durable, as that of
//! observations does. Tallies, looks, ids and how far each producer is are one commit. What a look ends is ended in the
//! agent's state before the batch is answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use genesis_storage::{ExperimentRecord, Trades, TradesReading};
use tokio::sync::{mpsc, oneshot};

use super::kept::{Changed, Ids, Kept, UNREADABLE, run_of, unreadable};
use super::prepare::Prepared;
use super::{Experiments, plan};
use crate::batches::{Producers, Stream, broken};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// So many batches wait for the disk at most.
pub const WAITING: usize = 64;
/// The code of batches for whose ids there is no room.
const TOO_MANY: &str = "TOO_MANY_TRADES";
/// A group has at most so many trades.
const GROUP: usize = 500_000;

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
    /// To forget all of an experiment that has ended.
    Forget(u64, oneshot::Sender<Result<()>>),
    /// To see whether the disk takes something.
    Probe(oneshot::Sender<Result<()>>),
}

/// The writer's own state. What it has in memory is what is on the disk.
pub(super) struct Writer {
    /// Gone with whoever sends, so that the thread ends, and closes the file.
    pub(super) experiments: Weak<Experiments>,
    pub(super) store: Arc<Trades>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) producers: Producers,
    pub(super) kept: HashMap<u64, Kept>,
    /// Those that can't be read, and why.
    pub(super) unreadable: BTreeMap<u64, String>,
    /// A commit failed, and whether it is on the disk all the same shows only there.
    pub(super) stale: bool,
}

/// What became of each batch of a group, and which experiments it changed.
type Committed = (Vec<Result<Answer>>, Vec<u64>);

impl Writer {
    /// Writes until nobody sends any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(first) = waiting.blocking_recv()
            && let Some(experiments) = self.experiments.upgrade()
        {
            let (mut next, mut group, mut rows) = (Some(first), Vec::new(), 0);
            while let Some(Order::Batch(work)) = next {
                let of_batch = work.prepared.shares.values();
                rows += of_batch.map(|it| it.rows.len() + it.late.len()).sum::<usize>();
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
                Some(Order::Forget(number, answer)) => {
                    self.kept.remove(&number);
                    self.unreadable.remove(&number);
                    let forgotten = self.store.write(|it| it.forget(number, true));
                    let _ = answer.send(forgotten.map_err(Error::from));
                }
                Some(Order::Probe(answer)) => {
                    let probed = self.probe();
                    if probed.is_ok() {
                        experiments.failing(None);
                    }
                    let _ = answer.send(probed);
                }
                Some(Order::Batch(_)) | None => {}
            }
        }
    }

    /// Its first commit writes its tally: where there is none, it is that of no trades.
    fn begin(&mut self, record: Arc<ExperimentRecord>) -> Result<()> {
        let number = record.number;
        let kept = Kept::begin(record).map_err(|why| unreadable(&why))?;
        self.kept.insert(number, kept);
        Ok(())
    }

    /// Writes something that is there already.
    fn probe(&self) -> Result<()> {
        let there = self.kept.values().find(|kept| !kept.new);
        self.store.write(|writing| match there {
            Some(kept) => Ok(writing.put_tally(kept.record.number, &kept.tally.to_bytes())?),
            None => Ok(writing.forget_producer("-").map(drop)?),
        })
    }

    /// Of what has ended the ids are of no use any more. It has ended also where they can't be forgotten.
    fn end(&mut self, number: u64) -> Result<()> {
        if let Some(kept) = self.kept.get_mut(&number) {
            kept.close();
        }
        self.store.write(|writing| writing.forget(number, false).map_err(Error::from))
    }

    /// Forgets runs of ids whose trades would be late by now; how many.
    fn keep_small(&mut self, oldest: i64) -> Result<u64> {
        let mut gone = 0;
        for (number, kept) in &mut self.kept {
            let over = kept.tally.ended.is_some();
            let (mut old, mut ids, mut floor) = (Vec::new(), Ids::default(), kept.tally.floor);
            self.store.read(|reading| {
                reading.ids(*number, |run, bytes| {
                    match run_of(bytes) {
                        Some((newest, of_run)) if newest >= oldest && !over => ids.extend(of_run),
                        Some((newest, _)) => {
                            floor = floor.max(Some(newest));
                            old.push(run);
                        }
                        None => old.push(run),
                    }
                    Ok::<_, Error>(())
                })
            })?;
            if old.is_empty() || kept.new {
                continue;
            }
            // Whatever the clock said and was configured: what may have been there does not count again.
            let before = std::mem::replace(&mut kept.tally.floor, floor);
            let tally = kept.tally.to_bytes();
            let written = self.store.write(|writing| {
                for run in &old {
                    writing.remove_ids(*number, *run)?;
                }
                Ok::<_, Error>(writing.put_tally(*number, &tally)?)
            });
            if let Err(error) = written {
                kept.tally.floor = before;
                return Err(error);
            }
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
                experiments.failing(Some((error.code, &text)));
                for answer in answers {
                    let told = Error::new(error.kind, error.code, text.clone());
                    let _ = answer.send(Err(told));
                }
            }
            Ok((told, changed)) => {
                let full = told.iter().filter_map(|it| it.as_ref().err());
                let full = full.into_iter().find(|error| error.code == TOO_MANY);
                // A group of refused batches alone says nothing of the disk.
                if full.is_some() || told.iter().any(Result::is_ok) {
                    experiments.failing(full.map(|error| (error.code, error.message.as_str())));
                }
                let tallies = changed
                    .iter()
                    .filter_map(|number| Some((*number, self.kept.get(number)?.tally.clone())));
                experiments.took(tallies.collect(), &told);
                let ended: Vec<u64> =
                    told.iter().flatten().flat_map(|it| it.ended.clone()).collect();
                for number in ended {
                    // What can't be ended now is ended by the loop that looks for such.
                    let ending = experiments.settle(number);
                    let ended = self.runtime.block_on(ending).and_then(|()| self.end(number));
                    if let Err(error) = ended {
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
            // A commit that failed may be there all the same, with what it decided.
            experiments.reloaded(self);
        }
        let most = experiments.config.load().ids;
        let mut ids: usize = self.kept.values().map(|kept| kept.ids.len()).sum();
        let mut changes: BTreeMap<u64, Changed> = BTreeMap::new();
        let mut told = Vec::with_capacity(batches.len());
        self.producers.begin();
        for (batch, stream) in batches {
            if stream.load(Ordering::Relaxed) {
                told.push(Err(broken(batch.sequence)));
                continue;
            }
            let refused = batch.shares.keys().find_map(|number| self.unreadable.get(number));
            let refused = refused.map(|why| Error::internal(UNREADABLE, why.clone()));
            ids += batch.shares.values().map(|share| share.rows.len()).sum::<usize>();
            let refused = refused.or_else(|| (ids > most).then(|| self.too_many(most)));
            if let Some(error) = refused {
                stream.store(true, Ordering::Relaxed);
                told.push(Err(error));
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
                if let Some(kept) = self.kept.get(number) {
                    kept.put(writing, changed)?;
                }
            }
            #[cfg(test)]
            if experiments.broken.load(Ordering::Relaxed) {
                return Err(Error::unavailable("STORAGE_FAILED", "a commit that fails"));
            }
            Ok::<_, Error>(())
        });
        // What was changed in memory is not on the disk.
        written.inspect_err(|_| self.stale = true)?;
        self.producers.end();
        for number in changes.keys() {
            if let Some(kept) = self.kept.get_mut(number) {
                kept.new = false;
            }
        }
        Ok((told, changes.into_keys().collect()))
    }

    /// Which experiment has the most ids tells what to do.
    fn too_many(&self, most: usize) -> Error {
        let largest = self.kept.values().max_by_key(|kept| kept.ids.len());
        let (id, ids) = largest
            .map_or_else(Default::default, |kept| (plan::id(kept.record.number), kept.ids.len()));
        let message = format!(
            "{most} ids of trades are kept at most ([experiments] max_ids), {ids} of them of {id}: conclude it, or shorten dedup_retention"
        );
        Error::unavailable(TOO_MANY, message)
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
            let counted = kept.take(share, changed, &mut answer);
            if counted && kept.record.owner == host && kept.look(at_millis) {
                answer.ended.push(*number);
            }
        }
        answer
    }

    /// Takes over what is on the disk.
    fn load(&mut self, known: &BTreeMap<u64, Arc<ExperimentRecord>>) -> Result<()> {
        let loaded = self
            .store
            .read(|reading| Ok::<_, Error>((reading.producers()?, load(reading, known)?)))?;
        let (producers, (kept, unreadable)) = loaded;
        self.producers = Producers::new(producers);
        (self.kept, self.unreadable) = (kept, unreadable);
        Ok(())
    }
}

/// Those that can be read, and why others can't.
pub(super) type Loaded = (HashMap<u64, Kept>, BTreeMap<u64, String>);

/// What is on the disk of the experiments that are known. One that can't be read keeps no other from going on.
///
/// # Errors
/// `STORAGE_FAILED`.
pub(super) fn load(
    reading: &TradesReading<'_>,
    known: &BTreeMap<u64, Arc<ExperimentRecord>>,
) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let written: BTreeMap<u64, Vec<u8>> = reading.tallies()?.into_iter().collect();
    for (number, record) in known {
        match Kept::load(reading, record, written.get(number).map(Vec::as_slice)) {
            Ok(kept) => drop(loaded.0.insert(*number, kept)),
            Err(error) if error.code == UNREADABLE => {
                tracing::error!(error = error.chain(), number, "an experiment can't go on");
                loaded.1.insert(*number, error.message);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(loaded)
}
