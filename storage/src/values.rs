//! The file with the values of series, of which correlation matrices are calculated, and with what consumers report of a
//! matrix on trial. As the files of observations and of trades it is apart from the agent's state, since it is written to
//! all the time.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::engine::{Engine, Manner};
use crate::error::{OpenError, StorageError};
use crate::observations::Producer;
use crate::record::check_name;
use crate::schema::values::{
    BLOCKS, CONSUMERS, HOURS, NAMES, PRODUCERS, REVISIONS, SCHEMA, STAGES,
};
use crate::store::Compaction;
use crate::view::{Sink, Source};

/// The open file.
#[derive(Debug)]
pub struct Values {
    engine: Engine,
}

impl Values {
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
        f: impl FnOnce(&ValuesReading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.reading(|tx| f(&ValuesReading::new(tx, failed)))
    }

    /// Runs a write transaction: durable on return, on `Err` nothing is written.
    pub fn write<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&ValuesWriting<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.transact(|tx| f(&ValuesWriting::new(tx, failed)))
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

/// Reads values.
#[derive(Clone, Copy)]
pub struct ValuesReading<'t> {
    source: Source<'t>,
}

impl<'t> ValuesReading<'t> {
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

    /// Every series with its number.
    pub fn names(&self) -> Result<Vec<(String, u32)>, StorageError> {
        let view = self.source.view(NAMES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().to_owned(), value.value()))
        });
        rows.collect()
    }

    /// The values of one series in an hour since 1970.
    pub fn hour(&self, hour: u32, series: u32) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(HOURS)?;
        Ok(view.get((hour, series))?.map(|row| row.value().to_vec()))
    }

    /// Visits the values of all series in some hours, by hour and series.
    pub fn hours<E: From<StorageError>>(
        &self,
        hours: std::ops::RangeInclusive<u32>,
        mut visit: impl FnMut(u32, u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let view = self.source.view(HOURS)?;
        let range = (*hours.start(), 0)..=(*hours.end(), u32::MAX);
        for row in view.range(range)? {
            let (key, value) = row?;
            let (hour, series) = key.value();
            visit(hour, series, value.value())?;
        }
        Ok(())
    }

    /// The days since 1970 that have values, or had some lately, oldest first.
    pub fn days(&self) -> Result<Vec<u32>, StorageError> {
        let view = self.source.view(REVISIONS)?;
        let rows = view.all()?.map(|row| Ok(row?.0.value()));
        rows.collect()
    }

    /// How often the values of a day were changed.
    pub fn revision(&self, day: u32) -> Result<u64, StorageError> {
        let view = self.source.view(REVISIONS)?;
        Ok(view.get(day)?.map_or(0, |row| row.value()))
    }

    /// The sums of a day.
    pub fn block(&self, day: u32) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(BLOCKS)?;
        Ok(view.get(day)?.map(|row| row.value().to_vec()))
    }

    /// What was reported in each stage of a version, by its percent.
    pub fn stages(&self, version: u64) -> Result<Vec<(u32, Vec<u8>)>, StorageError> {
        let view = self.source.view(STAGES)?;
        let rows = view.range((version, 0)..=(version, u32::MAX))?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().1, value.value().to_vec()))
        });
        rows.collect()
    }

    /// What stands for the consumers that reported in a stage, each with its arm.
    pub fn consumers(&self, version: u64, stage: u32) -> Result<Vec<(u64, u8)>, StorageError> {
        let view = self.source.view(CONSUMERS)?;
        let range = (version, stage, 0)..=(version, stage, u64::MAX);
        let rows = view.range(range)?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().2, value.value()))
        });
        rows.collect()
    }
}

/// Writes values. It reads its own writes.
#[derive(Clone, Copy)]
pub struct ValuesWriting<'t> {
    reading: ValuesReading<'t>,
    sink: Sink<'t>,
}

impl<'t> std::ops::Deref for ValuesWriting<'t> {
    type Target = ValuesReading<'t>;

    fn deref(&self) -> &ValuesReading<'t> {
        &self.reading
    }
}

impl<'t> ValuesWriting<'t> {
    fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: ValuesReading { source: sink.source() }, sink }
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

    /// Writes the number of a series.
    pub fn put_name(&self, name: &str, number: u32) -> Result<(), StorageError> {
        check_name("names", name)?;
        self.sink.edit(NAMES)?.insert(name, number)
    }

    /// Forgets a series, of which there are no values any more.
    pub fn forget_name(&self, name: &str) -> Result<bool, StorageError> {
        self.sink.edit(NAMES)?.remove(name)
    }

    /// Writes the values of one series in an hour since 1970.
    pub fn put_hour(&self, hour: u32, series: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(HOURS)?.insert((hour, series), bytes)
    }

    /// Notes that the values of a day were changed.
    pub fn touch(&self, day: u32) -> Result<(), StorageError> {
        let next = self.reading.revision(day)?.wrapping_add(1);
        self.sink.edit(REVISIONS)?.insert(day, next)
    }

    /// Writes the sums of a day.
    pub fn put_block(&self, day: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(BLOCKS)?.insert(day, bytes)
    }

    /// Forgets the values and sums of all days before one.
    pub fn forget_before(&self, day: u32) -> Result<u64, StorageError> {
        let Some(last) = day.checked_sub(1) else { return Ok(0) };
        let hours = day.saturating_mul(24).saturating_sub(1);
        let gone = self.sink.edit(HOURS)?.remove_range((0, 0)..=(hours, u32::MAX))?;
        self.sink.edit(BLOCKS)?.remove_range(0..=last)?;
        self.sink.edit(REVISIONS)?.remove_range(0..=last)?;
        Ok(gone)
    }

    /// Writes what was reported in a stage of a version.
    pub fn put_stage(&self, version: u64, stage: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(STAGES)?.insert((version, stage), bytes)
    }

    /// Writes the arm of a consumer that reported in a stage.
    pub fn put_consumer(
        &self,
        (version, stage): (u64, u32),
        consumer: u64,
        arm: u8,
    ) -> Result<(), StorageError> {
        self.sink.edit(CONSUMERS)?.insert((version, stage, consumer), arm)
    }

    /// Forgets what was reported in one stage of a version, so that it can begin anew.
    pub fn forget_stage(&self, version: u64, stage: u32) -> Result<(), StorageError> {
        let consumers = (version, stage, 0)..=(version, stage, u64::MAX);
        self.sink.edit(CONSUMERS)?.remove_range(consumers)?;
        self.sink.edit(STAGES)?.remove((version, stage)).map(drop)
    }

    /// Forgets what was reported of all versions before one.
    pub fn forget_stages_before(&self, version: u64) -> Result<(), StorageError> {
        let Some(last) = version.checked_sub(1) else { return Ok(()) };
        let consumers = (0, 0, 0)..=(last, u32::MAX, u64::MAX);
        self.sink.edit(CONSUMERS)?.remove_range(consumers)?;
        self.sink.edit(STAGES)?.remove_range((0, 0)..=(last, u32::MAX)).map(drop)
    }
}
