//! Time series: points by series and time.

use jiff::Timestamp;

use crate::error::StorageError;
use crate::record::{check_name, pair};
use crate::schema::SERIES;
use crate::view::{Sink, Source};

const TABLE: &str = "series";

/// Reads series.
#[derive(Clone, Copy)]
pub struct Series<'t> {
    source: Source<'t>,
}

impl<'t> Series<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` points from `from` to before `until`, in order of time.
    pub fn range(
        &self,
        series: &str,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, f64)>, StorageError> {
        let (from, until) = (from.as_nanosecond(), until.as_nanosecond());
        if from >= until {
            return Ok(Vec::new());
        }
        let view = self.source.view(SERIES)?;
        let rows = view.range((series, from)..(series, until))?.take(limit);
        rows.map(|row| {
            let (key, value) = row?;
            let nanoseconds = key.value().1;
            let at = Timestamp::from_nanosecond(nanoseconds).map_err(|error| {
                StorageError::record(TABLE, &pair(series, nanoseconds), Box::new(error))
            })?;
            Ok((at, value.value()))
        })
        .collect()
    }
}

/// Writes points; one that has the time of an older one replaces it.
pub(crate) fn append(
    sink: Sink<'_>,
    series: &str,
    points: &[(Timestamp, f64)],
) -> Result<(), StorageError> {
    check_name(TABLE, series)?;
    let mut table = sink.edit(SERIES)?;
    for (at, value) in points {
        table.insert((series, at.as_nanosecond()), value)?;
    }
    Ok(())
}

/// Deletes the points before a time; returns how many.
pub(crate) fn trim(sink: Sink<'_>, series: &str, before: Timestamp) -> Result<u64, StorageError> {
    sink.edit(SERIES)?.remove_range((series, i128::MIN)..(series, before.as_nanosecond()))
}
