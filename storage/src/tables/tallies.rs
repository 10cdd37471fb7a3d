//! Tallies by day: how often something ended which way, for objectives over a month, which outlive the records
//! that were counted.

use std::collections::BTreeMap;

use crate::error::StorageError;
use crate::record::check_name;
use crate::schema::TALLIES;
use crate::view::{Sink, Source};

/// Days since 1970 in UTC.
pub type Day = u32;

/// So many days are kept, today included: a month can be looked back at until the next one is over.
pub const TALLIED_DAYS: Day = 62;

/// Reads tallies.
#[derive(Clone, Copy)]
pub struct Tallies<'t> {
    source: Source<'t>,
}

impl<'t> Tallies<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The sum of each tally over the days from `first` to `last`, both included.
    pub fn sums(&self, first: Day, last: Day) -> Result<BTreeMap<String, u64>, StorageError> {
        let view = self.source.view(TALLIES)?;
        let mut sums = BTreeMap::new();
        for row in view.range((first, "")..(last.saturating_add(1), ""))? {
            let (key, value) = row?;
            let sum: &mut u64 = sums.entry(key.value().1.to_owned()).or_default();
            *sum = sum.saturating_add(value.value());
        }
        Ok(sums)
    }
}

/// Writes tallies.
#[derive(Clone, Copy)]
pub struct TalliesWriting<'t> {
    sink: Sink<'t>,
}

impl<'t> TalliesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { sink }
    }

    /// Counts one more of `tally`, such as "remediation/succeeded", on a day. Days that are too old go.
    pub fn count(&self, day: Day, tally: &str) -> Result<(), StorageError> {
        check_name("tallies", tally)?;
        let mut table = self.sink.edit(TALLIES)?;
        let known = table.get((day, tally))?.map_or(0, |value| value.value());
        table.insert((day, tally), known.saturating_add(1))?;
        table.remove_range((0, "")..(day.saturating_sub(TALLIED_DAYS - 1), "")).map(drop)
    }
}
