//! The file with the trades of experiments: what was tallied, the ids that were there, and how far each producer is. As the
//! file of observations it is apart from the agent's state, since it is written to all the time.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::engine::{Engine, Manner};
use crate::error::{OpenError, StorageError};
use crate::observations::Producer;
use crate::record::check_name;
use crate::schema::trades::{DAYS, IDS, LATE, PRODUCERS, SCHEMA, TALLIES, UNITS};
use crate::store::Compaction;
use crate::view::{Sink, Source};

/// The open file.
#[derive(Debug)]
pub struct Trades {
    engine: Engine,
}

impl Trades {
    /// Opens the file; creates it where there is none, see [`crate::Store::open`].
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        Engine::open(path, cache_bytes, &SCHEMA, Manner { reserved: false, seals: true })
            .map(|engine| Self { engine })
    }

    /// The file's length in bytes; 0 if it can't be found out.
    pub fn file_bytes(&self) -> u64 {
        self.engine.file_bytes()
    }

    /// Reads one consistent state. Does not wait for writers.
    pub fn read<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&TradesReading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.reading(|tx| f(&TradesReading::new(tx, failed)))
    }

    /// Runs a write transaction: durable on return, on `Err` nothing is written.
    pub fn write<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&TradesWriting<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.transact(|tx| f(&TradesWriting::new(tx, failed)))
    }

    /// Closes the file, so that the next opening need not prove it; waits for whoever reads or writes. Who comes later
    /// opens it again. For the end of a process, whose threads may hold this for longer than it lasts.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Rewrites the file without the space that it no longer needs, see [`crate::Store::compact`].
    pub fn compact(&self) -> Result<Compaction, StorageError> {
        self.engine.compact()
    }
}

/// Reads trades.
#[derive(Clone, Copy)]
pub struct TradesReading<'t> {
    source: Source<'t>,
}

impl<'t> TradesReading<'t> {
    fn new(transaction: &'t ReadTransaction, failed: &'t AtomicBool) -> Self {
        Self { source: Source::new(transaction, failed) }
    }

    /// Every producer with how far it is.
    pub fn producers(&self) -> Result<Vec<(String, Producer)>, StorageError> {
        let view = self.source.view(PRODUCERS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            let (sequence, at_millis) = value.value();
            Ok((key.value().to_owned(), Producer { sequence, at_millis }))
        });
        rows.collect()
    }

    /// What was tallied of each experiment.
    pub fn tallies(&self) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let view = self.source.view(TALLIES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value(), value.value().to_vec()))
        });
        rows.collect()
    }

    /// What was tallied of an experiment day by day, oldest first.
    pub fn days(&self, experiment: u64) -> Result<Vec<(u32, Vec<u8>)>, StorageError> {
        let view = self.source.view(DAYS)?;
        let rows = view.range((experiment, 0)..=(experiment, u32::MAX))?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().1, value.value().to_vec()))
        });
        rows.collect()
    }

    /// What was tallied of an experiment on one day.
    pub fn day(&self, experiment: u64, day: u32) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(DAYS)?;
        Ok(view.get((experiment, day))?.map(|row| row.value().to_vec()))
    }

    /// Visits the runs of ids of an experiment, in the order in which they came.
    pub fn ids<E: From<StorageError>>(
        &self,
        experiment: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let view = self.source.view(IDS)?;
        for row in view.range((experiment, 0)..=(experiment, u64::MAX))? {
            let (key, value) = row?;
            visit(key.value().1, value.value())?;
        }
        Ok(())
    }

    /// The units of an experiment that had trades, each with its arm.
    pub fn units(&self, experiment: u64) -> Result<Vec<(u64, u8)>, StorageError> {
        let view = self.source.view(UNITS)?;
        let rows = view.range((experiment, 0)..=(experiment, u64::MAX))?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().1, value.value()))
        });
        rows.collect()
    }

    /// How many late trades of an experiment are kept, in pieces.
    pub fn late(&self, experiment: u64) -> Result<Vec<Vec<u8>>, StorageError> {
        let view = self.source.view(LATE)?;
        let range = (experiment, 0)..=(experiment, u64::MAX);
        let rows = view.range(range)?.map(|row| Ok(row?.1.value().to_vec()));
        rows.collect()
    }
}

/// Writes trades. It reads its own writes.
#[derive(Clone, Copy)]
pub struct TradesWriting<'t> {
    reading: TradesReading<'t>,
    sink: Sink<'t>,
}

impl<'t> std::ops::Deref for TradesWriting<'t> {
    type Target = TradesReading<'t>;

    fn deref(&self) -> &TradesReading<'t> {
        &self.reading
    }
}

impl<'t> TradesWriting<'t> {
    fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: TradesReading { source: sink.source() }, sink }
    }

    /// Writes how far a producer is.
    pub fn put_producer(&self, name: &str, producer: Producer) -> Result<(), StorageError> {
        check_name("producers", name)?;
        self.sink.edit(PRODUCERS)?.insert(name, (producer.sequence, producer.at_millis))
    }

    /// Forgets a producer.
    pub fn forget_producer(&self, name: &str) -> Result<bool, StorageError> {
        self.sink.edit(PRODUCERS)?.remove(name)
    }

    /// Writes what was tallied of an experiment.
    pub fn put_tally(&self, experiment: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(TALLIES)?.insert(experiment, bytes)
    }

    /// Writes what was tallied of an experiment on one day.
    pub fn put_day(&self, experiment: u64, day: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(DAYS)?.insert((experiment, day), bytes)
    }

    /// Appends a run of ids of an experiment.
    pub fn append_ids(&self, experiment: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let next = {
            let view = self.reading.source.view(IDS)?;
            let range = (experiment, 0)..=(experiment, u64::MAX);
            let last = view.range(range)?.next_back().transpose()?;
            last.map_or(0, |(key, _)| key.value().1.saturating_add(1))
        };
        self.sink.edit(IDS)?.insert((experiment, next), bytes)
    }

    /// Forgets a run of ids.
    pub fn remove_ids(&self, experiment: u64, run: u64) -> Result<bool, StorageError> {
        self.sink.edit(IDS)?.remove((experiment, run))
    }

    /// Writes the arm of a unit of an experiment.
    pub fn put_unit(&self, experiment: u64, unit: u64, arm: u8) -> Result<(), StorageError> {
        self.sink.edit(UNITS)?.insert((experiment, unit), arm)
    }

    /// Appends late trades of an experiment.
    pub fn append_late(&self, experiment: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let next = {
            let view = self.reading.source.view(LATE)?;
            let range = (experiment, 0)..=(experiment, u64::MAX);
            let last = view.range(range)?.next_back().transpose()?;
            last.map_or(0, |(key, _)| key.value().1.saturating_add(1))
        };
        self.sink.edit(LATE)?.insert((experiment, next), bytes)
    }

    /// Forgets the ids and units of an experiment; with its tally and its late trades where `all`.
    pub fn forget(&self, experiment: u64, all: bool) -> Result<(), StorageError> {
        let range = || (experiment, 0)..=(experiment, u64::MAX);
        self.sink.edit(IDS)?.remove_range(range())?;
        self.sink.edit(UNITS)?.remove_range(range())?;
        if all {
            self.sink.edit(LATE)?.remove_range(range())?;
            self.sink.edit(DAYS)?.remove_range((experiment, 0)..=(experiment, u32::MAX))?;
            self.sink.edit(TALLIES)?.remove(experiment)?;
        }
        Ok(())
    }
}
