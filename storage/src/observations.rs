//! The file with the observations: sketches by hour, raw columns, and how far their judgement is. All that it holds is
//! bytes of the statistics' own making; here they are found again.
//!
//! It is a file of its own because it is written to all the time: a writer of the agent's state never waits for it, and
//! a disk that it fills, or damage to it, leaves the state alone. Its writes need no intent: the one entry of a stream
//! in the operation log is in the state.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::engine::{Engine, Manner};
use crate::error::{OpenError, StorageError};
use crate::record::check_name;
use crate::schema::observations::{
    CALIBRATIONS, CANDIDATES, COLUMN_BYTES, COLUMNS, HOURS, JUDGED_ROW, OBSERVATIONS, OPERATIONS,
    PRODUCERS, RAW, RAW_BYTES_ROW, SCHEMA, WATCHES,
};
use crate::store::Compaction;
use crate::view::{Sink, Source};

/// The open file.
#[derive(Debug)]
pub struct Observations {
    engine: Engine,
}

/// How far a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The greatest sequence that is durable.
    pub sequence: u64,
    /// When it came, in milliseconds since 1970.
    pub at_millis: i64,
}

/// A window that was as bad as few are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateRow {
    /// When it began, in seconds since 1970.
    pub at: i64,
    /// The operation.
    pub operation: u32,
    /// Which quantile.
    pub quantile: u8,
    /// What is known of it.
    pub bytes: Vec<u8>,
}

impl Observations {
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
        f: impl FnOnce(&ObservationsReading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.reading(|tx| f(&ObservationsReading::new(tx, failed)))
    }

    /// Runs a write transaction: durable on return, on `Err` nothing is written.
    pub fn write<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&ObservationsWriting<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = self.engine.failed();
        self.engine.transact(|tx| f(&ObservationsWriting::new(tx, failed)))
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

/// Reads observations.
#[derive(Clone, Copy)]
pub struct ObservationsReading<'t> {
    source: Source<'t>,
}

impl<'t> ObservationsReading<'t> {
    fn new(transaction: &'t ReadTransaction, failed: &'t AtomicBool) -> Self {
        Self { source: Source::new(transaction, failed) }
    }

    /// Every operation with its number, by name.
    pub fn operations(&self) -> Result<Vec<(String, u32)>, StorageError> {
        let view = self.source.view(OPERATIONS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().to_owned(), value.value()))
        });
        rows.collect()
    }

    /// How far each producer is.
    pub fn producers(&self) -> Result<Vec<(String, Producer)>, StorageError> {
        let view = self.source.view(PRODUCERS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            let (sequence, at_millis) = value.value();
            Ok((key.value().to_owned(), Producer { sequence, at_millis }))
        });
        rows.collect()
    }

    /// The sketch of an hour.
    pub fn hour(&self, operation: u32, hour: u32) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(HOURS)?;
        Ok(view.get((operation, hour))?.map(|bytes| bytes.value().to_vec()))
    }

    /// Visits the sketches of an operation's hours from `from` to before `until`, in order.
    pub fn hours<E: From<StorageError>>(
        &self,
        operation: u32,
        from: u32,
        until: u32,
        mut visit: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let view = self.source.view(HOURS)?;
        for row in view.range((operation, from)..(operation, until.max(from)))? {
            let (key, value) = row?;
            visit(key.value().1, value.value())?;
        }
        Ok(())
    }

    /// The last hour of an operation that has a sketch.
    pub fn last_hour(&self, operation: u32) -> Result<Option<u32>, StorageError> {
        let view = self.source.view(HOURS)?;
        let last = view.range((operation, 0)..=(operation, u32::MAX))?.next_back().transpose()?;
        Ok(last.map(|(key, _)| key.value().1))
    }

    /// Visits the raw commits from this sequence on, oldest first, until `visit` says `false`.
    pub fn raw<E: From<StorageError>>(
        &self,
        from: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let view = self.source.view(RAW)?;
        for row in view.range(from..)? {
            let (key, value) = row?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// Visits the raw commits, newest first, until `visit` says `false`.
    pub fn raw_backwards<E: From<StorageError>>(
        &self,
        mut visit: impl FnMut(u64, &[u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let view = self.source.view(RAW)?;
        for row in view.all()?.rev() {
            let (key, value) = row?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// The sequence that the next raw commit gets.
    pub fn next_raw(&self) -> Result<u64, StorageError> {
        let view = self.source.view(RAW)?;
        let last = view.all()?.next_back().transpose()?;
        Ok(last.map_or(0, |(key, _)| key.value().saturating_add(1)))
    }

    /// The pieces of an operation's columns of one hour, in order.
    pub fn columns(&self, operation: u32, hour: u32) -> Result<Vec<Vec<u8>>, StorageError> {
        let view = self.source.view(COLUMNS)?;
        let range = (operation, hour, 0)..=(operation, hour, u32::MAX);
        let rows = view.range(range)?.map(|row| Ok(row?.1.value().to_vec()));
        rows.collect()
    }

    /// The hours of which there are columns, oldest first, with the operation and the bytes of each.
    pub fn column_hours(&self) -> Result<Vec<(u32, u32, u64)>, StorageError> {
        let view = self.source.view(COLUMN_BYTES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            let (hour, operation) = key.value();
            Ok((operation, hour, value.value()))
        });
        rows.collect()
    }

    /// Bytes of an operation's columns of one hour.
    pub fn column_bytes(&self, operation: u32, hour: u32) -> Result<u64, StorageError> {
        let view = self.source.view(COLUMN_BYTES)?;
        Ok(view.get((hour, operation))?.map_or(0, |bytes| bytes.value()))
    }

    /// Bytes of raw commits and columns.
    pub fn raw_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.row(RAW_BYTES_ROW)?.map_or(0, u64::from_le_bytes))
    }

    /// Windows that began before then are judged, in seconds since 1970.
    pub fn judged(&self) -> Result<Option<i64>, StorageError> {
        Ok(self.row(JUDGED_ROW)?.map(i64::from_le_bytes))
    }

    fn row(&self, name: &str) -> Result<Option<[u8; 8]>, StorageError> {
        let view = self.source.view(OBSERVATIONS)?;
        let row = view.get(name)?;
        Ok(row.and_then(|row| row.value().try_into().ok()))
    }

    /// The windows that were judged in an hour of the week.
    pub fn calibration(&self, operation: u32, hour: u8) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(CALIBRATIONS)?;
        Ok(view.get((operation, hour))?.map(|bytes| bytes.value().to_vec()))
    }

    /// How far the CUSUMs of each operation are.
    pub fn watches(&self) -> Result<Vec<(u32, Vec<u8>)>, StorageError> {
        let view = self.source.view(WATCHES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value(), value.value().to_vec()))
        });
        rows.collect()
    }

    /// At most `limit` candidates, newest first; with an `operation` only those of it.
    pub fn candidates(
        &self,
        operation: Option<u32>,
        limit: usize,
    ) -> Result<Vec<CandidateRow>, StorageError> {
        let view = self.source.view(CANDIDATES)?;
        let mut found = Vec::new();
        for row in view.all()?.rev() {
            if found.len() >= limit {
                break;
            }
            let (key, value) = row?;
            let (at, id, quantile) = key.value();
            if operation.is_none_or(|operation| operation == id) {
                let bytes = value.value().to_vec();
                found.push(CandidateRow { at, operation: id, quantile, bytes });
            }
        }
        Ok(found)
    }
}

/// Writes observations. It reads its own writes.
#[derive(Clone, Copy)]
pub struct ObservationsWriting<'t> {
    reading: ObservationsReading<'t>,
    sink: Sink<'t>,
}

impl<'t> std::ops::Deref for ObservationsWriting<'t> {
    type Target = ObservationsReading<'t>;

    fn deref(&self) -> &ObservationsReading<'t> {
        &self.reading
    }
}

impl<'t> ObservationsWriting<'t> {
    fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: ObservationsReading { source: sink.source() }, sink }
    }

    /// Gives an operation its number.
    pub fn put_operation(&self, name: &str, number: u32) -> Result<(), StorageError> {
        check_name("operations", name)?;
        self.sink.edit(OPERATIONS)?.insert(name, number)
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

    /// Writes sketches by operation and hour.
    pub fn put_hours<'a>(
        &self,
        sketches: impl Iterator<Item = (u32, u32, &'a [u8])>,
    ) -> Result<(), StorageError> {
        let mut table = self.sink.edit(HOURS)?;
        for (operation, hour, bytes) in sketches {
            table.insert((operation, hour), bytes)?;
        }
        Ok(())
    }

    /// Forgets an operation's hours before this one; how many.
    pub fn expire_hours(&self, operation: u32, before: u32) -> Result<u64, StorageError> {
        self.sink.edit(HOURS)?.remove_range((operation, 0)..(operation, before))
    }

    /// Appends raw commits.
    pub fn append_raw<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<(), StorageError> {
        let mut next = self.reading.next_raw()?;
        let mut bytes = self.reading.raw_bytes()?;
        {
            let mut table = self.sink.edit(RAW)?;
            for row in rows {
                table.insert(next, row)?;
                next = next.saturating_add(1);
                bytes = bytes.saturating_add(row.len() as u64);
            }
        }
        self.put_row(RAW_BYTES_ROW, bytes.to_le_bytes())
    }

    /// Forgets raw commits up to and with this sequence; their bytes.
    pub fn remove_raw(&self, last: u64) -> Result<u64, StorageError> {
        let mut bytes = 0;
        self.reading.raw(0, |sequence, row| {
            bytes += if sequence <= last { row.len() as u64 } else { 0 };
            Ok::<_, StorageError>(sequence < last)
        })?;
        self.sink.edit(RAW)?.remove_range(..=last)?;
        self.shrink(bytes)?;
        Ok(bytes)
    }

    /// Appends pieces to an operation's columns of one hour.
    pub fn append_columns<'a>(
        &self,
        operation: u32,
        hour: u32,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), StorageError> {
        let mut added = 0;
        {
            let mut next = {
                let view = self.reading.source.view(COLUMNS)?;
                let range = (operation, hour, 0)..=(operation, hour, u32::MAX);
                let last = view.range(range)?.next_back().transpose()?;
                last.map_or(0, |(key, _)| key.value().2.saturating_add(1))
            };
            let mut table = self.sink.edit(COLUMNS)?;
            for piece in pieces {
                table.insert((operation, hour, next), piece)?;
                next = next.saturating_add(1);
                added += piece.len() as u64;
            }
        }
        let of_hour = self.reading.column_bytes(operation, hour)?.saturating_add(added);
        self.sink.edit(COLUMN_BYTES)?.insert((hour, operation), of_hour)?;
        let bytes = self.reading.raw_bytes()?.saturating_add(added);
        self.put_row(RAW_BYTES_ROW, bytes.to_le_bytes())
    }

    /// Forgets an operation's columns of one hour; their bytes.
    pub fn remove_columns(&self, operation: u32, hour: u32) -> Result<u64, StorageError> {
        let bytes = self.reading.column_bytes(operation, hour)?;
        let range = (operation, hour, 0)..=(operation, hour, u32::MAX);
        self.sink.edit(COLUMNS)?.remove_range(range)?;
        self.sink.edit(COLUMN_BYTES)?.remove((hour, operation))?;
        self.shrink(bytes)?;
        Ok(bytes)
    }

    fn shrink(&self, by: u64) -> Result<(), StorageError> {
        let bytes = self.reading.raw_bytes()?.saturating_sub(by);
        self.put_row(RAW_BYTES_ROW, bytes.to_le_bytes())
    }

    /// Notes that windows that began before then are judged, in seconds since 1970.
    pub fn put_judged(&self, until: i64) -> Result<(), StorageError> {
        self.put_row(JUDGED_ROW, until.to_le_bytes())
    }

    fn put_row(&self, name: &str, value: [u8; 8]) -> Result<(), StorageError> {
        self.sink.edit(OBSERVATIONS)?.insert(name, value.as_slice())
    }

    /// Writes the windows that were judged in an hour of the week.
    pub fn put_calibration(
        &self,
        operation: u32,
        hour: u8,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.sink.edit(CALIBRATIONS)?.insert((operation, hour), bytes)
    }

    /// Forgets all windows of an operation that were judged.
    pub fn forget_calibrations(&self, operation: u32) -> Result<u64, StorageError> {
        self.sink.edit(CALIBRATIONS)?.remove_range((operation, 0)..=(operation, u8::MAX))
    }

    /// Writes how far the CUSUMs of an operation are.
    pub fn put_watch(&self, operation: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(WATCHES)?.insert(operation, bytes)
    }

    /// Notes a candidate.
    pub fn put_candidate(
        &self,
        (at, operation, quantile): (i64, u32, u8),
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.sink.edit(CANDIDATES)?.insert((at, operation, quantile), bytes)
    }

    /// Forgets candidates of windows that began before then; how many.
    pub fn expire_candidates(&self, before: i64) -> Result<u64, StorageError> {
        self.sink.edit(CANDIDATES)?.remove_range((i64::MIN, 0, 0)..(before, 0, 0))
    }

    /// Forgets an operation: its sketches, columns, calibration and number.
    pub fn forget_operation(&self, name: &str, number: u32) -> Result<(), StorageError> {
        self.expire_hours(number, u32::MAX)?;
        self.forget_calibrations(number)?;
        self.sink.edit(WATCHES)?.remove(number)?;
        let hours = self.reading.column_hours()?;
        for (_, hour, _) in hours.into_iter().filter(|it| it.0 == number) {
            self.remove_columns(number, hour)?;
        }
        self.sink.edit(OPERATIONS)?.remove(name).map(drop)
    }
}
