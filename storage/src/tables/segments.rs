//! Log segments: what became of each piece of a log, from the live file to the archive.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode, pair};
use crate::schema::{SEGMENT_COUNTS, SEGMENT_TIMES, SEGMENT_TOTALS, SEGMENTS, SEGMENTS_UNFINISHED};
use crate::view::{Sink, Source};

mod record;

pub use record::{
    SegmentRecord, SegmentState, SegmentTotals, TakenHow, TakenPhase, TakenRecord, Waiting,
};

/// How many records `for_each` holds at once.
const PAGE: usize = 256;

/// The row of a segment in the index of times: last timestamp, sequence, first timestamp.
fn times(segment: &SegmentRecord) -> (i64, u64, i64) {
    let clamp = |at: Timestamp| {
        let nanoseconds = at.as_nanosecond();
        i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
    };
    let known = segment.first_at.zip(segment.last_at);
    let (first, last) =
        known.map_or((i64::MIN, i64::MAX), |(first, last)| (clamp(first), clamp(last)));
    (last, segment.sequence, first)
}

/// Reads segments.
#[derive(Clone, Copy)]
pub struct Segments<'t> {
    source: Source<'t>,
}

impl<'t> Segments<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// One segment.
    pub fn get(
        &self,
        log_type: &str,
        sequence: u64,
    ) -> Result<Option<SegmentRecord>, StorageError> {
        let view = self.source.view(SEGMENTS)?;
        let row = view.get((log_type, sequence))?;
        row.map(|row| decode(&pair(log_type, sequence), row.value())).transpose()
    }

    /// At most `limit` segments of one or all types, by type and sequence; with `after`, only
    /// those with a greater sequence.
    pub fn list(
        &self,
        log_type: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<SegmentRecord>, StorageError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let from = match (log_type, after) {
            (Some(log_type), Some(after)) => Some((log_type.to_owned(), after)),
            _ => None,
        };
        self.pages(log_type, from, |segment| {
            if after.is_none_or(|after| segment.sequence > after) {
                found.push(segment);
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// Calls `f` with each segment of one or all types, by type and sequence, until it breaks. `f`
    /// may use the transaction.
    pub fn for_each(
        &self,
        log_type: Option<&str>,
        f: impl FnMut(SegmentRecord) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.pages(log_type, None, f)
    }

    /// All segments that are not yet verified, by type and sequence; found by an index.
    pub fn unfinished(&self) -> Result<Vec<SegmentRecord>, StorageError> {
        let index = self.source.view(SEGMENTS_UNFINISHED)?;
        let view = self.source.view(SEGMENTS)?;
        let mut found = Vec::new();
        for row in index.all()? {
            let (key, _) = row?;
            let (log_type, sequence) = key.value();
            let key = pair(log_type, sequence);
            let Some(value) = view.get((log_type, sequence))? else {
                let key = key.to_string();
                return Err(StorageError::NotFound { table: SegmentRecord::TABLE, key });
            };
            found.push(decode(&key, value.value())?);
        }
        Ok(found)
    }

    /// The segments of a type with lines at `from` or later and before `until`, both in nanoseconds since 1970,
    /// and those whose times are not known; by sequence. Found by an index: what is read grows with what is
    /// found, and by some forty bytes for each segment behind `from`.
    pub fn within(
        &self,
        log_type: &str,
        from: i64,
        until: i64,
    ) -> Result<Vec<SegmentRecord>, StorageError> {
        let mut sequences = Vec::new();
        {
            let index = self.source.view(SEGMENT_TIMES)?;
            let view = self.source.view(SEGMENTS)?;
            if index.len()? == view.len()? {
                for row in index.range((log_type, from, 0)..=(log_type, i64::MAX, u64::MAX))? {
                    let (key, first) = row?;
                    if first.value() < until {
                        sequences.push(key.value().2);
                    }
                }
                sequences.sort_unstable();
                let mut found = Vec::with_capacity(sequences.len());
                for sequence in sequences {
                    if let Some(row) = view.get((log_type, sequence))? {
                        found.push(decode(&pair(log_type, sequence), row.value())?);
                    }
                }
                return Ok(found);
            }
        }
        // A file of an older version, until the first segment is written to it.
        let mut found = Vec::new();
        self.for_each(Some(log_type), |segment| {
            let (last, _, first) = times(&segment);
            if last >= from && first < until {
                found.push(segment);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// How many segments of one or all types are in each state; read from counters.
    pub fn counts(
        &self,
        log_type: Option<&str>,
    ) -> Result<BTreeMap<SegmentState, u64>, StorageError> {
        let view = self.source.view(SEGMENT_COUNTS)?;
        let mut counts = BTreeMap::new();
        for row in view.all()? {
            let (key, value) = row?;
            let (of, name) = key.value();
            if log_type.is_some_and(|log_type| log_type != of) {
                continue;
            }
            let Some(state) = SegmentState::ALL.into_iter().find(|state| state.name() == name)
            else {
                let key = format!("{of}/{name}");
                return Err(StorageError::record("segment_counts", &key, "unknown state".into()));
            };
            *counts.entry(state).or_default() += value.value();
        }
        Ok(counts)
    }

    /// What the archive holds of a type; read from a row that is kept up to date.
    pub fn totals(&self, log_type: &str) -> Result<SegmentTotals, StorageError> {
        if let Some(row) = self.source.view(SEGMENT_TOTALS)?.get(log_type)? {
            return decode(&log_type, row.value());
        }
        // None yet, or a file of an older version.
        let mut totals = SegmentTotals::default();
        self.for_each(Some(log_type), |segment| {
            totals.count(&segment);
            ControlFlow::Continue(())
        })?;
        Ok(totals)
    }

    /// Reads page by page, so that memory is bounded and no table is lent out while `f` runs.
    fn pages(
        &self,
        only: Option<&str>,
        after: Option<(String, u64)>,
        mut f: impl FnMut(SegmentRecord) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut from = match after {
            Some((log_type, after)) => match after.checked_add(1) {
                Some(from) => (log_type, from),
                None => return Ok(()),
            },
            None => (only.unwrap_or_default().to_owned(), 0),
        };
        loop {
            let page = self.page(only, (&from.0, from.1))?;
            let full = page.len() == PAGE;
            if let Some(last) = page.last().filter(|_| full) {
                from = match last.sequence.checked_add(1) {
                    Some(next) => (last.log_type.clone(), next),
                    // The least name that is greater.
                    None => (format!("{}\0", last.log_type), 0),
                };
            }
            for segment in page {
                if f(segment).is_break() {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn page(
        &self,
        only: Option<&str>,
        from: (&str, u64),
    ) -> Result<Vec<SegmentRecord>, StorageError> {
        let view = self.source.view(SEGMENTS)?;
        let mut page = Vec::new();
        for row in view.range(from..)?.take(PAGE) {
            let (key, value) = row?;
            let (log_type, sequence) = key.value();
            if only.is_some_and(|only| only != log_type) {
                break;
            }
            page.push(decode(&pair(log_type, sequence), value.value())?);
        }
        Ok(page)
    }
}

/// Writes segments.
#[derive(Clone, Copy)]
pub struct SegmentsWriting<'t> {
    reading: Segments<'t>,
    sink: Sink<'t>,
}

reads_as!(SegmentsWriting => Segments, reading);

impl<'t> SegmentsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Segments::new(sink.source()), sink }
    }

    /// Writes or replaces a segment.
    pub fn put(&self, segment: &SegmentRecord) -> Result<(), StorageError> {
        let (log_type, sequence) = (segment.log_type.as_str(), segment.sequence);
        check_name(SegmentRecord::TABLE, log_type)?;
        let old = self.get(log_type, sequence)?;
        let totals = self.totals(log_type)?;
        let bytes = encode(&pair(log_type, sequence), segment)?;
        self.sink.edit(SEGMENTS)?.insert((log_type, sequence), bytes.as_slice())?;
        self.set_totals(log_type, totals, old.as_ref(), Some(segment))?;
        self.set_times(log_type, old.as_ref(), Some(segment))?;
        self.moved(log_type, sequence, old.map(|old| old.state), Some(segment.state))
    }

    /// Deletes a segment; false if there was none.
    pub fn delete(&self, log_type: &str, sequence: u64) -> Result<bool, StorageError> {
        let Some(old) = self.get(log_type, sequence)? else { return Ok(false) };
        let totals = self.totals(log_type)?;
        self.sink.edit(SEGMENTS)?.remove((log_type, sequence))?;
        self.set_totals(log_type, totals, Some(&old), None)?;
        self.set_times(log_type, Some(&old), None)?;
        self.moved(log_type, sequence, Some(old.state), None)?;
        Ok(true)
    }

    /// Brings the index of times up to a change; makes it where a file of an older version has none.
    fn set_times(
        &self,
        log_type: &str,
        old: Option<&SegmentRecord>,
        new: Option<&SegmentRecord>,
    ) -> Result<(), StorageError> {
        {
            let mut index = self.sink.edit(SEGMENT_TIMES)?;
            if let Some(old) = old {
                let (last, sequence, _) = times(old);
                index.remove((log_type, last, sequence))?;
            }
            if let Some(new) = new {
                let (last, sequence, first) = times(new);
                index.insert((log_type, last, sequence), first)?;
            }
        }
        let source = self.sink.source();
        if source.view(SEGMENT_TIMES)?.len()? == source.view(SEGMENTS)?.len()? {
            return Ok(());
        }
        let mut rows = Vec::new();
        self.for_each(None, |segment| {
            rows.push((segment.log_type.clone(), times(&segment)));
            ControlFlow::Continue(())
        })?;
        let mut index = self.sink.edit(SEGMENT_TIMES)?;
        for (log_type, (last, sequence, first)) in &rows {
            index.insert((log_type.as_str(), *last, *sequence), *first)?;
        }
        Ok(())
    }

    fn set_totals(
        &self,
        log_type: &str,
        mut totals: SegmentTotals,
        old: Option<&SegmentRecord>,
        new: Option<&SegmentRecord>,
    ) -> Result<(), StorageError> {
        if let Some(old) = old {
            totals.discount(old);
        }
        if let Some(new) = new {
            totals.count(new);
        }
        let bytes = encode(&log_type, &totals)?;
        self.sink.edit(SEGMENT_TOTALS)?.insert(log_type, bytes.as_slice())
    }

    /// Brings the index and the counters up to a change of state.
    fn moved(
        &self,
        log_type: &str,
        sequence: u64,
        old: Option<SegmentState>,
        new: Option<SegmentState>,
    ) -> Result<(), StorageError> {
        let mut index = self.sink.edit(SEGMENTS_UNFINISHED)?;
        if new.is_some_and(SegmentState::is_unfinished) {
            index.insert((log_type, sequence), ())?;
        } else {
            index.remove((log_type, sequence))?;
        }
        if old == new {
            return Ok(());
        }
        let mut counts = self.sink.edit(SEGMENT_COUNTS)?;
        if let Some(old) = old {
            let key = (log_type, old.name());
            let count = counts.get(key)?.map_or(0, |count| count.value());
            match count.saturating_sub(1) {
                0 => drop(counts.remove(key)?),
                less => counts.insert(key, less)?,
            }
        }
        if let Some(new) = new {
            let key = (log_type, new.name());
            let count = counts.get(key)?.map_or(0, |count| count.value());
            counts.insert(key, count + 1)?;
        }
        Ok(())
    }
}
